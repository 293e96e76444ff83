"""A job and its workers in lines of plain text."""

from queue_app.coordination.states import JobState, Trouble
from queue_app.shown import visible
from queue_app.status.job_snapshot import JobSnapshot, WorkerView
from queue_app.wording import count, duration, percent, rate

TEXT_MOST = 1_000
"""Letters of an error, in a line of ours."""
UNATTENDED = "no worker is at work on it"


def progress_line(now: JobSnapshot) -> str:
    """`running  1,204/3,652 sequences (33%), 10/32 shards, 210 seq/s, 12 s left`."""
    settled = now.done + now.quarantined
    share = percent(settled / now.total if now.total else 1.0)
    shards = f"{now.shards.get('done', 0):,}/{now.num_shards:,} shards"
    parts = [f"{now.state}  {settled:,}/{now.total:,} sequences ({share})", shards]
    if rates := _rate_text(now):
        parts.append(rates)
    return ", ".join(parts)


def _rate_text(now: JobSnapshot) -> str:
    if not now.rate:
        return ""
    left = "" if now.eta_seconds is None else f", {duration(now.eta_seconds)} left"
    return f"{rate(now.rate)} seq/s{left}"


def describe(now: JobSnapshot) -> str:
    """Several lines about one job, for `status`."""
    lines = [f"job {now.job}: {progress_line(now)}"]
    if now.quarantined:
        lines.append(f"  {now.quarantined:,} quarantined")
    if now.trouble and not now.ended:
        lines.append(f"  tried again: {visible(now.trouble, TEXT_MOST)}")
    if now.reason:
        lines.append(f"  {visible(now.reason, TEXT_MOST)}")
    if now.one_kind:
        lines.append(f"  one kind: {visible(now.one_kind)}")
    counts = ", ".join(f"{number} {state}" for state, number in now.shards.items() if number)
    lines.append(f"  shards: {counts}")
    if not now.ended:
        lines += [f"  {worker_line(worker, now)}" for worker in now.workers] or [f"  {unattended(now)}"]
    elif now.remedy:
        lines.append(f"  {now.remedy}")
    return "\n".join(lines)


def unattended(now: JobSnapshot) -> str:
    """What there is to say of a job that no worker works on."""
    return f"{UNATTENDED}; {now.remedy}" if now.remedy else UNATTENDED


def without_shard(now: JobSnapshot) -> str:
    """What a worker that holds no shard does: as long as some wait, it loads the model or fetches one."""
    waits = now.state is JobState.RUNNING and now.shards.get("pending")
    return "getting ready" if waits else "idle"


def trouble_text(trouble: Trouble) -> str:
    """`cannot begin: /models/esm2: no such model (tried 3 times in 4.1 s)`."""
    seconds = duration(max(0.0, trouble.seen - trouble.since))
    why = visible(trouble.text, TEXT_MOST)
    return f"cannot begin: {why} (tried {count(trouble.times, 'time')} in {seconds})"


def worker_line(worker: WorkerView, now: JobSnapshot) -> str:
    """`gpu0@host (cuda:0, pid 712): shard 3, 45/114, 105 seq/s, 7,800 tokens/s, packed 98%, wait 1%`."""
    parts = [f"{visible(worker.name)} ({visible(worker.device)}, pid {worker.pid}): "]
    if worker.trouble is not None:
        return parts[0] + trouble_text(worker.trouble)
    if worker.shard is None:
        return parts[0] + without_shard(now)
    said = [f"shard {worker.shard}", f"{worker.shard_done:,}/{worker.shard_total:,}"]
    if figures := worker.figures:
        said.append(f"{rate(figures.sequences_per_second)} seq/s")
        said.append(f"{rate(figures.tokens_per_second)} tokens/s")
        shares = {"packed": figures.fill, "wait": figures.wait_share, "GPU": figures.gpu_share}
        said += [f"{name} {percent(share)}" for name, share in shares.items() if share is not None]
    return parts[0] + ", ".join(said)

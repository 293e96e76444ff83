"""What the gate before messages and the fleet's key cost a job of many shards.

    python -m benchmarks.signing [--shards N] [--rounds N] [--report FILE.md]

Jobs without and with a key take turns on a server and a worker of their own; each shard is one record of the
mock model, so that nothing but the protocol takes time. Beside it the gate alone: a real message is judged,
rebuilt, signed and compared in this process. Seconds are the processor's.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.common.checkout import command_line
from benchmarks.common.tables import as_markdown, table_with
from queue_app.celery_app import EMBED_SHARD, OwnApp, make_app
from queue_app.coordination.trust.key_file import write_key_file
from queue_app.coordination.trust.message_gate import SIGNED_AS, Message, MessageGate, signed_parts
from queue_app.coordination.trust.signing import read_key_file
from tests.campaigns.bad_server.harness import Stage, stage
from tests.support.command_runs import holdfast
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

JOB_ID = "0123456789ab-01234567"
QUEUE = "nobody"
CALLS = 20_000
JOB_SECONDS_MOST = 3_600.0
TICKS = os.sysconf("SC_CLK_TCK")
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-signing-") as scratch:
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(chosen.rounds):
            for with_key in (False, True):
                folder = Path(scratch) / f"{number}-{with_key}"
                seconds[with_key].append(seconds_a_shard(folder, chosen.shards, with_key))
        gate = seconds_of_the_gate(Path(scratch))
    table = table_with(f"A job of {chosen.shards:,} shards", "", "µs of a processor a shard", "% of a shard")
    whole = median(seconds[False])
    rows = {"the job without a key": whole, "the job with a key": median(seconds[True]), **gate}
    for name, each in rows.items():
        table.add_row(name, f"{each * 1e6:,.0f}", f"{100 * each / whole:.2f}")
    console.print(table)
    if chosen.report:
        chosen.report.write_text(f"# The gate and the key\n\n`{command_line()}`\n\n{as_markdown(table)}")


def seconds_a_shard(folder: Path, num_shards: int, with_key: bool) -> float:
    """Of the two processes of the worker, from the submitted job to its output."""
    with stage(folder, with_key=with_key) as made:
        fasta, output = write_fasta(folder / "many.fasta", num_shards), folder / "many.npy"
        options = ("-m", "mock:8", "--shards", num_shards, "--queues", made.queues[0])
        begun = _processor_seconds(made)
        holdfast("enqueue", fasta, "-o", output, *options, **made.env)
        written = output.with_name(f"{output.name}.card.json")
        wait_for(written.exists, "the job", seconds=JOB_SECONDS_MOST)
        return (_processor_seconds(made) - begun) / num_shards


def _processor_seconds(made: Stage) -> float:
    [worker] = made.workers
    return sum(_ticks_of(int(str(worker[part]))) for part in ("pid", "child_pid")) / TICKS


def _ticks_of(pid: int) -> int:
    """Those in user and in kernel mode: fields 14 and 15 of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def seconds_of_the_gate(folder: Path) -> dict[str, float]:
    """Of one message each, by what is done with it."""
    write_key_file(folder / "fleet.key")
    keys = read_key_file(folder / "fleet.key")
    with stage(folder / "message") as made:
        app = make_app(made.url)
        assert isinstance(app, OwnApp)
        app.send_task(EMBED_SHARD, args=[JOB_ID, 7], queue=QUEUE)
        raw = str(made.client.rpop(QUEUE))
    open_gate = MessageGate(None)
    message = open_gate.judge(raw, QUEUE)
    assert isinstance(message, Message)
    parts = signed_parts(message.task, message.arguments, QUEUE, message.id, message.sent_at or 0.0)
    signature = keys.sign(SIGNED_AS, *parts)
    return {
        "the gate: judge and rebuild": _seconds(lambda: open_gate.judge(raw, QUEUE).rebuilt(QUEUE)),
        "the key: sign and compare": _seconds(lambda: keys.sign(SIGNED_AS, *parts))
        + _seconds(lambda: keys.accepts(signature, SIGNED_AS, *parts)),
    }


def _seconds(call: Callable[[], object]) -> float:
    begun = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - begun) / CALLS


if __name__ == "__main__":
    main()

"""Take the guards away one at a time, and see that the tests notice.

    python -m benchmarks.mutants [NAME ...]

Each mutant is a copy of the checkout with one guard removed; the tests named with it must fail there, and
pass where nothing was removed. A NAME chooses the mutants that have it in their guard or file.
Exit code 1: nobody noticed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.common.checkout import ROOT

COPIED = (
    "checkpoint", "holdfast", "queue_app", "gpu_tasks", "tests", "examples", "pyproject.toml", "README.md",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """`before` stands once in `file`; `after` takes its place. `tests` is what pytest is given."""

    guard: str
    file: str
    before: str
    after: str
    tests: str

    def remove_guard(self, checkout: Path) -> None:
        """Raises ValueError when the guard does not stand there once."""
        path = checkout / self.file
        source = path.read_text()
        if source.count(self.before) != 1:
            raise ValueError(f"{self.guard}: {self.file} does not hold it once: {self.before!r}")
        path.write_text(source.replace(self.before, self.after))


MUTANTS = (
    Mutant(
        "fence", "checkpoint/store.py", "if token < floor:", "if False:", "tests/checkpoint/test_store.py"
    ),
    Mutant(
        "look before evicting",
        "checkpoint/store.py",
        "if owner is not None and owner.token > token:",
        "if False:",
        "tests/checkpoint/test_store.py",
    ),
    Mutant(
        "floor",
        "queue_app/coordination/manifest.lua",
        "math.max(shard.token, number(name, 'epoch'), tonumber(floor)) + 1",
        "math.max(shard.token, number(name, 'epoch')) + 1",
        "tests/queue_app/coordination/test_manifest.py",
    ),
    Mutant(
        "tokens begin at the time",
        "queue_app/coordination/manifest.lua",
        "time * 1000))",
        "0))",
        "tests/queue_app/coordination/test_manifest.py",
    ),
    Mutant(
        "checksum",
        "checkpoint/block.py",
        "    if not sound:\n",
        "    if False:\n",
        "tests/checkpoint/test_block.py",
    ),
    Mutant(
        "seal",
        "checkpoint/schema.py",
        "    if seal(key, content) != value:\n",
        "    if False:\n",
        "tests/checkpoint/test_schema.py",
    ),
    Mutant(
        "pages are checked before the first write",
        "checkpoint/store.py",
        "        self.check()  #",
        "        #",
        "tests/checkpoint/test_lmdb_pages.py -k nothing_is_written",
    ),
    Mutant(
        "damage leaves a doubt",
        "checkpoint/store.py",
        "        if isinstance(error, DAMAGE):\n            return\n",
        "",
        "tests/checkpoint/test_verify.py",
    ),
    Mutant(
        "a newer store is not damage",
        "checkpoint/store.py",
        "    if report.newer:\n",
        "    if False:\n",
        "tests/checkpoint/test_format.py",
    ),
    Mutant(
        "the map moves under no reader",
        "checkpoint/lmdb_environment.py",
        "                self._changed.wait_for(lambda: not self._inside)\n",
        "",
        "tests/checkpoint/test_lmdb_environment.py",
    ),
    Mutant(
        "no store on a network file system",
        "checkpoint/network_filesystems.py",
        "mount.type in NETWORK_FILE_SYSTEMS:",
        "False:",
        "tests/checkpoint/test_network_filesystems.py",
    ),
    Mutant(
        "count check",
        "queue_app/coordination/manifest.lua",
        "if tonumber(sequences) + tonumber(quarantined) ~= shard.num_records then",
        "if false then",
        "tests/queue_app/coordination/test_manifest.py",
    ),
    Mutant(
        "attempt limit",
        "queue_app/coordination/manifest.lua",
        "if shard.attempts < tonumber(attempt_limit) then return nil end",
        "if true then return nil end",
        "tests/queue_app/coordination/test_manifest.py",
    ),
    Mutant(
        "new commits alone are progress",
        "queue_app/coordination/shards.lua",
        "if tonumber(batches) > shard.batches then",
        "if true then",
        "tests/queue_app/coordination/test_manifest.py",
    ),
    Mutant(
        "lease expiry",
        "queue_app/worker/leases.py",
        "if silent < self.lease_seconds:",
        "if True:",
        "tests/queue_app/worker/test_reconciler.py",
    ),
    Mutant(
        "rebuild",
        "queue_app/worker/reconciler.py",
        "if queues and self._may_act(name):",
        "if False:",
        "tests/whole/test_end_to_end.py -k forgot",
    ),
    Mutant(
        "own jobs only",
        "queue_app/worker/forgotten_jobs.py",
        "return fleet in self.fleet.ids",
        "return True",
        "tests/queue_app/worker/test_forgotten_jobs.py",
    ),
    Mutant(
        "a fleet outlives its server's data",
        "queue_app/coordination/fleet.py",
        "{known or secrets.token_hex(8)}",
        "{secrets.token_hex(8)}",
        "tests/queue_app/coordination/test_fleet.py",
    ),
    Mutant(
        "a fleet's former ids",
        "queue_app/coordination/fleet.py",
        "self.client.sadd(keys.FORMER_FLEETS, *missing)",
        "pass",
        "tests/queue_app/coordination/test_fleet.py",
    ),
    Mutant(
        "lost data is noticed by all",
        "queue_app/coordination/fleet.py",
        "{secrets.token_hex(4)}",
        "0",
        "tests/queue_app/coordination/test_fleet.py",
    ),
    Mutant(
        "a server that was away may have forgotten",
        "queue_app/worker/reconciler.py",
        "self.forgotten.fleet.doubt()",
        "pass",
        "tests/queue_app/worker/test_reconciler.py",
    ),
    Mutant(
        "jobs are remembered",
        "gpu_tasks/shard/getting_ready.py",
        "remember_job(directory, job.job_id)",
        "pass",
        "tests/whole/test_fleets.py -k anew",
    ),
    Mutant(
        "a living witness",
        "checkpoint/crash_log.py",
        "return self._note.parent is not None and",
        "return True or",
        "tests/checkpoint/test_crash_log.py",
    ),
    Mutant(
        "damage is looked for before publishing",
        "gpu_tasks/shard/publish.py",
        "            if len(sound) == len(blocks):\n",
        "            if True:\n",
        "tests/gpu_tasks/shard/test_shard_run.py",
    ),
    Mutant(
        "results are held against their digest",
        "queue_app/job/done_records.py",
        "return path if has_digest(path, record.digest) else None",
        "return path if path.is_file() else None",
        "tests/queue_app/outputs/test_export.py",
    ),
    Mutant(
        "records read = embedded + quarantined",
        "queue_app/outputs/content.py",
        "if record.num_embedded + len(record.quarantine) != shard.num_records:",
        "if False:",
        "tests/queue_app/outputs/test_export.py",
    ),
    Mutant(
        "a fork waits for the reconciler",
        "queue_app/worker/parent_loop.py",
        "    before=reconciling.acquire,",
        "    before=lambda: reconciling.acquire(blocking=False),",
        "tests/queue_app/worker/test_device_worker.py",
    ),
    Mutant(
        "a child stopped between shards is ended",
        "queue_app/worker/child_state.py",
        " and not _was_stopped(pid)",
        "",
        "tests/queue_app/worker/test_child_state.py",
    ),
    Mutant(
        "a shard that was taken back goes first",
        "queue_app/coordination/shards.lua",
        "first and index - FIRST or index",
        "index",
        "tests/queue_app/coordination/test_dealing.py",
    ),
    Mutant(
        "a message under way is not sent twice",
        "queue_app/coordination/dealing.lua",
        "if still_waits or math.abs(time - at) < SOON_SECONDS then return nil end",
        "",
        "tests/queue_app/coordination/test_dealing.py",
    ),
    Mutant(
        "what was dealt in vain is dealt again",
        "queue_app/coordination/dealing.lua",
        "  return dealt_in_vain(worker, kind, host, time)",
        "  return nil",
        "tests/queue_app/coordination/test_dealing.py",
    ),
    Mutant(
        "what was dealt to a worker that has gone goes back",
        "queue_app/coordination/dealing.lua",
        "  if job then take_back(worker, job, index) end\n  local owner",
        "  local owner",
        "tests/queue_app/coordination/test_dealing.py",
    ),
    Mutant(
        "a slow worker leaves what others end sooner",
        "queue_app/coordination/dealing.lua",
        "return others > 0 and cost / pace > (left - cost) / others + cost / pace_of_one",
        "return false",
        "tests/queue_app/coordination/test_dealing.py",
    ),
    Mutant(
        "attempts on one host alone give up no shard",
        "queue_app/coordination/manifest.lua",
        "    elseif others then",
        "    elseif false then",
        "tests/queue_app/coordination/test_dealing.py",
    ),
    Mutant(
        "dead observers are passed over",
        "queue_app/coordination/dealing.lua",
        "elseif silent < PATIENCE_SECONDS then",
        "else",
        "tests/queue_app/coordination/test_dealing.py",
    ),
    Mutant(
        "no more workers than allowed",
        "queue_app/coordination/shards.lua",
        "and has_room and",
        "and",
        "tests/queue_app/coordination/test_dealing.py",
    ),
    Mutant(
        "a forked child is refused",
        "checkpoint/lmdb_environment.py",
        "return os.getpid() != self._pid",
        "return False",
        "tests/checkpoint/test_lmdb_environment.py",
    ),
    Mutant(
        "a short write is a full disk",
        "checkpoint/lmdb_environment.py",
        "if code in DISK_FULL or (code == errno.EIO and shutil.disk_usage(path).free < num_bytes):",
        "if code in DISK_FULL:",
        "tests/checkpoint/test_store.py -k full_disk",
    ),
    Mutant(
        "room is looked for before it is needed",
        "queue_app/job/disk_space.py",
        "if not room.is_enough:",
        "if False:",
        "tests/queue_app/job/test_disk_space.py",
    ),
    Mutant(
        "fsync of a commit",
        "checkpoint/lmdb_environment.py",
        " sync=True,\n                metasync=True,",
        " sync=False,\n                metasync=True,",
        "tests/checkpoint/test_power_loss.py -k acknowledged",
    ),
    Mutant(
        "fsync of a commit's meta page",
        "checkpoint/lmdb_environment.py",
        "metasync=True,",
        "metasync=False,",
        "tests/checkpoint/test_power_loss.py -k acknowledged",
    ),
    Mutant(
        "fsync of a store's names",
        "checkpoint/store_files.py",
        "os.close(descriptor)\n            sync_directory(self.path)",
        "os.close(descriptor)",
        "tests/checkpoint/test_power_loss.py -k acknowledged",
    ),
    Mutant(
        "fsync of a result",
        "queue_app/job/result_files.py",
        "    sync_file(path)\n",
        "",
        "tests/checkpoint/test_power_loss.py -k whole_one",
    ),
    Mutant(
        "fsync of a published name",
        "queue_app/host/durable_files.py",
        "    sync_directory(path.parent)\n",
        "",
        "tests/checkpoint/test_power_loss.py -k whole_one",
    ),
    Mutant(
        "fsync of a done file",
        "queue_app/host/durable_files.py",
        "        os.fsync(file.fileno())\n",
        "",
        "tests/checkpoint/test_power_loss.py -k whole_one",
    ),
    Mutant(
        "fsync of a created name",
        "queue_app/host/durable_files.py",
        "        sync_directory(directory)\n",
        "",
        "tests/checkpoint/test_power_loss.py -k whole_one",
    ),
    Mutant(
        "a done record is created, never replaced",
        "queue_app/host/durable_files.py",
        "        os.link(temporary, path)\n",
        "        os.replace(temporary, path)\n",
        "tests/gpu_tasks/shard/test_publish_once.py",
    ),
    Mutant(
        "a done record is created without hard links too",
        "queue_app/host/durable_files.py",
        "descriptor = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)",
        "descriptor = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)",
        "tests/queue_app/job/test_done_records.py",
    ),
    Mutant(
        "a late holder adopts the record that counts",
        "gpu_tasks/shard/publish.py",
        "    return counting\n",
        "    return record\n",
        "tests/gpu_tasks/shard/test_publish_once.py",
    ),
    Mutant(
        "a late holder's store learns which result counts",
        "gpu_tasks/shard/publish.py",
        "        store.set_done(counting, token=lease.token)\n",
        "",
        "tests/gpu_tasks/shard/test_publish_once.py",
    ),
    Mutant(
        "a shard is reopened as it was seen",
        "queue_app/job/done_records.py",
        "job_dir.reopened(shard.index, seen.number + 1)",
        "job_dir.reopened(shard.index, current_generation(job_dir, shard).number + 1)",
        "tests/queue_app/job/test_done_records.py",
    ),
    Mutant(
        "a zombie publishes in its own generation",
        "queue_app/job/done_records.py",
        "job_dir.done(shard.index, record.generation), record.encode()",
        "job_dir.done(shard.index, current_generation(job_dir, shard).number), record.encode()",
        "tests/gpu_tasks/shard/test_publish_once.py",
    ),
    Mutant(
        "a store's record is good for its generation",
        "gpu_tasks/shard/publish.py",
        "if record.generation == seen.number and",
        "if",
        "tests/gpu_tasks/shard/test_publish_once.py",
    ),
    Mutant(
        "a done record of a replaced job",
        "queue_app/job/done_records.py",
        "record if is_ours else None",
        "record",
        "tests/queue_app/job/test_done_records.py",
    ),
    Mutant(
        "an export reads one set of records",
        "queue_app/outputs/content.py",
        "        if _all_done(self._job, self._job_dir) != [*self._done.values()]:\n",
        "        if False:\n",
        "tests/queue_app/outputs/test_export.py",
    ),
    Mutant(
        "an output is held against the records that count",
        "queue_app/outputs/export.py",
        'if card["output"]["results_digest"] == results_digest(done):',
        "if True:",
        "tests/queue_app/outputs/test_export.py",
    ),
    Mutant(
        "weights are those of the job",
        "gpu_tasks/models/files.py",
        "if self._hash.hexdigest() != self._expected.digest:",
        "if False:",
        "tests/gpu_tasks/models/test_files.py",
    ),
    Mutant(
        "quantized weights",
        "gpu_tasks/model_directory/encoder.py",
        'if config.get("quantization_config") is not None:',
        "if False:",
        "tests/gpu_tasks/model_directory/test_reader.py",
    ),
    Mutant(
        "keys that are not understood",
        "gpu_tasks/model_directory/sentence_modules.py",
        "if key not in known:",
        "if False:",
        "tests/gpu_tasks/model_directory/test_modules.py",
    ),
    Mutant(
        "a shard's row is checked",
        "queue_app/job/shard_table.py",
        "if _checksum(self.job_id, index, fields) != checksum:",
        "if False:",
        "tests/queue_app/job/test_shard_table.py",
    ),
    Mutant(
        "a row is of this job",
        "queue_app/job/shard_table.py",
        'f"{job_id} {index} ".encode() + fields',
        'f"{index} ".encode() + fields',
        "tests/queue_app/job/test_shard_table.py",
    ),
    Mutant(
        "the table of shards is checked",
        "queue_app/job/shard_table.py",
        "if xxhash.xxh3_128_hexdigest(content) != self.digest:",
        "if False:",
        "tests/queue_app/job/test_shard_table.py",
    ),
    Mutant(
        "another job in a directory is seen",
        "queue_app/job/directory.py",
        "if known is not None and known[0] == stamp:",
        "if known is not None:",
        "tests/queue_app/job/test_directory.py",
    ),
    Mutant(
        "a job.json of just now is read again",
        "queue_app/job/directory.py",
        "if stamp.is_settled():",
        "if True:",
        "tests/queue_app/job/test_directory.py",
    ),
    Mutant(
        "shards are durable before job.json",
        "queue_app/host/durable_files.py",
        "        for descriptor in descriptors:\n            os.fsync(descriptor)\n",
        "",
        "tests/queue_app/ingest/test_cut_shards.py",
    ),
    Mutant(
        "the names of shards are durable",
        "queue_app/host/durable_files.py",
        "            sync_directory(self._directory)\n",
        "            pass\n",
        "tests/queue_app/ingest/test_cut_shards.py",
    ),
    Mutant(
        "the last shards taper",
        "queue_app/ingest/cut_shards.py",
        "smallest ** (",
        "1.0 ** (",
        "tests/queue_app/ingest/test_short_tail.py",
    ),
    Mutant(
        "mostly unknown",
        "queue_app/job/quarantine_reasons.py",
        "return 2 * num_unknown > num_tokens",
        "return False",
        "tests/queue_app/ingest/test_first_look.py",
    ),
    Mutant(
        "different sequences with one vector",
        "gpu_tasks/shard/publish.py",
        "if shared := sharing_one_vector(embeddings, offsets):",
        "if shared := False:",
        "tests/whole/test_guards.py -k vector",
    ),
    Mutant(
        "a card of what was there before",
        "queue_app/job/output_place.py",
        " and _name(job_dir, output) not in _claims(job_dir):",
        ":",
        "tests/queue_app/outputs/test_killed_export.py",
    ),
    Mutant(
        "a card of a later schema",
        "queue_app/job/output_place.py",
        'if card and card["schema"] > CARD_SCHEMA:',
        "if False:",
        "tests/queue_app/job/test_output_place.py",
    ),
    Mutant(
        "a hub id of other shapes",
        "queue_app/outputs/run_card/model_name.py",
        " if row and row.has_shape_of(model) else None",
        " if row else None",
        "tests/queue_app/outputs/run_card/test_model_name.py",
    ),
    Mutant(
        "a foreign output",
        "queue_app/job/output_place.py",
        "    if _holds_anything(output):",
        "    if False:",
        "tests/queue_app/job/test_output_ownership.py",
    ),
    Mutant(
        "a device, not a number",
        "queue_app/worker/device_claim.py",
        'self.hardware.replace("/", ".") or ',
        "",
        "tests/queue_app/worker/test_device_claim.py",
    ),
    Mutant(
        "one name on a host",
        "queue_app/worker/device_claim.py",
        "if not own_number or not self._is_first_here(name):",
        "if not own_number:",
        "tests/queue_app/worker/test_device_claim.py",
    ),
    Mutant(
        "one name among hosts",
        "queue_app/worker/device_claim.py",
        "if self._is_of_another_host(name):",
        "if False:",
        "tests/queue_app/worker/test_device_claim.py",
    ),
    Mutant(
        "a drain is for who had the name",
        "queue_app/coordination/dealing.lua",
        "  forget_older_drain(worker, entry)\n",
        "",
        "tests/queue_app/worker/test_own_end.py",
    ),
    Mutant(
        "idle only where nothing waits",
        "queue_app/worker/own_end.py",
        "if has_work(client, entry.kind):",
        "if False:",
        "tests/queue_app/worker/test_own_end.py",
    ),
    Mutant(
        "who ended in order stays ended",
        "queue_app/worker/supervisor.py",
        "if worker.process.returncode == 0:",
        "if False:",
        "tests/whole/test_workers_that_leave.py -k host_are_drained",
    ),
    Mutant(
        "threads of a job that is there",
        "queue_app/api/cpu_threads.py",
        "if asked not in (None, job.threads):",
        "if False:",
        "tests/queue_app/api/test_cpu_threads.py",
    ),
    Mutant(
        "the deepest window",
        "gpu_tasks/inference/segments.py",
        "(starts[:-1] + starts[1:] + window + 1) // 2",
        "starts[1:]",
        "tests/gpu_tasks/inference/test_long_sequences.py",
    ),
    Mutant(
        "one kind computes a job",
        "gpu_tasks/shard/kind.py",
        "    if fixed != ours:",
        "    if False:",
        "tests/gpu_tasks/shard/test_kind.py",
    ),
    Mutant(
        "the kind is fixed before it computes",
        "gpu_tasks/shard/acquire.py",
        "if isinstance(answer, Lease) and job.run.one_kind:",
        "if False:",
        "tests/gpu_tasks/shard/test_kind.py",
    ),
    Mutant(
        "another kind gives the shard back",
        "gpu_tasks/shard/acquire.py",
        'manifest.release(lease, "not begun", counts=False)',
        "pass",
        "tests/gpu_tasks/shard/test_kind.py",
    ),
    Mutant(
        "copied vectors fix the kind",
        "queue_app/ingest/prepare.py",
        "if kind is not None:",
        "if False:",
        "tests/gpu_tasks/shard/test_kind.py",
    ),
    Mutant(
        "a store remembers every kind",
        "checkpoint/store.py",
        "if kinds != known:",
        "if not known:",
        "tests/gpu_tasks/shard/test_kind.py",
    ),
    Mutant(
        "mixed kinds are told",
        "queue_app/outputs/kinds.py",
        "if len(kinds) < 2:",
        "if True:",
        "tests/queue_app/outputs/test_kinds.py",
    ),
    Mutant(
        "a host's failure spends no attempt",
        "gpu_tasks/shard/trouble/whose_failure.py",
        "    return Whose.HOST if is_hosts else Whose.SHARD\n",
        "    return Whose.SHARD\n",
        "tests/gpu_tasks/shard/trouble/test_worker_trouble.py -k costs_the_shard_nothing",
    ),
    Mutant(
        "trouble is known before the shard is free",
        "gpu_tasks/shard/attempt_end.py",
        "    insist(lambda: note_trouble(manifest, index, error, at_work=True))\n",
        "",
        "tests/gpu_tasks/shard/trouble/test_worker_trouble.py -k before_the_shard_is_free",
    ),
    Mutant(
        "who rests begins nothing",
        "gpu_tasks/shard/getting_ready.py",
        "        if is_resting(self.manifest, trouble):\n",
        "        if False:\n",
        "tests/gpu_tasks/shard/trouble/test_worker_trouble.py -k gives_the_shard_to_others",
    ),
    Mutant(
        "a directory that is not seen was not replaced",
        "gpu_tasks/shard/getting_ready.py",
        "    directory = places.find(manifest.job_id, status.job_dir)\n",
        "    directory = places.find_or_none(manifest.job_id, status.job_dir)\n"
        "    if directory is None:\n        return None\n",
        "tests/gpu_tasks/shard/trouble/test_worker_trouble.py -k does_not_see",
    ),
    Mutant(
        "trouble at work ends with a shard that is done",
        "gpu_tasks/shard/getting_ready.py",
        "        if trouble is not None and not trouble.at_work:\n",
        "        if trouble is not None:\n",
        "tests/gpu_tasks/shard/trouble/test_worker_trouble.py -k trouble_at_work",
    ),
    Mutant(
        "what was dealt to another stays there",
        "gpu_tasks/shard/trouble/worker_trouble.py",
        "    if shard is not None and shard.worker in own:",
        "    if shard is not None:",
        "tests/gpu_tasks/shard/trouble/test_worker_trouble.py -k stays_with_it",
    ),
    Mutant(
        "a host that fails accuses no record",
        "gpu_tasks/shard/guarded_run.py",
        "                if whose(error) is Whose.HOST and fault_of(error) is not Fault.LOST:\n",
        "                if False:\n",
        "tests/gpu_tasks/shard/trouble/test_worker_trouble.py -k accuses_no_record",
    ),
    Mutant(
        "who is left alone looks again soon",
        "queue_app/coordination/trouble.py",
        "        sooner = replace(trouble, retry_at=trouble.seen + self.pauses.alone)\n",
        "        sooner = trouble\n",
        "tests/queue_app/coordination/test_trouble.py -k left_alone",
    ),
    Mutant(
        "who rests leaves the queue to others",
        "queue_app/worker/rest.py",
        "        self.is_resting = self._clock() < until\n",
        "        self.is_resting = False\n",
        "tests/queue_app/worker/test_rest.py -k takes_nothing",
    ),
    Mutant(
        "room for the file of locks",
        "checkpoint/store.py",
        "        require_room(path)\n",
        "",
        "tests/checkpoint/test_store.py -k next_to_no_room",
    ),
    Mutant(
        "a message is signed",
        "queue_app/coordination/trust/message_gate.py",
        "if not keys.accepts(message.signature, SIGNED_AS, *parts):",
        "if False:",
        "tests/queue_app/coordination/trust/test_message_gate.py -k sign",
    ),
    Mutant(
        "a message is done once",
        "queue_app/coordination/trust/message_gate.py",
        "if message.id in self._done:",
        "if False:",
        "tests/queue_app/coordination/trust/test_message_gate.py -k acknowledged",
    ),
    Mutant(
        "a message is small",
        "queue_app/coordination/trust/message_gate.py",
        "if len(raw) > RAW_BYTES_MOST:",
        "if False:",
        "tests/queue_app/coordination/trust/test_message_gate.py -k too_large",
    ),
    Mutant(
        "a lease is signed",
        "queue_app/worker/leases.py",
        "return is_signed_lease(self._ring, seen.job_id, seen.index, seen.owner, seen.token, seen.signature)",
        "return True",
        "tests/queue_app/coordination/trust/test_signed_entries.py -k unsigned_lease",
    ),
    Mutant(
        "what a script changes is looked at first",
        "queue_app/coordination/dealing.lua",
        "if not OF_ALL[operation] then require_sound(job) end",
        "",
        "tests/queue_app/coordination/test_sound.py -k count_that_is_none",
    ),
    Mutant(
        "no token from the far future",
        "queue_app/coordination/trust/values.py",
        "most=int((time.time() + AHEAD_SECONDS) * 1000)",
        "most=SUM_MOST",
        "tests/queue_app/coordination/trust/test_values.py -k far_future",
    ),
    Mutant(
        "no job out of the roots",
        "queue_app/coordination/trust/job_places.py",
        "return not self._roots and JobDir(place).fleet() in fleets",
        "return JobDir(place).fleet() in fleets",
        "tests/queue_app/coordination/trust/test_job_places.py -k out_of_them",
    ),
    Mutant(
        "a file of another user",
        "queue_app/host/own_files.py",
        "return found.st_uid == os.geteuid() and not",
        "return not",
        "tests/queue_app/host/test_own_files.py -k another_user",
    ),
    Mutant(
        "a server is verified",
        "queue_app/coordination/trust/server_tls.py",
        '{"ssl_cert_reqs": "required", "ssl_check_hostname": True, **files}',
        '{"ssl_cert_reqs": "none", "ssl_check_hostname": False, **files}',
        "tests/queue_app/coordination/trust/test_server_tls.py -k verified",
    ),
    Mutant(
        "no address turns the verification off",
        "queue_app/coordination/trust/server_tls.py",
        'if name in VERIFIED and value.lower().removeprefix("cert_") not in VERIFIED[name]:',
        "if False:",
        "tests/queue_app/coordination/trust/test_server_tls.py -k verify_less",
    ),
    Mutant(
        "a record that is too long is set aside",
        "queue_app/ingest/records.py",
        "return is_long or len(name) > limits.id",
        "return len(name) > limits.id",
        "tests/queue_app/ingest/readers/bounds/test_limits.py -k a_record_or_an_id",
    ),
    Mutant(
        "a record that is too long is not held in memory",
        "queue_app/ingest/readers/fasta.py",
        "if num_passed or num_letters > source.limits.most_letters(joined):",
        "if False:",
        "tests/queue_app/ingest/readers/bounds/test_limits.py -k record_that_is_too_long",
    ),
    Mutant(
        "nothing that a terminal obeys is shown",
        "queue_app/shown.py",
        '    shown = _escaped(text[:most], "")\n',
        "    shown = text[:most]\n",
        "tests/queue_app/test_shown.py",
    ),
    Mutant(
        "an id is shown in letters alone",
        "queue_app/ingest/first_look.py",
        "visible(record_id, ID_CHARACTERS)",
        "record_id",
        "tests/queue_app/ingest/test_first_look.py -k in_letters_alone",
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="part of a guard or of a file (default: all)"
    )
    names = parser.parse_args().names
    chosen = [
        each for each in MUTANTS if not names or any(name in f"{each.guard} {each.file}" for name in names)
    ]
    if not chosen:
        parser.error("no guard and no file has such a name")
    for tests in sorted({mutant.tests for mutant in chosen}):
        if failed := first_failure(tests):
            raise SystemExit(f"{tests}: {failed} fails though nothing was removed")
    table = Table("guard removed", "file", "noticed by")
    survivors = 0
    for mutant in chosen:
        noticed = first_failure(mutant.tests, mutant)
        survivors += noticed is None
        table.add_row(mutant.guard, mutant.file, noticed or "[bold red]nobody[/]")
    Console(highlight=False, width=140).print(table)
    return 1 if survivors else 0


def first_failure(tests: str, mutant: Mutant | None = None) -> str | None:
    """The name of the first test that fails, without the mutant's guard; None when all pass."""
    with tempfile.TemporaryDirectory(prefix="holdfast-mutant-") as scratch:
        copy = Path(scratch)
        for name in COPIED:
            copy_one = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy_one(ROOT / name, copy / name)
        if mutant:
            mutant.remove_guard(copy)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
        env = {**os.environ, "PYTHONPATH": str(copy)}
        ended = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True)
    failed = [
        line for line in ended.stdout.splitlines() if line.startswith(("FAILED tests/", "ERROR tests/"))
    ]
    return failed[0].split("::")[-1].split(" - ")[0] if failed else None


if __name__ == "__main__":
    sys.exit(main())

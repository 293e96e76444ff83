"""Strangers write odd values under a living fleet's keys: real workers, and a canary job that comes home.

`python -m tests.campaigns.bad_server --values 292` writes more of them.
"""

import random
import subprocess
from pathlib import Path

import pytest

from queue_app.coordination import keys
from queue_app.coordination.manifest import known_jobs
from queue_app.coordination.trust.signed_entries import UNSIGNED
from tests.campaigns.bad_server.harness import stage
from tests.campaigns.bad_server.values import strike
from tests.support.command_runs import HOLDFAST, environment
from tests.support.hostile_values import WRONG
from tests.support.waiting import wait_for


@pytest.mark.parametrize("with_key", [False, True])
def test_odd_values_stop_no_worker_and_end_no_view(tmp_path: Path, with_key: bool) -> None:
    with stage(tmp_path, num_workers=2, with_key=with_key) as made:
        report = strike(made, 30, random.Random(f"odd {with_key}"), every=15)
        assert report.broken == []
        assert made.replaced() == [], "no process ended for it"


def test_every_command_answers_in_a_line_where_the_server_holds_garbage(tmp_path: Path) -> None:
    with stage(tmp_path) as made:
        made.canary()
        (job_id,) = known_jobs(made.client)
        for name in (keys.job(job_id), keys.WORKERS):
            made.client.delete(name)
            WRONG["list"](made.client, name)
            for command in ("status --json", f"pause {job_id}"):
                run = [*HOLDFAST, *command.split()]
                ended = subprocess.run(run, capture_output=True, text=True, env=environment(**made.env))
                assert "Traceback" not in ended.stderr
                assert ended.returncode in (0, 1, 2)
        made.canary()


def test_a_job_that_nobody_with_the_key_made_known_waits_until_somebody_with_it_has(tmp_path: Path) -> None:
    with stage(tmp_path, with_key=True) as made:
        made.env = {name: value for name, value in made.env.items() if name != "HOLDFAST_KEY_FILE"}
        output = made.start_canary()
        wait_for(output.exists, "the job, once a worker has made it known from its directory")
        assert f"signature: {UNSIGNED}" in made.log()

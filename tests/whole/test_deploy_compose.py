"""docker-compose.yml: what it promises, and that each service's own command comes up.

No Docker engine is needed: the services run as plain processes, with their own commands and variables.
What is replaced is what a container would provide: the port, host names, and the GPU (cpu0 for gpu0).
"""

import ast
import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import yaml

from queue_app.coordination.embedded_server import VALUE_BYTES_MOST
from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.coordination.workers import WorkerEntry, live_workers
from queue_app.host.processes import spawn, stop
from queue_app.host.queues import Queue
from queue_app.job.directory import JobDir
from queue_app.settings import RuntimeConfig
from queue_app.worker.metrics.ports import port_of
from tests.support import ROOT
from tests.support.free_ports import free_ports
from tests.support.redis_servers import PASSWORDS, known_users, programs_with_users
from tests.support.waiting import wait_for

SCRIPTS = Path(sys.executable).parent
LOGINS = {"flower_login": "s3cretOfFlower", "grafana_login": "s3cretOfGrafana"}
NEEDED = {
    "redis": set(PASSWORDS), "gpu0": {"worker"}, "gpu1": {"worker"}, "flower": {"flower", "flower_login"},
    "grafana": {"grafana_login"}, "producer": {"producer"}, "operator": {"operator"},
}  # fmt: skip
"""Service -> the passwords that it may see."""

OWN_DATA = {"prometheus": "/prometheus", "grafana": "/var/lib/grafana"}


# ---- the file


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$`, as Compose does."""

    def replace(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        value = values.get(match["name"], "")
        if value:
            return value
        if match["operator"] == ":?":
            raise ValueError(f"{match['name']}: {match['word']}")
        return match["word"] or ""

    pattern = r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<word>[^}]*))?\})"
    return re.sub(pattern, replace, text)


def load(values: Mapping[str, str]) -> dict[str, Any]:
    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: resolve(value) for key, value in node.items()}
        if isinstance(node, list):
            return [resolve(value) for value in node]
        return interpolate(node, values) if isinstance(node, str) else node

    services = resolve(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))["services"]
    assert isinstance(services, dict)
    return services


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return load({})


def workers(services: Mapping[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if re.fullmatch(r"gpu\d+", name)}


def command_of(service: Mapping[str, Any]) -> list[str]:
    """Entry point and arguments; the entry point of our own image stands in the Dockerfile."""
    entrypoint = service.get("entrypoint") or (["holdfast"] if service["image"] == "holdfast" else [])
    return [*entrypoint, *service["command"]]


def as_user(role: str) -> list[str]:
    """What begins the command of a service that talks to the server."""
    return ["sh", "/holdfast/as_user.sh", role]


def whole_file() -> dict[str, Any]:
    found = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(found, dict)
    return found


def test_every_service_sees_the_passwords_that_it_needs_and_no_other(services: dict[str, Any]) -> None:
    seen = {name: set(service["secrets"]) for name, service in services.items() if "secrets" in service}
    assert seen == NEEDED
    made = re.findall(r"for name in ([\w ]+); do", (ROOT / ".env.example").read_text())
    assert set(made[0].split()) == set(whole_file()["secrets"]) == {*PASSWORDS, *LOGINS}


def test_no_password_stands_in_a_setting_or_an_argument(services: dict[str, Any]) -> None:
    """`docker inspect` and a process list show those."""
    for service in services.values():
        words = json.dumps(
            [service.get("environment", {}), service.get("command", []), service.get("entrypoint")]
        )
        assert not re.search(r"PASSWORD(?!__FILE)|requirepass|redis://", words)


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["tmpfs"] == ["/tmp"], name
        assert not {"privileged", "cap_add", "ipc", "userns_mode", "devices"} & set(service), name
        assert not [mount for mount in service.get("volumes", []) if "docker.sock" in mount], name


def test_the_workers_see_each_others_processes_and_none_of_the_host(services: dict[str, Any]) -> None:
    assert {service.get("pid") for service in workers(services).values()} == {"service:processes"}
    assert {name for name, service in services.items() if "pid" in service} == set(workers(services))
    assert services["processes"]["network_mode"] == "none"


def test_the_queue_is_in_a_network_without_a_way_out_that_the_watchers_are_not_in(
    services: dict[str, Any],
) -> None:
    assert whole_file()["networks"]["queue"] == {"internal": True}
    inside = {name for name, service in services.items() if "queue" in service.get("networks", [])}
    assert inside == {"redis", *workers(services), "flower", "producer", "operator"}
    assert services["redis"]["networks"] == ["queue"]
    assert services["prometheus"]["networks"] == services["grafana"]["networks"] == ["watch"]


def test_the_example_settings_name_every_variable() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    named = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == named


def test_the_image_runs_holdfast_and_not_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["holdfast"]' in lines
    assert [line for line in lines if line.startswith("USER ")] == ["USER holdfast"]


def test_every_gpu_has_one_worker_and_a_reservation_for_that_gpu(services: dict[str, Any]) -> None:
    found = workers(services)
    assert sorted(found) == [f"gpu{number}" for number in range(len(found))]
    assert found
    for number, (name, service) in enumerate(sorted(found.items())):
        assert command_of(service) == [*as_user("worker"), "celery", "-A", "queue_app", "worker", "-Q", name]
        assert service["deploy"]["resources"]["reservations"]["devices"] == [
            {"driver": "nvidia", "device_ids": [str(number)], "capabilities": ["gpu"]}
        ]


def test_every_worker_uses_the_one_gpu_that_its_container_sees(services: dict[str, Any]) -> None:
    for name, service in workers(services).items():
        granted = service["environment"]["CUDA_VISIBLE_DEVICES"]
        config = RuntimeConfig(CUDA_VISIBLE_DEVICES=granted)  # type: ignore[call-arg]
        assert Queue.parse(name).visible_device(config.visible_devices) == "0"


def test_a_worker_has_time_to_commit_before_it_is_killed(services: dict[str, Any]) -> None:
    for service in workers(services).values():
        assert service["stop_signal"] == "SIGTERM"
        assert service["stop_grace_period"] == "30s"
        assert RuntimeConfig().grace_seconds < 30


def test_every_worker_of_a_host_shares_its_job_directory(services: dict[str, Any]) -> None:
    mounts = [service["volumes"] for service in (*workers(services).values(), services["producer"])]
    assert all(volumes == mounts[0] for volumes in mounts)
    assert "./jobs:/jobs" in mounts[0]


def test_only_what_asks_for_a_password_is_reachable_and_from_this_host_alone(
    services: dict[str, Any],
) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert sorted(published) == ["flower", "grafana"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert (
        'FLOWER_BASIC_AUTH="holdfast:$(cat /run/secrets/flower_login)"' in command_of(services["flower"])[-1]
    )
    assert services["flower"]["environment"]["FLOWER_UNAUTHENTICATED_API"] == "false"
    login = services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"]
    assert login == "/run/secrets/grafana_login"
    assert services["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def test_what_only_watches_can_write_nothing_but_its_own_data(services: dict[str, Any]) -> None:
    for name in ("flower", "prometheus", "grafana"):
        written = [mount for mount in services[name]["volumes"] if not mount.endswith(":ro")]
        assert written == ([f"{name}:{OWN_DATA[name]}"] if name in OWN_DATA else [])


def test_every_image_that_is_not_ours_has_its_version(services: dict[str, Any]) -> None:
    others = {service["image"] for service in services.values()} - {"holdfast"}
    assert others
    assert all(re.search(r":v?\d+\.\d+", image) for image in others)


def test_what_is_mounted_from_the_checkout_is_there(services: dict[str, Any]) -> None:
    """Docker makes an empty directory of what is not."""
    mounted = [
        mount.split(":")[0]
        for service in services.values()
        for mount in service.get("volumes", [])
        if mount.startswith("./deploy")
    ]
    assert len(set(mounted)) == 6
    assert all((ROOT / path).exists() for path in mounted)


def test_prometheus_asks_every_worker_at_the_port_that_it_serves_at(services: dict[str, Any]) -> None:
    [scrape] = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
    config = RuntimeConfig(metrics_port=services["gpu0"]["environment"]["HOLDFAST_METRICS_PORT"])
    served = [f"{name}:{port_of(name, config)}" for name in sorted(workers(services))]
    assert [target for group in scrape["static_configs"] for target in group["targets"]] == served
    for service in workers(services).values():
        assert service["environment"]["HOLDFAST_METRICS_ADDRESS"] == "0.0.0.0"


def test_grafana_shows_the_dashboard_from_this_prometheus(services: dict[str, Any]) -> None:
    [source] = yaml.safe_load((ROOT / "deploy/grafana/datasource.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((ROOT / "deploy/grafana/dashboards.yml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    dashboard = json.loads((ROOT / "deploy/grafana/holdfast.json").read_text())
    asked = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert asked == {source["uid"]}
    inside = {mount.split(":")[0]: mount.split(":")[1] for mount in services["grafana"]["volumes"]}
    shown = inside["./deploy/grafana/holdfast.json"]
    assert str(Path(shown).parent) == provider["options"]["path"]
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == shown
    assert inside["./deploy/grafana/datasource.yml"].startswith("/etc/grafana/provisioning/datasources/")
    assert inside["./deploy/grafana/dashboards.yml"].startswith("/etc/grafana/provisioning/dashboards/")
    assert not provider["allowUiUpdates"]


def test_who_gives_orders_starts_on_demand_alone(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if service.get("profiles")] == ["producer", "operator"]


# ---- its services as processes


@cache
def metrics_port() -> int:
    return free_ports(0)[0]


@contextmanager
def running(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = spawn(command, log=log, env=env)
    try:
        yield process
    finally:
        stop(process, grace_seconds=30)


def up_or_log(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.poll() is None, log.read_text(errors="replace")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compose")


@pytest.fixture(scope="module")
def holdfast_dir(home: Path) -> Path:
    """/holdfast of the containers, and /run/secrets beside it."""
    shutil.copytree(ROOT / "deploy/redis", home / "holdfast")
    (home / "secrets").mkdir()
    for name, password in {**PASSWORDS, **LOGINS}.items():
        (home / "secrets" / name).write_text(f"{password}\n")
    return home / "holdfast"


def here(words: list[str], home: Path) -> list[str]:
    """A service's command where /holdfast, /run/secrets and the users' file lie in `home`.

    Only where a path begins: this checkout may itself lie in a folder named holdfast.
    """
    there = {
        "/holdfast/": f"{home}/holdfast/",
        "/run/secrets": f"{home}/secrets",
        "/tmp/users": f"{home}/users",
    }
    begins = rf"(?<![\w/.-])(?:{'|'.join(there)})"
    return [re.sub(begins, lambda found: there[found[0]], word) for word in words]


@pytest.fixture(scope="module")
def redis_port(services: dict[str, Any], home: Path, holdfast_dir: Path) -> Iterator[int]:
    """The redis service: Redis where it is new enough, else Valkey under its name."""
    scripts, data, port = home / "bin", home / "data", free_ports(0)[0]
    scripts.mkdir()
    data.mkdir()
    program = programs_with_users()[-1]
    (scripts / "redis-server").symlink_to(program)
    users = holdfast_dir / "users.acl"
    users.write_text(known_users(users.read_text(), program))
    local = f"redis-server --bind 127.0.0.1 --port {port} --dir {data} "
    command = [word.replace("redis-server ", local) for word in here(command_of(services["redis"]), home)]
    env = {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    with running(command, env, home / "redis.log") as process:

        def answers() -> bool:
            up_or_log(process, home / "redis.log")
            try:
                return bool(connect(url_of(port)).ping())
            except TRANSIENT:
                return False

        wait_for(answers, "redis to answer")
        yield port


def url_of(port: int) -> str:
    return f"redis://admin:{PASSWORDS['admin']}@127.0.0.1:{port}/0"


def environment(service: Mapping[str, Any], port: int, secrets: Path) -> dict[str, str]:
    """The service's own variables; host names resolve to this host, and metrics are for this host alone."""
    own = {**service["environment"], "REDIS_ADDRESS": f"127.0.0.1:{port}", "SECRETS": str(secrets)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    own |= {"HOLDFAST_METRICS_PORT": str(metrics_port()), "HOLDFAST_METRICS_ADDRESS": "127.0.0.1"}
    return {**kept, **own, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def worker(services: dict[str, Any], home: Path, redis_port: int) -> Iterator[WorkerEntry]:
    """The service gpu0, on the queue cpu0; ended by its own stop signal."""
    service, log = services["gpu0"], home / "worker.log"
    command = ["cpu0" if part == "gpu0" else part for part in here(command_of(service), home)]
    with running(command, environment(service, redis_port, home / "secrets"), log) as process:

        def registered() -> list[WorkerEntry]:
            up_or_log(process, log)
            return live_workers(connect(url_of(redis_port)), 15)

        [entry] = wait_for(registered, "the worker to register")
        assert entry.pid == process.pid
        yield entry
        process.send_signal(signal.Signals[service["stop_signal"]])
        assert process.wait(30) == 0, log.read_text(errors="replace")


@pytest.fixture(scope="module")
def flower_url(services: dict[str, Any], home: Path, redis_port: int) -> Iterator[str]:
    service, log, port = services["flower"], home / "flower.log", free_ports(0)[0]
    local = {"--address=0.0.0.0": "--address=127.0.0.1", "--port=5555": f"--port={port}"}
    command = here(command_of(service), home)
    for there, instead in local.items():
        assert there in command[-1]
        command[-1] = command[-1].replace(there, instead)
    with running(command, environment(service, redis_port, home / "secrets"), log) as process:

        def answers() -> bool:
            up_or_log(process, log)
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(answers, "flower to answer")
        yield f"http://127.0.0.1:{port}"


def test_redis_keeps_an_append_only_file_and_never_evicts(redis_port: int) -> None:
    client = connect(url_of(redis_port))
    settings = client.config_get("append*") | client.config_get("*max*")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["proto-max-bulk-len"] == str(VALUE_BYTES_MOST)


def test_redis_asks_for_a_name_and_a_password_and_no_process_list_shows_any(
    redis_port: int, worker: WorkerEntry
) -> None:
    for stranger in ("", f":{PASSWORDS['admin']}@", "hf-worker:guess@"):
        with pytest.raises(redis.AuthenticationError):
            connect(f"redis://{stranger}127.0.0.1:{redis_port}/0").ping()
    server = connect(url_of(redis_port)).info("server")["process_id"]
    for pid in (server, worker.pid, worker.child_pid):
        shown = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert not [password for password in PASSWORDS.values() if password in shown]


def test_the_worker_comes_up_under_the_name_of_its_queue(worker: WorkerEntry) -> None:
    assert worker.queue == "cpu0"
    assert worker.name == f"cpu0@{socket.gethostname()}"


def ask(url: str, password: str | None, *, post: bool = False) -> int:
    request = request_of(url, password, post=post)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def request_of(url: str, password: str | None, *, post: bool = False) -> urllib.request.Request:
    request = urllib.request.Request(url, data=b"{}" if post else None)
    if password is not None:
        pair = base64.b64encode(f"holdfast:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    return request


def read(url: str) -> dict[str, Any]:
    """What Flower's API answers to whoever knows the password."""
    with urllib.request.urlopen(request_of(url, LOGINS["flower_login"]), timeout=30) as answer:
        found = json.loads(answer.read())
    assert isinstance(found, dict)
    return found


def test_flower_answers_who_knows_the_password_alone(flower_url: str) -> None:
    for page in ("/", "/api/workers", "/workers"):
        assert ask(flower_url + page, None) == 401, page
        assert ask(flower_url + page, "guess") == 401, page
    assert ask(f"{flower_url}/api/workers", LOGINS["flower_login"]) == 200


def test_flower_looks_and_cannot_touch(flower_url: str, worker: WorkerEntry) -> None:
    """Not even with the password: a worker that it shuts down or a task that it sends would be a way in."""
    for operation in (
        f"/api/worker/shutdown/{worker.name}",
        f"/api/worker/pool/shrink/{worker.name}",
        f"/api/worker/queue/cancel-consumer/{worker.name}?queue=cpu0",
        "/api/task/send-task/gpu_tasks.embed_shard",
        "/api/task/revoke/0",
    ):
        assert ask(flower_url + operation, LOGINS["flower_login"], post=True) == 403, operation


@pytest.fixture(scope="module")
def submitted(
    home: Path, worker: WorkerEntry, redis_port: int, flower_url: str, examples_of_all: Path
) -> str:
    """The id of the producer's job. Flower is there before it: what was sent earlier it does not know."""
    job = {
        "JOB_INPUT": str(examples_of_all / "proteins.fasta.gz"),
        "JOB_MODEL": "mock:8,delay_ms=40",
        "JOB_OUTPUT": str(home / "proteins.npy"),
    }
    service = load(job)["producer"]
    ended = subprocess.run(
        here(command_of(service), home),
        env=environment(service, redis_port, home / "secrets"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.fixture(scope="module")
def examples_of_all(request: pytest.FixtureRequest) -> Path:
    return request.config.rootpath / "examples"


def test_flower_shows_the_worker_and_the_shards_of_a_running_job(
    flower_url: str, worker: WorkerEntry, submitted: str, home: Path
) -> None:
    def at_work() -> list[dict[str, Any]]:
        return list(read(f"{flower_url}/api/tasks?state=STARTED").values())

    [task, *others] = wait_for(at_work, "a task under way")
    assert not others
    assert task["name"] == "gpu_tasks.embed_shard"
    assert task["worker"] == worker.name
    job_id, index = ast.literal_eval(task["args"])
    assert job_id == submitted
    assert 0 <= index < len(JobDir(home / "proteins.npy.holdfast").load().shards)

    [known] = read(f"{flower_url}/workers?json=1")["data"]  # from their events: they take no orders
    assert (known["hostname"], known["status"]) == (worker.name, True)
    assert known["task-started"] >= 1


def test_flower_shows_how_long_every_shard_took_and_how_it_ended(
    flower_url: str, submitted: str, home: Path
) -> None:
    num_shards = len(JobDir(home / "proteins.npy.holdfast").load().shards)

    def ended() -> list[dict[str, Any]]:
        tasks = read(f"{flower_url}/api/tasks?state=SUCCESS").values()
        return list(tasks) if len(tasks) == num_shards + 1 else []

    tasks = wait_for(ended, "all shards and the export")
    assert all(task["runtime"] > 0 for task in tasks)
    shards = [task for task in tasks if task["name"] == "gpu_tasks.embed_shard"]
    assert sorted(ast.literal_eval(task["args"])[1] for task in shards) == list(range(num_shards))
    # The last is published by its task; another one's publication may go on beside the next shard.
    assert "'done'" in {task["result"] for task in shards} <= {"'done'", "'computed'"}
    [export] = [task for task in tasks if task["name"] == "gpu_tasks.export_job"]
    assert export["result"] == "'exported'"


def test_the_producers_job_is_done_by_the_worker(
    services: dict[str, Any], home: Path, redis_port: int, submitted: str
) -> None:
    output = home / "proteins.npy"
    wait_for(output.exists, "the output")
    assert np.load(output).shape == (305, 8)
    log = subprocess.run(
        [*here(command_of(services["operator"]), home), submitted],
        env=environment(services["operator"], redis_port, home / "secrets"),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "done" in log.stdout, log.stderr


def test_the_worker_serves_its_metrics(worker: WorkerEntry, submitted: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port()}/metrics", timeout=30) as answer:
        assert f'holdfast_worker_up{{device="cpu",queue="cpu0",worker="{worker.name}"}} 1.0' in (
            answer.read().decode()
        )

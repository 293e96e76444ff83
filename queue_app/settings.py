"""RuntimeConfig: every setting of a running Holdfast, and the only reader of the environment.

Nothing here changes a bit of the output: what does is fixed at submit, in job.json.
"""

import grp
import os
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _split_paths(value: object) -> object:
    """HOLDFAST_ROOTS is written like PATH: directories with the platform's separator between them."""
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


def _path_or_none(value: object) -> object:
    """HOLDFAST_STATE= is none, and not the working directory; the others likewise."""
    return value or None


def _group_id(value: object) -> object:
    """A group by its name or its number."""
    if not isinstance(value, str) or value.isdecimal():
        return value or None
    try:
        return grp.getgrnam(value).gr_gid if value else None
    except KeyError:
        raise ValueError(f"no group {value!r} on this host; write its number") from None


def _state_home() -> Path | None:
    return _home(os.environ.get("XDG_STATE_HOME", ""), ".local/state")


def _cache_home() -> Path | None:
    return _home(os.environ.get("XDG_CACHE_HOME", ""), ".cache")


def _home(named: str, usual: str) -> Path | None:
    """As the XDG Base Directory Specification has it; None for a user without a home."""
    if Path(named).is_absolute():
        return Path(named) / "holdfast"
    try:
        return Path.home() / usual / "holdfast"
    except RuntimeError:
        return None


class RuntimeConfig(BaseSettings):
    """Read from `HOLDFAST_*`; every field can be set there under its upper-case name."""

    model_config = SettingsConfigDict(env_prefix="HOLDFAST_", frozen=True, extra="ignore")

    broker_url: str = "redis://127.0.0.1:6379/0"
    """Where the Redis-protocol server is; may carry a password, so it is never logged."""
    broker_password_file: Annotated[Path | None, BeforeValidator(_path_or_none)] = None
    """A file with the password of the server, for addresses that have none."""
    key_file: Annotated[Path | None, BeforeValidator(_path_or_none)] = None
    """The fleet's keys: what the server hands on is signed with the first, and believed only where one of
    them has signed it. None: nothing is signed."""
    tls_ca_file: Annotated[Path | None, BeforeValidator(_path_or_none)] = None
    """The certificates (PEM) of the authorities that may sign a `rediss://` server's, beside the system's."""
    tls_cert_file: Annotated[Path | None, BeforeValidator(_path_or_none)] = None
    """The certificate (PEM) that this client shows, where the server asks for one."""
    tls_key_file: Annotated[Path | None, BeforeValidator(_path_or_none)] = None
    """Its private key, where that is in a file of its own."""
    shared_group: Annotated[int | None, BeforeValidator(_group_id)] = None
    """A group, by name or number, whose members share job directories: what is made there is theirs to read
    and to write, and what lies there is believed, whoever of them owns it. None: every user has his own."""
    scratch: Path | None = None
    """A local directory for checkpoints, needed when the job directory is on a network file system."""
    roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_paths)] = ()
    """What the fleet's job directories lie in: then nobody touches a file elsewhere on a server's word. Jobs
    that lie there may be rebuilt when the server has forgotten them."""
    locks: Path | None = None
    """A directory of this user's own where the workers of a host claim its devices. None: /run/user/UID, and
    the temporary directory."""
    state: Annotated[Path | None, BeforeValidator(_path_or_none)] = Field(default_factory=_state_home)
    """Where this user's processes remember their fleets' job directories, for a server that lost its data."""
    cache: Annotated[Path | None, BeforeValidator(_path_or_none)] = Field(default_factory=_cache_home)
    """Where jobs lie, under `jobs`, whose sequences came from memory and whose output nobody named."""

    beat_seconds: float = Field(default=3.0, gt=0)
    """How often a worker raises its shard's heartbeat."""
    lease_seconds: float = Field(default=15.0, gt=0)
    """A lease is over when one observer has seen the same beat for so long."""
    reconcile_seconds: float = Field(default=1.0, gt=0)
    """How often a worker's parent looks for dead leases."""
    resend_seconds: float = Field(default=30.0, gt=0)
    """A pending shard whose message is older than this is sent again."""
    attempt_limit: int = Field(default=20, ge=1)
    """So many acquisitions without one commit between them fail the shard."""
    retry_seconds: int = Field(default=10, ge=1)
    """The longest wait before an error that may pass is tried again; the waits grow from 1 s, with jitter."""
    rest_seconds: int = Field(default=300, ge=1)
    """The longest rest of a worker that fails while others get on with the job. Alone: `retry_seconds`."""
    probe_after_deaths: int = Field(default=2, ge=1)
    """So many deaths of the process in one batch have its records tried alone."""
    quarantine_after_deaths: int = Field(default=2, ge=1)
    """A record that, alone, ended the process so often is quarantined."""
    stall_seconds: float = Field(default=600.0, gt=0)
    """A worker's process that ends no batch for so long is killed, and its shard tried again."""
    grace_seconds: float = Field(default=25.0, gt=0)
    """How long a worker may take to finish its batch after SIGTERM before it is killed."""
    exit_when_idle: float | None = Field(default=None, ge=0)
    """A worker ends when nothing was there to do for its kind of device for so many seconds; None: never."""

    commit_seconds: float | None = Field(default=None, gt=0)
    """Overrides the job's own commit interval."""
    commit_sequences: int | None = Field(default=None, ge=1)
    """Overrides the job's own commit size."""
    keep_checkpoints: bool | None = None
    """Overrides the job's own choice to keep the stores of published shards."""
    allow_same_vectors: bool | None = None
    """Overrides the job's own choice to publish one and the same vector of different sequences."""
    work_ahead: bool = True
    """While a shard is computed the one before is published, and the one after is made ready."""
    pending_bytes: int = Field(default=256 << 20, ge=1)
    """Blocks that may wait for the commit thread before inference has to wait for the disk."""

    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Where workers serve Prometheus metrics: the one of gpuN or cpuN at this port plus N. None: nowhere."""
    metrics_address: str = "127.0.0.1"
    """The address that metrics are served at; whoever reaches it can read them."""

    preload_torch: bool = True
    """Import torch when a worker's child starts, while the producer still reads the input."""
    parent_pid: int | None = None
    """The process this worker must not outlive (set by `holdfast embed` for its own workers)."""
    visible_devices: str | None = Field(default=None, validation_alias="CUDA_VISIBLE_DEVICES")
    """The devices this host (or scheduler) grants; gpuN is the N-th of them."""
    device_order: str | None = Field(default=None, validation_alias="CUDA_DEVICE_ORDER")
    """How CUDA numbers devices: by the bus, as nvidia-smi does, or nothing is started."""


@cache
def runtime_config() -> RuntimeConfig:
    """The settings of this process, read once."""
    return RuntimeConfig()

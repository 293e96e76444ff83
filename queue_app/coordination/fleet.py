"""The fleet: everybody who talks to one server. It has an identity, so that it adopts its own jobs only.

The id is random, kept by the server (`holdfast:fleet`) and written into the directory of every job that is
announced to it (`fleet.json`). It outlives the server's data, because everybody remembers it:

1. Whoever connects and finds no id puts one there by SET NX: the one that it knows for this address, from its
   own life or from the user's state directory, and a new one only where it knows none.
2. An id that is there is never replaced. Who knew another one for this address says so on the server: that is
   a former id of the fleet, and its jobs are the fleet's. They get the present id when they are announced.
3. A job of any other id, or of none, is left alone until somebody runs `enqueue`, `embed` or `resume` on it:
   that makes it a job of the fleet that was asked.

Beside the id stands an epoch, random too, made anew with each SET NX: one that changed tells everybody that
the server has lost its data, also those who did not find it empty.
"""

import json
import logging
import re
import secrets
import socket
from functools import lru_cache
from pathlib import Path
from typing import cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.embedded_server import LOOPBACK, ServerAddress
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.trust.job_places import JobPlaces
from queue_app.coordination.trust.values import SHOWN_MOST, Garbage, read_from
from queue_app.host.durable_files import write_durably
from queue_app.host.fleet_memory import FleetMemory
from queue_app.job.directory import FLEET_ID, JobDir
from queue_app.settings import runtime_config
from queue_app.shown import visible

log = logging.getLogger(__name__)

FORMER_MOST = 100
_HELD = re.compile("[0-9a-f]{16} [0-9a-f]{8}")
_LOOPBACKS = ("localhost", LOOPBACK, "::1")


class Fleet:
    """The fleet of one server, as one process knows it."""

    def __init__(self, client: redis.Redis, memory: FleetMemory) -> None:
        self.client = client
        self.memory = memory
        self.id = ""
        """Empty before `join`."""
        self.ids: frozenset[str] = frozenset()
        """The present one and all former ones."""
        self._address = address_of(client)
        self._seen: str | None = None
        """What the server held when it was asked last; None while that is in doubt."""

    def join(self) -> str:
        """Learn the fleet's id, and its former ones, or put it where the server has none; answers it."""
        self._ask()
        return self.id

    def _ask(self) -> str:
        """Answers what the server holds now."""
        known = self.id or self.memory.fleet_at(self._address)
        held = self._put(f"{known or secrets.token_hex(8)} {secrets.token_hex(4)}")
        former = self._former()
        self.id = held.partition(" ")[0]
        self.ids |= {self.id, *former, *([known] if known else ())}
        if missing := self.ids - {self.id, *former}:
            self.client.sadd(keys.FORMER_FLEETS, *missing)
            log.warning("the server has a new fleet id %s; that of before was %s", self.id, known)
        self.memory.note_fleet(self._address, self.id)
        return held

    def _held(self) -> str:
        try:
            with read_from(keys.FLEET):
                return cast("str | None", self.client.get(keys.FLEET)) or ""
        except Garbage:
            return ""

    def _put(self, ours: str) -> str:
        """Ours, unless the server holds one already; answers what it holds. What is no id is replaced: it
        would name a directory of this user's."""
        pipe = self.client.pipeline(transaction=True)
        pipe.set(keys.FLEET, ours, nx=True)
        pipe.get(keys.FLEET)
        _, held = pipe.execute(raise_on_error=False)
        if isinstance(held, str) and _HELD.fullmatch(held):
            return held
        log.warning("%s: '%s' is no id of a fleet; replaced", keys.FLEET, visible(str(held), SHOWN_MOST))
        self.client.set(keys.FLEET, ours)
        return ours

    def _former(self) -> set[str]:
        """The ids that the server says the fleet had before."""
        try:
            with read_from(keys.FORMER_FLEETS):
                found = self.client.srandmember(keys.FORMER_FLEETS, FORMER_MOST)
        except Garbage:
            self.client.unlink(keys.FORMER_FLEETS)
            found = []
        return set(filter(FLEET_ID.fullmatch, cast("list[str]", found)))

    def lost_data(self, held: str = "") -> bool:
        """True when the server has lost its data since this was asked last, or may have: the first time, and
        after its connection broke (it may have come back with older data).

        `held` is what it holds as the id; where that was not told just now, this costs one GET.
        """
        try:
            if self._seen is not None and (held or self._held()) == self._seen:
                return False
            self._seen = self._ask()
        except TRANSIENT:
            self.doubt()
            raise
        return True

    def doubt(self) -> None:
        """The connection broke: what the server holds now is to be looked at."""
        self._seen = None

    def learn_former(self) -> None:
        """Hear of former ids that others have told the server of since. Costs one command."""
        if not self.id:
            self.join()
        self.ids |= self._former()

    def directories(self) -> list[Path]:
        """Where the fleet's jobs lie, or lay, by what this host remembers."""
        return self.memory.directories(self.ids)


def fleet_of_server(client: redis.Redis, *, embedded: bool = False) -> Fleet:
    """The fleet of the server behind `client`. That of an embedded server has one job, whose directory starts
    it, and is not remembered elsewhere."""
    return Fleet(client, FleetMemory(None if embedded else runtime_config().state))


def address_of(client: redis.Redis) -> str:
    """Where the server is, without any password: `queue-host:6379/0`. What means something else on every host
    begins with this one's name."""
    where = client.connection_pool.connection_kwargs
    database = where.get("db") or 0
    if path := where.get("path"):
        return f"{socket.gethostname()}:{path}/{database}"
    host = str(where.get("host") or "localhost").lower()
    here = f"{socket.gethostname()}:" if host in _LOOPBACKS else ""
    return f"{here}{LOOPBACK if here else host}:{where.get('port') or 6379}/{database}"


# ---- whose a job is, and where it lies


def job_places(client: redis.Redis) -> JobPlaces:
    """What finds the job directories of the server behind `client`; raises its errors as they come."""
    config = runtime_config()
    return JobPlaces(config.roots, lambda: _ids_at(client), FleetMemory(config.state).directories)


def _ids_at(client: redis.Redis) -> frozenset[str]:
    """What the server holds as its fleet's id, and as former ones; nothing is put there."""
    held = cast("str", client.get(keys.FLEET) or "").partition(" ")[0]
    return frozenset({held, *cast("set[str]", client.smembers(keys.FORMER_FLEETS))} - {""})


def take_job(client: redis.Redis, job_dir: JobDir) -> None:
    """Make the job one of the fleet whose server this is, and remember where it lies. Raises DiskFull."""
    own = ServerAddress.read(job_dir.server_json)
    embedded = own is not None and own.password == client.connection_pool.connection_kwargs.get("password")
    fleet = fleet_of_server(client, embedded=embedded)
    if job_dir.fleet() != fleet.join():
        if not embedded:
            job_dir.server_json.unlink(missing_ok=True)  # of an earlier run, on a server of its own
        write_durably(job_dir.fleet_json, json.dumps({"fleet": fleet.id}).encode())
    fleet.memory.note_directory(fleet.id, job_dir.path.absolute())


@lru_cache(maxsize=1_000)
def remember_job(job_dir: JobDir, job_id: str) -> None:
    """Note that this host has to do with a job. Asked for every shard, it looks once for each `job_id`."""
    fleet = job_dir.fleet()
    if fleet is not None:
        FleetMemory(runtime_config().state).note_directory(fleet, job_dir.path.absolute())

"""Where the devices of a job see what each other computed of the canary."""

from dataclasses import dataclass
from typing import cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.trust import values

CANARY_SECONDS = 7 * 24 * 3600
GOLDEN = "golden"


@dataclass(frozen=True, slots=True)
class CanaryDeposits:
    """What the devices of a job computed of the canary's sequences. See gpu_tasks.inference.canary.

    In Redis and not in the job directory, because all workers of a job share the one, and what is lost
    is deposited again before the next shard. `subject` names what may be compared: model, dtype and
    sequences.
    """

    client: redis.Redis
    job_id: str
    subject: str

    def deposit(self, device: str, vectors: str) -> str | None:
        """Put a device's vectors in the place of its earlier ones; answers the golden ones, if any."""
        key = keys.canary(self.job_id)
        pipe = self.client.pipeline()  # a transaction: of two that deposit at once, one sees the other's
        pipe.hset(key, self._field(device), vectors)
        pipe.expire(key, CANARY_SECONDS)
        pipe.hget(key, self._field(GOLDEN))
        with values.read_from(key):
            return cast("str | None", pipe.execute()[-1])

    def all(self) -> dict[str, str]:
        """What each device deposited last."""
        with values.read_from(keys.canary(self.job_id)):
            fields = cast("dict[str, str]", self.client.hgetall(keys.canary(self.job_id)))
        prefix = self._field("")
        ours = {field[len(prefix) :]: text for field, text in fields.items() if field.startswith(prefix)}
        return {device: text for device, text in ours.items() if device != GOLDEN}

    def agree_on(self, vectors: str) -> str:
        """Make these golden unless others are; answers those that are."""
        pipe = self.client.pipeline()
        pipe.hsetnx(keys.canary(self.job_id), self._field(GOLDEN), vectors)
        pipe.hget(keys.canary(self.job_id), self._field(GOLDEN))
        with values.read_from(keys.canary(self.job_id)):
            return cast("str", pipe.execute()[-1])

    def begin(self, device: str, index: int) -> None:
        """Note that a device begins a shard."""
        pipe = self.client.pipeline()
        pipe.sadd(keys.begun(self.job_id), f"{index} {device}")
        pipe.expire(keys.begun(self.job_id), CANARY_SECONDS)
        with values.read_from(keys.begun(self.job_id)):
            pipe.execute()

    def begun(self, device: str) -> list[int]:
        """The shards that a device has begun."""
        with values.read_from(keys.begun(self.job_id)):
            members = cast("set[str]", self.client.smembers(keys.begun(self.job_id)))
        return sorted(values.readable(_index, (m for m in members if m.partition(" ")[2] == device)))

    def _field(self, device: str) -> str:
        return f"{self.subject}|{device}"


def _index(member: str) -> int:
    return values.whole(member.partition(" ")[0], "begun", values.INDEX_MOST)

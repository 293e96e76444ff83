"""What a job in int8 was seen to cost in accuracy: the file certificate.json in its directory.

The first worker writes it before it takes a shard (gpu_tasks/shard/numerics/certify.py); it is created once,
and never replaced.
"""

import json
from dataclasses import asdict, dataclass

from queue_app.errors import Damage
from queue_app.job.directory import JobDir

LEAST_COSINE = 0.99
"""What --least-cosine is by itself."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Cosines of vectors in int8 with those of the same records in float32, over a sample of the job's own.

    `num_records` were drawn by length, evenly, with the shortest and the longest of all; `num_characters` is
    what they have together.
    """

    job_id: str
    num_records: int
    num_characters: int
    least_cosine: float
    mean_cosine: float

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, content: bytes) -> "Certificate":
        """Raises ValueError for what is none."""
        found = json.loads(content)
        try:
            return cls(**found)
        except TypeError:
            raise ValueError("not a certificate") from None


def read_certificate(directory: JobDir) -> Certificate | None:
    """None where there is none. Raises Damage for what is none."""
    try:
        return Certificate.decode(directory.certificate.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Damage(
            f"{directory.certificate}: not readable ({error}); embed again with --overwrite"
        ) from None

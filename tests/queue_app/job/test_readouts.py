"""What an output holds of each record, in names and numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from queue_app.errors import UsageError
from queue_app.job.readouts import column_names, num_vectors_of, parse_pool, token_bytes
from queue_app.job.spec import EmbedOptions
from queue_app.model.reader import find_model
from tests.support.jobs_and_inputs import make_job

LENGTHS = np.array([10, 100, 300])


def options(**changed: Any) -> EmbedOptions:
    return replace(make_job(num_shards=1, records_per_shard=1).options, max_length=200, **changed)


def test_contacts_stand_alone() -> None:
    assert parse_pool(" contacts ") == "contacts"
    assert column_names(options(pool="contacts")) == ("contacts",)
    for pool in ("contacts,mean", "mean,contacts", "contacts,none", "contacts,contacts"):
        with pytest.raises(UsageError, match="or none alone, or contacts alone"):
            parse_pool(pool)


@pytest.mark.parametrize(
    ("changed", "number"),
    [
        ({"pool": "mean"}, 3),
        ({"pool": "none"}, 410),
        ({"pool": "contacts", "long": "truncate"}, 10**2 + 100**2 + 200**2),
        ({"pool": "contacts", "long": "error"}, 10**2 + 100**2),
    ],
)
def test_records_have_as_many_vectors_as_tokens_or_pairs_of_them(
    changed: dict[str, Any], number: int
) -> None:
    assert num_vectors_of(LENGTHS, options(**changed)) == number


def test_a_token_adds_a_vector_or_a_row_of_the_largest_map() -> None:
    spec = find_model("mock:8").spec
    assert token_bytes(spec, options(pool="mean")) == 0
    assert token_bytes(spec, options(pool="none")) == 8 * 4
    assert token_bytes(spec, options(pool="contacts", store_dtype="float16")) == 200 * 2

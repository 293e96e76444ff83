"""How many quarantined records a pipeline takes for success: `--allow-quarantine[=N|P%]`."""

import re
from dataclasses import dataclass
from decimal import Decimal

from queue_app.choices import ALLOW_QUARANTINE, ANY
from queue_app.errors import UsageError


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most so many records, or so large a share of all that were read; None is no limit of that kind."""

    num_records: int | None = None
    percent: Decimal | None = None

    def covers(self, num_quarantined: int, num_records: int) -> bool:
        """True where so many of `num_records` may be quarantined."""
        if self.num_records is not None:
            return num_quarantined <= self.num_records
        return self.percent is None or num_quarantined * 100 <= self.percent * num_records


NOTHING = Allowance(num_records=0)


def parse_allowance(text: str | None) -> Allowance:
    """What the option says; None, where it was not given, allows nothing. Raises UsageError."""
    if text is None:
        return NOTHING
    if text == ANY:
        return Allowance()
    if re.fullmatch(r"\d{1,18}", text):
        return Allowance(num_records=int(text))
    if re.fullmatch(r"\d{1,3}(\.\d{1,9})?%", text) and (percent := Decimal(text[:-1])) <= 100:
        return Allowance(percent=percent)
    raise UsageError(
        f"{ALLOW_QUARANTINE}={text}: write a number of records, a share such as 0.1%, or no value for any"
    )

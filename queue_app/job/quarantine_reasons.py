"""Why a record is quarantined, where others look for the words of the reason."""

MOSTLY_UNKNOWN = "more than half of its tokens are unknown to the model"
OF_HOW_MANY = r" \([\d,]+ of [\d,]+\)"
"""What differs between the reasons of two records: taken out where reasons are counted."""
PLACE_IN_FILE = r" \((?:line|row|record) \d+\)$"
"""What a reason ends in, as an expression: records of one kind have one reason but for it."""


def is_mostly_unknown(num_unknown: int, num_tokens: int) -> bool:
    """True for more than half."""
    return 2 * num_unknown > num_tokens


def unknown_reason(num_unknown: int, num_tokens: int) -> str:
    """Why such a record is quarantined."""
    return f"{MOSTLY_UNKNOWN} ({num_unknown:,} of {num_tokens:,}); see --alphabet and --rules"

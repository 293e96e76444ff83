"""How large a record may be: what is larger is no sequence, no id and no label, but would fill the memory."""

SEQUENCE_MOST = 64 << 20
"""Letters of a sequence."""
ID_MOST = 64 << 10
"""Bytes of an id."""
FIELD_MOST = 1 << 20
"""Bytes of a value that stays with its record, such as a description."""

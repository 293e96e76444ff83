"""Input files as records: what a file's bytes say it is, its unpacking, and a reader a format.

Invariant: a file that is cut off, damaged or ambiguous is refused with its line, never read in part. To add
a reader: a module with a function from lines or a stream to rows (`values.Row`), and its entry in
`formats.FORMATS`; tests/queue_app/ingest/readers shows which promises it keeps.
"""

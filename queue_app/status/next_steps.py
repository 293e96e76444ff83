"""What to do with an output, one step a line: said at the end of a run."""

import shlex
from collections.abc import Iterator, Mapping

from queue_app.job.output_names import Format, output_format
from queue_app.job.readouts import column_names, is_ragged
from queue_app.outputs.export import ExportReport
from queue_app.wording import count

READ_BY: Mapping[Format, str] = {
    "h5": "h5py.File({path})[{dataset}][:]",
    "npy": "numpy.load({path})",
    "parquet": "pandas.read_parquet({path})[{column}]",
    "arrow": "pandas.read_feather({path})[{column}]",
    "directory": "pandas.read_parquet({path})[{column}]",
}
"""The expression of Python that has an output's vectors, in the order of its ids."""


def next_steps(report: ExportReport) -> Iterator[str]:
    """Each with what it is good for, in line."""
    steps = list(_steps(report))
    longest = max(len(step) for step, _ in steps)
    yield from (f"{step:{longest}}  # {meaning}" for step, meaning in steps)


def _steps(report: ExportReport) -> Iterator[tuple[str, str]]:
    output = shlex.quote(str(report.output))
    if expression := reading(report):
        yield expression, "the vectors, in Python"
    if report.num_quarantined:
        yield (
            f"holdfast quarantine {output}",
            f"why {count(report.num_quarantined, 'record')} cannot be embedded",
        )
    yield f"holdfast dashboard {output}", "a map of them"
    yield f"holdfast verify {output}", "is every byte still what was written?"


def reading(report: ExportReport) -> str | None:
    """How the output is read; None where one expression does not say it: a dataset for each record, or rows
    of different lengths."""
    job, kind = report.card.job, output_format(report.output)
    if is_ragged(job.options) or report.h5_layout != "flat" or kind not in READ_BY:
        return None
    column = column_names(job.options)[0]
    dataset = column.replace("embedding", "embeddings", 1)
    return READ_BY[kind].format(path=repr(str(report.output)), dataset=repr(dataset), column=repr(column))

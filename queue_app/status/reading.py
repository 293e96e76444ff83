"""How an output is read, in one expression of Python."""

from collections.abc import Mapping
from pathlib import Path

from queue_app.choices import H5Layout
from queue_app.job.output_names import Format, output_format
from queue_app.job.readouts import column_names, is_ragged
from queue_app.job.spec import Job

READ_BY: Mapping[Format, str] = {
    "h5": "h5py.File({path})[{dataset}][:]",
    "h5ad": "anndata.read_h5ad({path}).{member}",
    "npy": "numpy.load({path})",
    "npz": "numpy.load({path})[{dataset}]",
    "safetensors": "safetensors.numpy.load_file({path})[{dataset}]",
    "parquet": "pandas.read_parquet({path})[{column}]",
    "arrow": "pandas.read_feather({path})[{column}]",
    "lance": "lance.dataset({path}).to_table()[{column}]",
    "directory": "pandas.read_parquet({path})[{column}]",
}
"""The expression of Python that has an output's vectors, in the order of its ids."""


def reading(job: Job, output: Path, h5_layout: H5Layout) -> str | None:
    """The expression for this output, of the first pool and layer; None where one does not say it: a dataset
    for each record, or rows of different lengths."""
    if is_ragged(job.options) or h5_layout != "flat":
        return None
    column, *others = column_names(job.options)
    return READ_BY[output_format(output)].format(
        path=repr(str(output)),
        column=repr(column),
        dataset=repr(column.replace("embedding", "embeddings", 1)),
        member=f"obsm[{column!r}]" if others else "X",
    )

"""What a job is, and what one wants of it when it is done: where its vectors are, and how to read them."""

from dataclasses import dataclass
from pathlib import Path

from queue_app.dashboard.job_source import title_of
from queue_app.errors import HoldfastError
from queue_app.job.directory import JobDir
from queue_app.job.output_names import card_paths
from queue_app.job.output_place import output_of
from queue_app.job.readouts import column_names, is_ragged, vector_dim
from queue_app.job.spec import Job
from queue_app.status.reading import reading


@dataclass(frozen=True, slots=True)
class About:
    """All but `title` is empty where this host does not see the job's directory.

    `columns` are the vectors of each record, `dim` numbers each; `ragged`: each is one for every token.
    `read` is a line of Python that reads the output. `card` says whether there is a run card.
    """

    title: str
    output: str = ""
    model: str = ""
    dim: int = 0
    inputs: str = ""
    directory: str = ""
    columns: tuple[str, ...] = ()
    ragged: bool = False
    dtype: str = ""
    read: str = ""
    card: bool = False

    @classmethod
    def of(cls, directory: JobDir, job: Job | None) -> "About":
        if job is None:
            return cls(title_of(directory))
        output = output_path(job, directory)
        return cls(
            title_of(directory),
            str(output),
            job.model.name,
            vector_dim(job.model, job.options),
            ", ".join(file.name for file in job.inputs),
            str(directory.path),
            column_names(job.options),
            is_ragged(job.options),
            job.options.store_dtype,
            (reading(job, output, job.run.h5_layout) or "") if output.exists() else "",
            card_paths(output)[0].is_file(),
        )


def output_path(job: Job, directory: JobDir) -> Path:
    """Where the output is, or was to go where a moved directory leaves that open."""
    try:
        return output_of(job, directory)
    except HoldfastError:
        return Path(job.output)

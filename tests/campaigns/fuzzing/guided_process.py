"""The process that libFuzzer drives for guided.py: `python -m …guided_process READER OPTION … FOLDER …`"""

import functools
import sys

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["queue_app.ingest", "csv", "json"]):
    from tests.campaigns.fuzzing.guided_readers import look

reader = sys.argv[1]
this_again = f"{sys.executable} -m {__spec__.name} {reader}"  # what it calls to merge
atheris.Setup([this_again, *sys.argv[2:]], functools.partial(look, reader))
atheris.Fuzz()

"""The process that libFuzzer drives: `python -m tests.campaigns.fuzzing -max_total_time=60 DIRECTORY`"""

import sys

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["checkpoint"]):
    from tests.campaigns.fuzzing.readers import look

this_again = f"{sys.executable} -m tests.campaigns.fuzzing"  # what it calls to merge
atheris.Setup([this_again, *sys.argv[1:]], look)
atheris.Fuzz()

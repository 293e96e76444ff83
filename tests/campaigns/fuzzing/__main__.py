"""The process that libFuzzer drives, with its options: python -m fuzzing -max_total_time=60 DIRECTORY"""

import sys

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["checkpoint"]):
    from tests.campaigns.fuzzing.readers import look

atheris.Setup([f"{sys.executable} -m fuzzing", *sys.argv[1:]], look)  # what it calls again to merge
atheris.Fuzz()

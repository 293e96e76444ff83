"""The campaign that runs torch's CUDA code on a device that is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns.cuda_standin.build import Missing, build
from tests.support import ROOT

SITE = os.environ.get("STANDIN_SITE", "")


def campaign(*arguments: str, site: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "STANDIN_SITE": site}
    command = [sys.executable, "-m", "tests.campaigns.cuda_standin", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_without_a_cuda_build_of_torch_it_says_that_nothing_was_looked_at(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        build(tmp_path, tmp_path)
    ended = campaign("--site", str(tmp_path), "--libraries", str(tmp_path / "libraries"))
    assert (ended.returncode, ended.stdout.partition(":")[0]) == (0, "skipped")
    assert campaign().stdout.startswith("skipped: no --site")


needs_site = pytest.mark.skipif(not SITE, reason="needs a CUDA build of torch in STANDIN_SITE")


@needs_site
def test_what_the_libraries_are_told_is_fixed_whatever_the_environment_says(tmp_path: Path) -> None:
    ended = campaign("--only", "settings", "--libraries", str(tmp_path), site=SITE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "ok       cuBLASLt" in ended.stdout


@needs_site
def test_a_layer_is_nine_kernels_and_where_triton_is_missing_that_is_said_to_be_skipped(
    tmp_path: Path,
) -> None:
    ended = campaign("--only", "kernels", "--libraries", str(tmp_path), site=SITE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "ok       650M, plain kernels in bfloat16: 15 a layer" in ended.stdout
    if (Path(SITE) / "triton").exists():
        assert "ok       650M, fused kernels in bfloat16: 9 a layer" in ended.stdout
        assert "ok       650M, fused kernels in float32: 9 a layer" in ended.stdout
    else:
        assert "skipped  fused kernels" in ended.stdout

"""The check of a CUDA device, rehearsed on the processor at tiny sizes."""

import importlib
import json
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.check import Check, Found

NEEDS_A_DEVICE = {"memory": "left out"}
"""What a part says without one."""


def found_by(part: str, home: Path) -> list[Found]:
    check = Check("cpu", home, is_rehearsal=True)
    return list(importlib.import_module(f"benchmarks.gpu.parts.{part}").run(check))


@pytest.mark.parametrize("part", [part for part in command.PARTS if part != "right"])
def test_every_part_runs_and_finds_something(part: str, tmp_path: Path) -> None:
    found = found_by(part, tmp_path)
    assert found
    assert NEEDS_A_DEVICE.get(part, "") in str(found[0])
    assert all(each.values.get("exit status", 0) == 0 for each in found)


def test_vectors_are_held_against_the_processors_own(tmp_path: Path) -> None:
    found = found_by("right", tmp_path)
    assert [each.what for each in found] == ["tiny float32", "tiny bfloat16", "tiny float16"]
    for each in found:
        assert 0 <= float(each.values["1 - least cosine"]) < 1e-3
        assert each.values["same bytes twice"] is True
    assert float(found[1].values["1 - least cosine"]) > 1e-9, "random weights were never rounded"


def test_a_part_that_fails_takes_nothing_from_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(command.PARTS, "speed", 0.05)
    out = tmp_path / "check.md"
    assert command.main(["--out", str(out), "--device", "cpu", "--only", "speed", "--only", "facts"]) == 1
    speed, facts = json.loads(out.with_suffix(".json").read_bytes())
    assert speed["failed"].startswith("stopped after")
    assert facts["failed"] == ""
    assert any(each["what"] == "versions" for each in facts["found"])
    assert "## facts" in out.read_text()
    assert "failed: speed" in capsys.readouterr().out


def test_the_time_for_all_parts_is_bounded(tmp_path: Path) -> None:
    out = tmp_path / "check.md"
    assert command.main(["--out", str(out), "--device", "cpu", "--seconds", "0"]) == 1
    parts = json.loads(out.with_suffix(".json").read_bytes())
    assert [part["name"] for part in parts] == list(command.PARTS)
    assert {part["failed"] for part in parts} == {"no time was left for it"}

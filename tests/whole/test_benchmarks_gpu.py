"""The check of a CUDA device, rehearsed on the processor at tiny sizes."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.check import Check, Found
from benchmarks.gpu.parts import right
from benchmarks.gpu.parts.right import DTYPES, FAMILIES

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


def test_vectors_of_every_family_are_held_against_the_processors_own(tmp_path: Path) -> None:
    without, *found = found_by("right", tmp_path)
    assert str(without) == "fused kernels: none on cpu"
    assert [each.what for each in found] == [
        f"{family} {dtype}, plain kernels" for family in ("tiny", *FAMILIES) for dtype in DTYPES
    ]
    for each in found:
        assert 0 <= float(each.values["1 - least cosine"]) < 1e-3, each
        assert each.values["same bytes twice"] is True
        if "bfloat16" in each.what:
            assert float(each.values["1 - least cosine"]) > 1e-9, f"{each}: never rounded"


def test_a_vector_that_is_not_the_processors_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if one kernel were wrong: in all but the reference."""
    check, computed = Check("cpu", tmp_path, is_rehearsal=True), []
    vectors = right.vectors

    def another(*given: Any) -> right.Vectors:
        computed.append(vectors(*given))
        if len(computed) == 1:
            return computed[0]
        return {ordinal: vector[::-1] for ordinal, vector in computed[-1].items()}

    monkeypatch.setattr(right, "vectors", another)
    first = next(each for each in right.run(check) if each.values)
    assert float(first.values["1 - least cosine"]) > 0.1


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

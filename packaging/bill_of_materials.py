"""`make sbom`: what an installed Holdfast brings along, as a bill of materials (CycloneDX) and by licences.

    .venv/bin/python packaging/bill_of_materials.py TOOLS DIRECTORY

TOOLS is an environment with cyclonedx-bom and pip-licenses. Of all that is installed here, only what the
package itself needs is listed, without extras and without what tests it. A CPU build of torch is listed as
one, without CUDA's libraries.
"""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "holdfast"


def closure(package: str = PACKAGE) -> set[str]:
    """The canonical names of all that a package needs here, at any depth, itself among them."""
    found: set[str] = set()
    waiting, seen = [Requirement(package)], set()
    while waiting:
        asked = waiting.pop()
        name, extras = canonicalize_name(asked.name), frozenset(asked.extras)
        found.add(name)
        if (name, extras) not in seen:
            seen.add((name, extras))
            waiting += _needs(name, extras)
    return found


def _needs(name: str, extras: frozenset[str]) -> list[Requirement]:
    """What an installed package needs on this machine, and what these extras of it do."""
    try:
        needs = [Requirement(line) for line in distribution(name).requires or []]
    except PackageNotFoundError:
        sys.exit(f"{name}: needed and not installed here; make test installs it")
    asked = [{"extra": extra} for extra in extras or {""}]
    return [need for need in needs if need.marker is None or any(map(need.marker.evaluate, asked))]


def only(bill: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The bill of a whole environment without the components that are not among these names."""
    components = [each for each in bill["components"] if canonicalize_name(each["name"]) in names]
    kept = {each["bom-ref"] for each in components} | {bill["metadata"]["component"]["bom-ref"]}
    dependencies = [
        {**each, "dependsOn": [ref for ref in each.get("dependsOn", []) if ref in kept]}
        for each in bill["dependencies"]
        if each["ref"] in kept
    ]
    return {**bill, "components": components, "dependencies": dependencies}


def main(tools: str, directory: str) -> None:
    scripts, target, names = Path(tools) / "bin", Path(directory), closure()
    target.mkdir(parents=True, exist_ok=True)
    listed = _run(
        scripts / "cyclonedx-py", "environment", "--pyproject", str(ROOT / "pyproject.toml"),
        "--output-reproducible", "--output-format", "JSON", sys.executable,
    )  # fmt: skip
    bill = only(json.loads(listed), names - {PACKAGE})
    (target / "sbom.cdx.json").write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")
    table = _run(
        scripts / "pip-licenses", "--python", sys.executable, "--from", "mixed", "--format", "markdown",
        "--with-urls", "--packages", *sorted(names),
    )  # fmt: skip
    (target / "licences.md").write_text(f"# Licences of what Holdfast brings along\n\n{table}")
    print(f"{target / 'sbom.cdx.json'}: {len(bill['components'])} components")
    print(f"{target / 'licences.md'}: their licences")


def _run(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{program.name}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Builds the stand-ins: which libraries a CUDA build of torch needs, and which of their functions."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LIBRARY = Path(__file__).parent / "library"
IMPLEMENTED = {
    "libcudart": "cudart.cpp", "libcuda": "cuda.cpp", "libcublas": "cublas.cpp",
    "libcublasLt": "cublaslt.cpp",
}  # fmt: skip
"""All others only answer: see `_answer`."""
PREFIXES = {
    "libnccl": "nccl", "libcufile": "cuFile", "libcusparseLt": "cusparseLt", "libcuda": "cu[A-Z]",
    "libnvshmem_host": "nvshmem", "libcurand": "curand",
}  # fmt: skip
"""How the functions of those libraries begin whose symbols carry no version."""
HEADERS = ("cuda.h", "cuda_runtime_api.h", "library_types.h")
NOT_SUPPORTED = 801
"""Of the runtime and of the driver alike."""


class Missing(Exception):
    """Raised where something that the stand-ins are built of is not here."""


@dataclass(slots=True)
class Wanted:
    """What torch's libraries import: libraries, and functions by the version that they carry, if any."""

    libraries: set[str] = field(default_factory=set)
    versioned: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    plain: set[str] = field(default_factory=set)

    def functions(self, library: str) -> set[str]:
        stem = library.partition(".so")[0]
        if found := self.versioned.get("NVSHMEM" if stem == "libnvshmem_host" else library):
            return {name for name in found if not name.startswith("_Z")}
        begins = re.compile(PREFIXES.get(stem, "(?!)"))
        others = [prefix for other, prefix in PREFIXES.items() if other != stem and stem == "libcuda"]
        return {
            name for name in self.plain
            if begins.match(name) and not any(re.match(prefix, name) for prefix in others)
        }  # fmt: skip


def build(site: Path, libraries: Path) -> None:
    """Stand-ins for all that the torch in `site` needs of CUDA. Raises Missing."""
    headers, wanted = _headers(), _wanted(site)
    for tool in ("g++", "nm", "readelf"):
        if not shutil.which(tool):
            raise Missing(f"no {tool}")
    libraries.mkdir(parents=True, exist_ok=True)
    # The runtime first: the others queue their kernels there.
    for library in sorted(wanted.libraries, key=lambda name: not name.startswith("libcudart")):
        _compile(library, wanted.functions(library), libraries, headers)


def is_built(libraries: Path) -> bool:
    return any(libraries.glob("libcudart.so.*[0-9]"))


def _headers() -> Path:
    packages = (Path(each) / "nvidia" for each in sys.path)
    places = [
        *Path("/usr/local").glob("cuda*/include"),
        *(each for at in packages for each in at.glob("*/include")),
    ]
    for place in places:
        if all((place / header).exists() for header in HEADERS):
            return place
    raise Missing("no CUDA headers: neither /usr/local/cuda*/include nor the package nvidia-cuda-runtime")


def _wanted(site: Path) -> Wanted:
    home = site / "torch" / "lib"
    linked = [
        each for stem in ("libc10_cuda", "libtorch", "libcaffe2_nvrtc") for each in home.glob(f"{stem}*.so*")
    ]
    if not (home / "libc10_cuda.so").exists():
        raise Missing(f"no CUDA build of torch in {site}")
    wanted, own = Wanted(), {each.name for each in home.iterdir()}
    for path in linked:
        dynamic = _said("readelf", "--dynamic", str(path))
        needed = set(re.findall(r"NEEDED.*\[(lib(?:cu|nccl|nv).*)\]", dynamic)) - own
        wanted.libraries |= needed
        for line in _said("nm", "--dynamic", "--undefined-only", str(path)).splitlines():
            *_, kind, symbol = line.split()
            name, _, version = symbol.partition("@")
            if version:
                wanted.versioned[version.lstrip("@")].add(name)
            elif kind == "U":
                wanted.plain.add(name)
    return wanted


def _compile(library: str, functions: set[str], libraries: Path, headers: Path) -> None:
    stem = library.partition(".so")[0]
    sources, defined = [], set[str]()
    if stem in IMPLEMENTED:
        source = LIBRARY / IMPLEMENTED[stem]
        sources.append(str(source))
        defined = set(re.findall(r"^API [\w\s*]*?\b(\w+)\(", source.read_text(), re.MULTILINE))
    answers, versions = libraries / f"{library}.cpp", libraries / f"{library}.map"
    answers.write_text("\n".join(_answers(stem, functions - defined)))
    versions.write_text(f"{'NVSHMEM' if stem == 'libnvshmem_host' else library} {{ global: *; }};\n")
    runtime = [
        each.name
        for each in libraries.glob("libcudart.so.*[0-9]")
        if stem in IMPLEMENTED.keys() - {"libcudart"}
    ]
    compiled = subprocess.run(
        ["g++", "-O1", "-std=c++17", "-fPIC", "-shared", "-pthread", f"-I{headers}", f"-Wl,-soname,{library}",
         *sources, str(answers), "-o", str(libraries / library), f"-Wl,--version-script,{versions}",
         f"-L{libraries}", *(f"-l:{name}" for name in runtime)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if compiled.returncode:
        raise Missing(f"{library} cannot be built: {compiled.stderr.strip().splitlines()[0]}")


def _answers(stem: str, functions: set[str]) -> Iterator[str]:
    """What nobody calls, or whose answer decides nothing. STANDIN_TRACE says on stderr who was called."""
    yield "#include <cstdio>\n#include <cstdlib>"
    yield 'static bool tells = getenv("STANDIN_TRACE") != nullptr;'
    for name in sorted(functions):
        told = f'if (tells) fprintf(stderr, "{name}\\n");'
        yield f'extern "C" long {name}() {{ {told} return {_answer(stem, name)}; }}'


def _answer(stem: str, name: str) -> int:
    of_cudnn = {"cudnnGetVersion": 91900, "cudnnGetCudartVersion": 13000}
    return of_cudnn.get(name, NOT_SUPPORTED if stem in ("libcudart", "libcuda") else 0)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

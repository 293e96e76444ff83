"""What the command line answers: exit codes, one line for an error, nothing half-written, nothing harmed."""

import gzip
import json
import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from queue_app.cli.main import app
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.errors import HoldfastError
from queue_app.host.processes import ProcessFile
from queue_app.ingest.request import DECLARED, EmbedRequest
from queue_app.job.directory import JobDir
from queue_app.job.spec import RunOptions
from tests.support.command_runs import HOLDFAST, environment, holdfast
from tests.support.jobs_and_inputs import protein, write_fasta
from tests.support.small_disks import can_mount, small_disk

CPU = ["--device", "cpu"]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with one of everything that a user may name by mistake."""
    write_fasta(tmp_path / "good.fasta", 20)
    (tmp_path / "directory.fasta").mkdir()
    (tmp_path / "empty.fasta").touch()
    (tmp_path / "prose.fasta").write_text("Dear user,\nthis is no FASTA.\n")
    (tmp_path / "late.csv").write_text("id,sequence\n" + "a,MKV\n" * 500 + "b\n")
    (tmp_path / "binary.fasta").write_bytes(bytes(range(256)) * 20)
    packed = gzip.compress((tmp_path / "good.fasta").read_bytes() * 50)
    (tmp_path / "cut.fasta.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "table.csv").write_text("id,sequence\na,MKV\n")
    (tmp_path / "sub").mkdir()
    write_fasta(tmp_path / "sub" / "good.fasta", 3)
    (tmp_path / "file.npy.d").write_text("")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text('{"model_type": "esm"}')
    (pickled / "pytorch_model.bin").touch()
    return tmp_path


def everything(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def refused(home: Path, code: int, *arguments: str | Path, **env: str) -> str:
    """The one line that the command gives."""
    command = [*HOLDFAST, *map(str, arguments)]
    ended = subprocess.run(
        command, cwd=home, capture_output=True, text=True, timeout=60, env=environment(**env)
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line.removeprefix("holdfast: ")


BAD = {
    "a missing file": (["none.fasta"], "none.fasta: no such file"),
    "a directory": (["directory.fasta"], "directory.fasta: a directory"),
    "an empty file": (["empty.fasta"], "empty.fasta: an empty file"),
    "no FASTA": (["prose.fasta"], "prose.fasta: line 1: not FASTA"),
    "a bad line far below": (["late.csv"], "late.csv: line 502: 1 fields"),
    "a binary file": (["binary.fasta"], "binary.fasta: line 1: NUL bytes"),
    "a truncated gzip": (["cut.fasta.gz"], "cut.fasta.gz: near line"),
    "a missing column": (["table.csv", "--sequence_column", "seq"], "table.csv: no column 'seq'"),
    "an input named twice": (["good.fasta", "sub/../good.fasta"], "good.fasta: this input is named twice"),
    "an unknown model": (["good.fasta", "-m", "none"], "none: no such model"),
    "a bad mock": (["good.fasta", "-m", "mock:x"], "mock:x: write mock:DIM or"),
    "a file as model": (["good.fasta", "-m", "table.csv"], "table.csv: a file"),
    "pickled weights": (["good.fasta", "-m", "pickled"], "only pickled weights"),
    "an output in a file": (["good.fasta", "-o", "table.csv/out.npy"], "table.csv is no directory"),
    "an output that no directory can be made for": (
        ["good.fasta", "-o", "/proc/none/out.npy"],
        "/proc/none/out.npy.holdfast: this directory cannot be made: No such file or directory",
    ),
    "an output of unknown format": (["good.fasta", "-o", "out.pickle"], "out.pickle: unknown format"),
    "an output that is a directory": (["good.fasta", "-o", "directory.npy"], "a directory is there"),
    "a layout of no HDF5 file": (["good.fasta", "--h5-layout", "per-id"], "--h5-layout per-id is for an .h5"),
    "a layout of a directory": (
        ["good.fasta", "--h5-layout", "per-hash", "-o", "out"],
        "--h5-layout per-hash is for an .h5",
    ),
    "every token in a .npy": (["good.fasta", "--pool", "none"], "a .npy holds no rows of different lengths"),
    "two pools in a layout of one": (
        ["good.fasta", "--h5-layout", "per-id", "--pool", "mean,cls", "-o", "out.h5"],
        "--h5-layout per-id has one vector a record",
    ),
    "metrics at no port": (["good.fasta", "--metrics-address", "0.0.0.0"], "without --metrics-port nothing"),
    "a GPU that is not there": (["good.fasta", "--device", "0,99"], "--device 0,99: no GPU 99 among the"),
    "a negative device": (["good.fasta", "--device=-1"], "--device -1: write auto, cpu, or device numbers"),
    "a file as job directory": (["good.fasta", "--job-dir", "table.csv"], "table.csv: a file; a job"),
    "no server's address": (
        ["good.fasta", "--broker", "localhost"],
        "not a server's address: it does not begin",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_a_wrong_command_gives_one_line_and_leaves_nothing(
    home: Path, arguments: list[str], message: str
) -> None:
    (home / "directory.npy").mkdir()
    before = everything(home)
    command = ["embed", "-m", "mock:8", "-o", "out.npy", *CPU, *arguments]
    assert message in refused(home, 2, *command)
    assert everything(home) == before
    assert not (home / "out.npy.holdfast").exists()


UNIPROT = "Entry\tReviewed\tEntry Name\tProtein names\tLength\nP1\treviewed\tA_B\tAlpha\t9\n"
NOT_BY_NAME = {
    "a.tsv": (
        UNIPROT,
        "it has: Entry, Reviewed, Entry Name, Protein names, Length; say with --sequence-column",
    ),
    "a.csv": (
        "label,family,sequence_aa\na,KINASE,MKV\n",
        "it has: label, family, sequence_aa; say with --seq",
    ),
    "b.csv": ("smiles,id,logp\nCCO,m1,0.2\n", "it has: smiles, id, logp; say with --sequence-column"),
    "c.csv": ("id,seq,text\na,MKV,x\n", "say with --sequence-column which one of seq, text it is"),
    "a.jsonl": ('{"url": "a", "timestamp": "b", "content": "c"}\n', "it has: url, timestamp, content; say"),
    "b.jsonl": (
        '{"P1": "MKV", "P2": "MKL"}\n',
        "it has: P1, P2; say with --sequence-column .* over all records, say --input-format json",
    ),
    "a.json": ('{"name": "x", "content": "y"}\n', "one object with a key 'name' is one record"),
    "a.txt": (UNIPROT, "it looks like a table: say --input-format tsv"),
}


@pytest.mark.parametrize("command", ["embed", "plan"])
@pytest.mark.parametrize("name", NOT_BY_NAME)
def test_a_table_is_never_read_by_guess(home: Path, name: str, command: str) -> None:
    content, message = NOT_BY_NAME[name]
    (home / name).write_text(content)
    before = everything(home)
    line = refused(home, 2, command, name, "-m", "mock:8", "-o", "out.npy", *CPU, "--quiet")
    assert re.match(f"{name}: .*{message}", line)
    assert everything(home) == before


def test_the_columns_that_are_taken_are_named_in_view_plan_and_card(home: Path) -> None:
    (home / "a.tsv").write_text("Entry;Sequence\nP1;MKV\n")
    (home / "b.txt").write_text(">P2\nMKL\n")
    asked = [home / "a.tsv", home / "b.txt", "-m", "mock:8", *CPU, "--delimiter", ";", "-o", home / "out.npy"]
    said = "TSV: sequences from 'Sequence', ids from 'Entry'"
    for view in (holdfast("embed", *asked).stderr, holdfast("plan", *asked, "--seconds", "0").stdout):
        assert f"a.tsv: read as {said}\n" in view
        assert "b.txt: read as FASTA\n" in view
    assert f"| {said} |" in (home / "out.npy.card.md").read_text()
    card = json.loads((home / "out.npy.card.json").read_text())
    ways = [file["read_as"] for file in card["inputs"]]
    assert ways[0] == {"format": "tsv", "sequence_column": "Sequence", "id_column": "Entry"}
    assert (card["options"]["delimiter"], "--delimiter ';'" in card["command"]) == (";", True)
    assert (home / "out.ids.txt").read_text() == "P1\nP2\n"


@pytest.mark.parametrize("bad", ["cut.fasta.gz", "late.csv", "none.fasta"])
def test_a_bad_input_leaves_earlier_work_untouched_even_with_overwrite(home: Path, bad: str) -> None:
    output = home / "out.npy"
    holdfast("embed", home / "good.fasta", "-m", "mock:8", "-o", output, *CPU)
    before = output.read_bytes()
    assert bad in refused(home, 2, "embed", bad, "-m", "mock:8", "-o", output, *CPU, "--overwrite", "--quiet")
    assert output.read_bytes() == before
    assert "finished and sound" in holdfast("verify", output).stdout


def test_an_option_that_the_output_cannot_heed_is_refused_before_the_input_is_read(home: Path) -> None:
    for command in ("embed", "plan", "enqueue"):
        said = refused(
            home, 2, command, "late.csv", "-m", "mock:8", "-o", "out.parquet", "--h5-layout", "per-id"
        )
        assert "out.parquet: --h5-layout per-id is for an .h5" in said
    holdfast(
        "embed", home / "good.fasta", "-m", "mock:8", "-o", home / "out.h5", "--h5-layout", "per-id", *CPU
    )
    said = refused(home, 2, "export", "out.h5", "-o", "out.npy", "--h5-layout", "per-id")
    assert "out.npy: --h5-layout per-id is for an .h5" in said
    holdfast("export", home / "out.h5", "-o", home / "out.npy")
    holdfast("resume", home / "out.h5", "-o", home / "out.arrow", *CPU)


def test_a_server_that_does_not_answer_is_named_and_nothing_is_left(home: Path) -> None:
    url = "redis://:secret@127.0.0.1:1/0"
    for command in ("embed", "enqueue"):
        options = CPU if command == "embed" else ["--queues", "cpu0"]
        line = refused(
            home, 1, command, "good.fasta", "-m", "mock:8", "-o", "out.npy", *options, "--broker", url
        )
        assert "redis://:***@127.0.0.1:1/0: no server answers" in line
        assert not (home / "out.npy.holdfast").exists()


def test_a_wrong_password_is_said_to_be_that(home: Path, server: EmbeddedServer) -> None:
    assert server.address is not None
    url = f"redis://:guess@127.0.0.1:{server.address.port}/0"
    arguments = ["embed", "good.fasta", "-m", "mock:8", "-o", "out.npy", *CPU]
    line = refused(home, 1, *arguments, HOLDFAST_BROKER_URL=url)
    assert "refuses the password" in line
    assert "guess" not in line
    assert not (home / "out.npy.holdfast").exists()


def test_a_server_without_jobs_is_said_to_have_none(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    server = EmbeddedServer(JobDir(tmp_path / "server"), ProcessFile(tmp_path / "processes.json"))
    server.start()
    try:
        assert server.address is not None
        named = {"HOLDFAST_BROKER_URL": server.address.url}
        assert holdfast("status", **named).stdout.startswith("no jobs: ")
        assert json.loads(holdfast("status", "--json", **named).stdout) == []
    finally:
        server.stop()


EMBED = f"{sys.executable} -m queue_app.cli.main embed"


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces to mount a small disk")
@pytest.mark.parametrize(
    ("size", "dim", "message"),
    [
        ("200k", 8, "no room on the disk"),
        ("4m", 1024, r"needs 8.5 MB \(results 8.2 MB, checkpoints .* are free; make room"),
        ("800k", 8, "no room on the disk|the disk is full|cannot write its data"),
        ("16600k", 1024, "out.npy: no room on the disk"),
    ],
    ids=["for the shards", "told before it begins", "while it computes", "for the output"],
)
def test_a_full_disk_gives_one_line_and_the_work_goes_on_when_there_is_room(
    home: Path, size: str, dim: int, message: str
) -> None:
    write_fasta(home / "many.fasta", 2000)
    script = (
        # Killed, and not told, where it only waits: nobody makes room for what says nothing.
        f"timeout 60 {EMBED} many.fasta -m mock:{dim} -o small/out.npy --device cpu --workers 1 --quiet;"
        "echo $? >&2;"
        "mount -o remount,size=200m small;"
        f"{EMBED} many.fasta -m mock:{dim} -o small/out.npy --device cpu --workers 1 --json"
    )
    ended = small_disk(home, size, script)
    assert ended.returncode == 0, ended.stderr
    line, code = ended.stderr.splitlines()[:2]
    assert re.search(message, line)
    assert code == "1"
    assert json.loads(ended.stdout)["embedded"] == 2000


FILLED_HALF_WAY = """
export HOLDFAST_SCRATCH=$PWD/small
{embed} many.fasta -m mock:64,delay_ms=20 -o out.npy --device cpu --workers 1 --commit-seconds 0.2 2> said &
until grep -q committed out.npy.holdfast/logs/cpu0.log 2> /dev/null; do sleep 0.1; done
cat /dev/zero > small/fill 2> /dev/null
until grep -q "cannot begin: .*the disk is full" said; do sleep 0.1; done
rm small/fill
wait $!
"""


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces to mount a small disk")
def test_a_disk_that_fills_half_way_is_told_and_work_goes_on_by_itself_when_there_is_room(home: Path) -> None:
    write_fasta(home / "many.fasta", 1000)
    (home / "script.sh").write_text(FILLED_HALF_WAY.format(embed=EMBED))
    ended = small_disk(home, "8m", "bash script.sh")
    assert ended.returncode == 0, (ended.stderr, (home / "said").read_text())
    assert "1,000 of 1,000 sequences embedded" in ended.stdout


def test_json_is_all_that_stands_on_standard_output(home: Path) -> None:
    ended = holdfast("embed", home / "good.fasta", "-m", "mock:8", "-o", home / "out.npy", *CPU, "--json")
    answer = json.loads(ended.stdout)
    assert (answer["records"], answer["embedded"], answer["quarantined"]) == (20, 20, 0)
    assert ended.stderr == ""


def test_dashes_and_underscores_mean_the_same(home: Path) -> None:
    common = ["embed", home / "good.fasta", "-m", "mock:8", *CPU]
    holdfast(*common, "-o", home / "a.npy", "--store_dtype=float16", "--commit_seconds", "1")
    holdfast(*common, "-o", home / "b.npy", "--store-dtype=float16", "--commit-seconds", "1")
    assert (home / "a.npy").read_bytes() == (home / "b.npy").read_bytes()


@pytest.mark.parametrize("command", ["status", "resume", "verify", "export", "clean", "cancel"])
def test_a_job_that_is_not_there_is_a_wrong_command(home: Path, command: str) -> None:
    more = ["-o", "out.npy"] if command == "export" else []
    assert "none.holdfast" in refused(home, 2, command, "none.holdfast", *more)


@pytest.mark.parametrize("job", [".", "/", "sub/.."])
@pytest.mark.parametrize("command", ["status", "verify", "pause"])
def test_a_directory_without_a_name_of_its_own_is_a_wrong_command(home: Path, command: str, job: str) -> None:
    assert "no job here" in refused(home, 2, command, job)


@pytest.mark.parametrize("arguments", [["status", ""], ["embed", "", "-m", "mock:8", "-o", "out.npy"]])
def test_an_empty_argument_is_not_taken_for_this_directory(home: Path, arguments: list[str]) -> None:
    assert refused(home, 2, *arguments) == "an argument is empty: is a variable of the shell not set?"


def test_inside_its_directory_a_job_is_a_dot(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished / "out.h5.holdfast")
    assert "done  61/61 sequences" in holdfast("status", ".").stdout


@pytest.mark.parametrize("command", ["pause", "unpause", "cancel"])
def test_nobody_works_on_a_job_that_has_ended(finished: Path, command: str) -> None:
    line = refused(finished, 1, command, "out.h5")
    assert line.startswith("out.h5: nobody works on this job now; holdfast status tells how far it is")


def test_a_quarantine_says_so_where_there_is_nothing_to_list_or_to_try_again(finished: Path) -> None:
    assert holdfast("quarantine", finished / "texts.npy").stderr == "no record is quarantined\n"
    listed = holdfast("quarantine", finished / "out.h5")
    assert (listed.stdout.split("\t")[:2], listed.stderr) == (["60", "bad"], "")
    again = holdfast("quarantine", finished / "out.h5", "--retry")
    assert (again.stdout, again.stderr) == ("", "no record can be tried again as it stands\n")


@pytest.mark.parametrize("name", ["foo", "gpu", "gpu-1"])
def test_a_queue_that_names_no_device_is_refused_before_anything(home: Path, name: str) -> None:
    job = ["good.fasta", "-m", "mock:8", "-o", "out.npy"]
    for arguments in (["worker", "cpu0", name], ["enqueue", *job, "--queues", f"cpu0,{name}"]):
        assert f"queue {name!r} names no device" in refused(home, 2, *arguments)


def test_a_device_has_one_worker_and_a_job_one_kind_of_device(home: Path, server_url: str) -> None:
    assert "queue 'cpu0' is named twice" in refused(home, 2, "worker", "cpu0", "cpu0")
    job = ["enqueue", "good.fasta", "-m", "mock:8", "-o", "out.npy", "--broker", server_url]
    assert "cpu0, gpu0: a job runs on GPUs or on CPUs" in refused(home, 2, *job, "--queues", "cpu0,gpu0")
    assert not (home / "out.npy.holdfast").exists()


def test_what_is_not_said_on_the_command_line_is_what_a_request_leaves_open() -> None:
    said: dict[str, Any] = {"inputs": [Path("a.fasta")], "model": "mock:8", "output": Path("out.h5")}
    given = COMMANDS["embed"].make_context("embed", ["a.fasta", "-m", "mock:8", "-o", "out.h5"]).params
    assert EmbedRequest(**{name: given[name] for name in DECLARED}) == EmbedRequest(**said)


def test_how_to_run_has_the_same_defaults_in_a_request_as_in_a_job() -> None:
    request = EmbedRequest(inputs=[], model="mock:8", output=Path("out.h5"))
    assert request.run == RunOptions()
    of_exact = {"must_be_exact"}  # what asking for it means, beside the option of the job
    assert {field.name for field in fields(RunOptions)} - of_exact <= DECLARED.keys()


@pytest.mark.parametrize("command", ["embed", "plan", "enqueue"])
def test_the_commands_that_take_a_job_have_its_options_in_common(command: str) -> None:
    found = {each.name: each for each in COMMANDS[command].params}
    assert DECLARED.keys() <= found.keys()
    assert "request" not in found
    others = {each.name: each for each in COMMANDS["embed"].params}
    assert all(found[name].opts == others[name].opts for name in DECLARED)
    assert all(found[name].default == others[name].default for name in DECLARED if name != "output")


def test_the_help_names_every_command_in_a_whole_sentence() -> None:
    text = holdfast("--help").stdout
    for name, command in COMMANDS.items():
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [name])
        assert line.endswith(".")
        assert not line.endswith("...")
        assert f"\n{command.rich_help_panel}:\n" in text


def test_it_tells_its_version() -> None:
    assert holdfast("--version").stdout == f"{version('holdfast')}\n"


@pytest.mark.parametrize("command", ["clean", "export"])
def test_an_unfinished_job_is_neither_cleaned_nor_exported(home: Path, command: str, server_url: str) -> None:
    job = ["good.fasta", "-m", "mock:8", "-o", "out.npy", "--queues", "cpu9"]
    subprocess.run(
        [*HOLDFAST, "enqueue", *job], cwd=home, check=True, env=environment(HOLDFAST_BROKER_URL=server_url)
    )
    more = ["-o", "other.npy"] if command == "export" else []
    code = 2 if command == "clean" else HoldfastError.exit_code
    assert "not done" in refused(home, code, command, "out.npy.holdfast", *more)
    assert (home / "out.npy.holdfast" / "job.json").exists()


def test_the_documented_codes_are_those_of_the_errors() -> None:
    from queue_app import errors

    codes = {kind.__name__: kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert codes == {
        "HoldfastError": 1, "UsageError": 2, "InputError": 2, "WrongType": 2, "WrongReadout": 2,
        "ModelError": 2, "JobChanged": 2, "OtherVersion": 2, "JobNotFound": 2, "BrokerUnreachable": 1,
        "JobFailed": 1, "JobBusy": 1, "DiskFull": 1, "Damage": 4,
    }  # fmt: skip


def test_help_and_status_import_no_torch() -> None:
    for arguments in (["--help"], ["embed", "--help"], ["status", "none"]):
        code = (
            "import sys; from queue_app.cli.main import main; sys.argv = ['holdfast', *sys.argv[1:]]\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "print('torch' in sys.modules, file=sys.stderr)"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
        )
        assert ended.stderr.splitlines()[-1] == "False"


def test_help_waits_for_nothing_but_the_declarations() -> None:
    code = "import sys, queue_app.cli.main; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "numpy", "redis", "celery"} & set(ended.stdout.split())


def test_a_sequence_of_the_readme_is_embedded_from_every_format(home: Path) -> None:
    content = {
        "a.csv": f"id,sequence\nx,{protein(1)}\n",
        "b.tsv": f"name\tseq\nx\t{protein(1)}\n",
        "c.jsonl": json.dumps({"id": "x", "text": protein(1)}) + "\n",
        "d.txt": f"{protein(1)}\n",
        "e.faa": f">x\n{protein(1)}\n",
    }
    for name, text in content.items():
        (home / name).write_text(text)
    holdfast("embed", *(home / name for name in content), "-m", "mock:8", "-o", home / "all.npy", *CPU)
    import numpy as np

    vectors = np.load(home / "all.npy")
    assert len(vectors) == len(content)
    assert (vectors == vectors[0]).all()

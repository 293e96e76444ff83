"""What a user may name as input: files, directories, patterns, pipes, standard input."""

import logging
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from queue_app.choices import InputFormat
from queue_app.errors import InputError
from queue_app.ingest import prepare as preparing
from queue_app.ingest.gather import expand, gather, refuse_replacing
from queue_app.ingest.prepare import Prepared
from queue_app.ingest.readers.bounds.limits import Limits
from queue_app.ingest.readers.sources import Input, digest_inputs
from queue_app.ingest.request import EmbedRequest
from queue_app.job.directory import locked_job_directory
from queue_app.job.spec import InputFile
from tests.support.inline_job import prepare_here
from tests.support.input_files import as_standard_input, contents, standard_input
from tests.support.jobs_and_inputs import protein
from tests.support.waiting import wait_for

RECORDS = [(f"p{number}", protein(number)) for number in range(12)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a directory `data` of two FASTA files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("b.fasta.gz", "a.fa"):
        (tmp_path / "data" / name).write_bytes(contents(f".fasta{'.gz' if '.gz' in name else ''}", RECORDS))
    return tmp_path


def named(*names: str) -> list[str]:
    return [str(path) for path in expand([Path(name) for name in names])]


def gathered(*names: str) -> list[Input]:
    with gather([Path(name) for name in names], Path("piped")) as files:
        return files


# ---- directories and patterns


def test_a_directory_stands_for_its_files_in_the_order_of_their_names(home: Path) -> None:
    assert named("data") == ["data/a.fa", "data/b.fasta.gz"]
    assert named(str(home / "data")) == [str(home / "data/a.fa"), str(home / "data/b.fasta.gz")]


def test_what_in_a_directory_is_no_input_is_named(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("README.md", "notes", "x.pdf", "z.doc", ".hidden.fa"):
        (home / "data" / name).write_text("x")
    (home / "data" / "more").mkdir()
    (home / "data" / "more" / "c.fa").write_text(">c\nMK\n")
    with caplog.at_level(logging.WARNING):
        assert named("data") == ["data/a.fa", "data/b.fasta.gz"]
    (record,) = caplog.records
    assert record.getMessage() == "data: 2 files are inputs; ignored: README.md, more/, notes and 2 more"


def test_a_directory_of_ten_thousand_files_is_looked_through_once(home: Path) -> None:
    (home / "many").mkdir()
    for number in range(10_000):
        (home / "many" / f"{number:05}.fa").touch()
    before = time.process_time()
    assert len(named("many")) == 10_000
    assert time.process_time() - before < 5


def test_a_directory_of_several_formats_is_refused(home: Path) -> None:
    (home / "data" / "notes.txt").write_text("not a sequence\n")
    with pytest.raises(InputError) as refused:
        expand([Path("data")])
    assert str(refused.value) == (
        "data: files of several formats (2 FASTA, 1 plain lines): "
        "name those that are meant, as in 'data/*.fa'"
    )


def test_a_directory_without_inputs_is_refused(home: Path) -> None:
    (home / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: a directory without a file .* format: \.fasta, \.fa,"):
        expand([Path("empty")])


def test_outputs_that_lie_in_a_directory_are_none_of_its_inputs(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the same command would find other inputs the second time."""
    (home / "data" / "out.parquet.holdfast").mkdir()
    for name in ("out.parquet", "out.parquet.card.json", "out.parquet.quarantine.tsv"):
        (home / "data" / name).write_text("x")
    for name in ("a.npy", "a.npy.card.json", "a.ids.txt"):
        (home / "data" / name).write_text("x")
    assert named("data") == ["data/a.fa", "data/b.fasta.gz"]
    assert not caplog.records


def test_outputs_that_match_a_pattern_are_none_of_its_inputs(home: Path) -> None:
    for name in ("out.parquet.holdfast", "out", "work"):
        (home / "data" / name).mkdir()
    for name in ("out.parquet", "out/00000.parquet", "out.card.json", "work/job.json", "work/twins.arrow"):
        (home / "data" / name).write_text("x")
    assert named("data/*") == named("data") == ["data/a.fa", "data/b.fasta.gz"]
    with pytest.raises(InputError, match=r"data/\*\.parquet: no file matches"):
        named("data/*.parquet")


def test_a_job_directory_is_no_input(home: Path) -> None:
    (home / "data" / "job.json").write_text("{}")
    with pytest.raises(InputError, match="data: a job directory, and no input; holdfast resume data goes on"):
        named("data")


def test_a_broken_link_in_a_directory_is_not_left_out(home: Path) -> None:
    (home / "data" / "c.fa").symlink_to("nowhere.fa")
    with pytest.raises(InputError, match=r"data/c\.fa: a broken link"):
        gathered("data")


NOBODY = 65534


@pytest.mark.parametrize("name", ["data", "data/a.fa", "data/*.fa"])
def test_what_may_not_be_read_is_refused_by_name(home: Path, name: str) -> None:
    home.chmod(0o755)
    (home / "data").chmod(0)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(InputError, match=r"data.*: cannot be read: Permission denied|no file matches"):
            gathered(name)
    finally:
        if as_root:
            os.seteuid(0)
        (home / "data").chmod(0o755)


def test_a_pattern_means_what_the_shell_would_have_made_of_it(home: Path) -> None:
    assert named("data/*.fa*") == ["data/a.fa", "data/b.fasta.gz"]
    assert named(f"{home}/data/?.fa") == [f"{home}/data/a.fa"]
    assert named("dat[a]") == ["data/a.fa", "data/b.fasta.gz"]
    with pytest.raises(InputError, match=r"data/\*\.csv: no file matches this pattern"):
        named("data/*.csv")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(home: Path) -> None:
    (home / "a[1].fasta").write_text(">a\nMK\n")
    assert named("a[1].fasta") == ["a[1].fasta"]


def test_files_of_one_name_are_told_apart_by_their_directories(home: Path) -> None:
    (home / "more").mkdir()
    (home / "more" / "a.fa").write_text(">c\nMK\n")
    assert [file.title for file in gathered("data/a.fa", "more/a.fa")] == ["data/a.fa", "more/a.fa"]


@pytest.mark.parametrize("names", [("data", "data/a.fa"), ("data/a.fa", "data/../data/a.fa"), ("-", "-")])
def test_an_input_that_is_named_twice_is_refused(home: Path, names: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=": this input is named twice"):
        gathered(*names)


@pytest.mark.parametrize("output", ["data", "data/a.fa", "data/../data", "."])
def test_an_output_that_would_replace_an_input_is_refused(home: Path, output: str) -> None:
    with pytest.raises(InputError, match=f"data/a.fa: the output {output} would replace this input"):
        refuse_replacing(gathered("data"), Path(output))
    refuse_replacing(gathered("data"), Path("data/out.h5"))


@pytest.mark.parametrize("name", ["out.h5.quarantine.tsv", "out.h5.holdfast/results/a.parquet"])
def test_nothing_that_a_job_writes_may_be_an_input(home: Path, name: str) -> None:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text("id\tseq\na\tMK\n")
    with pytest.raises(InputError, match=f"{name}: the output out.h5 would replace this input"):
        refuse_replacing(gathered(name), Path("out.h5"))


def test_ids_beside_an_output_may_be_no_input_either(home: Path) -> None:
    (home / "out.ids.txt").write_text("MK\n")
    with pytest.raises(InputError, match=r"out\.ids\.txt: the output out\.npy would"):
        refuse_replacing(gathered("out.ids.txt"), Path("out.npy"))


# ---- pipes


def test_a_pipe_is_read_once_and_kept_while_it_is_needed(home: Path) -> None:
    os.mkfifo(home / "pipe.fasta")
    writer = threading.Thread(target=(home / "pipe.fasta").write_bytes, args=(contents(".fasta", RECORDS),))
    writer.start()
    with gather([Path("pipe.fasta")], Path("piped")) as (file,):
        assert file.path.read_bytes() == file.path.read_bytes() == contents(".fasta", RECORDS)
        assert file.title == "pipe.fasta"
    writer.join()
    assert not Path("piped").exists()


def test_what_a_killed_run_left_of_a_pipe_is_gone(home: Path) -> None:
    (home / "piped").mkdir()
    (home / "piped" / "0").write_text("old")
    gathered("data/a.fa")
    assert not Path("piped").exists()


def test_a_device_is_neither_a_file_nor_a_pipe(home: Path) -> None:
    with pytest.raises(InputError, match="/dev/null: neither a file nor a pipe"):
        gathered("/dev/null")


# ---- standard input


def prepared(home: Path, *inputs: Path, input_format: InputFormat | None = None) -> Prepared:
    """What `embed` does before it computes."""
    request = EmbedRequest(
        inputs=inputs, model="mock:8", output=home / "out.h5", alphabet="protein", input_format=input_format
    )
    with locked_job_directory(request.directory):
        return prepare_here(request)


NO_INPUT: dict[str, tuple[bytes, InputFormat | None, str]] = {
    "nothing": (b"", None, "stdin: nothing came out of it"),
    "no format": (b"id,seq\na,MK\n", None, "stdin: neither its name nor its first letter says what it is"),
    "a cut archive": (contents(".fasta.xz", RECORDS)[:-9], None, "stdin: near line"),
    "a bad line": (b"id,seq\na\n", "csv", "stdin: line 2: 1 fields"),
}


@pytest.mark.parametrize(("stdin", "form", "message"), NO_INPUT.values(), ids=NO_INPUT.keys())
def test_standard_input_that_is_none_is_refused_and_leaves_nothing(
    home: Path, stdin: bytes, form: InputFormat | None, message: str
) -> None:
    with pytest.raises(InputError) as refused, standard_input(stdin):
        prepared(home, Path("-"), input_format=form)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert not (home / "out.h5.holdfast").exists()


def test_an_input_that_grows_while_it_is_read_is_refused_by_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digested_and_grown(files: list[Input]) -> tuple[InputFile, ...]:
        found = digest_inputs(files)
        with (home / "data" / "a.fa").open("a") as file:
            file.write(">late\nMK\n")
        return found

    monkeypatch.setattr(preparing, "digest_inputs", digested_and_grown)
    with pytest.raises(InputError, match=r"data/a\.fa: changed while it was read; run again when"):
        prepared(home, Path("data"))
    assert not (home / "out.h5.holdfast" / "job.json").exists()


def test_a_terminal_is_no_input(home: Path) -> None:
    leader, follower = os.openpty()
    with (
        pytest.raises(InputError, match="stdin: a terminal; pipe a file into it"),
        as_standard_input(follower),
    ):
        gathered("-")
    os.close(leader)
    os.close(follower)


# ---- what is no file


def test_a_pipe_in_a_directory_is_left_out_and_named(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody meant it, and nobody may ever write to it."""
    os.mkfifo(home / "data" / "c.fasta")
    with caplog.at_level(logging.WARNING):
        assert named("data") == ["data/a.fa", "data/b.fasta.gz"]
    assert "ignored: c.fasta" in caplog.text


def test_a_pipe_that_a_pattern_matches_is_refused(home: Path) -> None:
    os.mkfifo(home / "data" / "c.fasta")
    with pytest.raises(
        InputError, match=r"data/c\.fasta: matches data/\*, and is no file; a pipe is read when"
    ):
        named("data/*")


def test_a_socket_is_neither_a_file_nor_a_pipe(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("listening.fasta")
        with pytest.raises(InputError, match=r"listening\.fasta: neither a file nor a pipe"):
            gathered("listening.fasta")


def test_a_pipe_that_nobody_writes_to_is_waited_for_and_that_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("queue_app.ingest.gather.TOLD_AFTER_SECONDS", (0.01, 60))
    os.mkfifo(home / "pipe.fasta")

    def write_when_told() -> None:
        wait_for(lambda: "pipe.fasta: nothing has come out of it" in caplog.text, "the line that says so")
        (home / "pipe.fasta").write_bytes(contents(".fasta", RECORDS))

    writer = threading.Thread(target=write_when_told)
    writer.start()
    with gather([Path("pipe.fasta")], Path("piped")) as (file,):
        assert file.path.read_bytes() == contents(".fasta", RECORDS)
    writer.join()


def test_what_cannot_be_read_from_a_descriptor_is_said(home: Path) -> None:
    with (
        pytest.raises(InputError, match="stdin: cannot be read: Is a directory"),
        as_standard_input(os.open("data", os.O_RDONLY)),
    ):
        gathered("-")


def test_links_that_lead_back_to_themselves_are_refused_by_name(home: Path) -> None:
    (home / "a.fasta").symlink_to("a.fasta")
    with pytest.raises(InputError, match=r"a\.fasta: a link that leads back to itself"):
        gathered("a.fasta")
    (home / "out.h5").symlink_to("out.h5")
    refuse_replacing(gathered("data"), Path("out.h5"))


def test_a_pattern_that_goes_round_in_links_for_ever_ends(home: Path) -> None:
    for name in ("x", "y"):
        (home / "data" / name).symlink_to(".")
    with pytest.raises(InputError, match=r"data/\*\*: more than 50 files: --limit files=100 allows twice"):
        expand([Path("data/**")], Limits(files=50))


def test_more_files_than_anybody_means_are_refused_with_the_option(home: Path) -> None:
    assert len(expand([Path("data")], Limits(files=2))) == 2
    with pytest.raises(InputError, match="data: more than 1 files: --limit files=2 allows twice as many"):
        expand([Path("data")], Limits(files=1))

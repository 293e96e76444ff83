"""PIR (NBRF): the title of a record is none of its residues, and what might be either is refused."""

from pathlib import Path

import pytest

from queue_app.errors import InputError
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset

# The example of the format's own description, and what Modeller writes.
NBRF = """>P1;CRAB_ANAPL
ALPHA CRYSTALLIN B CHAIN (ALPHA(B)-CRYSTALLIN).
  MDITIHNPLI RRPLFSWLAP SRIFDQIFGE HLQESELLPA SPSLSPFLMR
  SPIFRMPSWL ETGLSEMRLE KDKFSVNLDV KHFSPEELKV KVLGDMVEIH
  GKHEERQDEH GFIAREFNRK YRIPADVDPL TITSSLSLDG VLTVSAPRKQ
  SDVPERSIPI TREEKPAIAG AQRK*

>P1;CRAB_BOVIN
ALPHA CRYSTALLIN B CHAIN (ALPHA(B)-CRYSTALLIN).
  MDIAIHHPWI RRPFFPFHSP SRLFDQFFGE HLLESDLFPA STSLSPFYLR
  PPSFLRAPSW IDTGLSEMRL EKDRFSVNLD*
C;Comment: behind the end
R;A reference

>F1;5fd1
structureX:5fd1:1 :A:106 :A:ferredoxin:Azotobacter vinelandii: 1.90: 0.19
AFVVTDNCIKCKYTDCVEVCPVDCFYEGPNFLVIHPDECIDCALCEPECPAQAIFSEDEVPEDMQEFIQLNAELA
EVWPNITEKKDPLPDAEDWDGVKGKLQHLER*
"""


def by_hand(text: str) -> list[tuple[str, str]]:
    """As Biopython's parser of PIR reads it: code, and what stands between the title and the *."""
    found = []
    for record in text.split(">")[1:]:
        header, _, rest = record.partition("\n")
        _, _, rest = rest.partition("\n")
        found.append((header.split(";")[1].strip(), "".join(rest.partition("*")[0].split())))
    return found


def read(path: Path) -> list[tuple[str, str]]:
    dataset = Dataset([Input(path, path)], alphabet="protein")
    records = list(dataset)
    assert not [record.problem for record in records if record.problem]
    return [(record.id, record.sequence) for record in records]


@pytest.mark.parametrize("name", ["a.pir", "a.fasta", "a.txt", "a"])
def test_the_title_of_a_pir_record_is_none_of_its_residues(tmp_path: Path, name: str) -> None:
    (path := tmp_path / name).write_text(NBRF)
    found = read(path)
    assert found == by_hand(NBRF)
    assert [name for name, _ in found] == ["CRAB_ANAPL", "CRAB_BOVIN", "5fd1"]
    assert [len(sequence) for _, sequence in found] == [174, 80, 106]


def test_a_title_may_be_blank_or_begin_as_a_comment(tmp_path: Path) -> None:
    (path := tmp_path / "a.fasta").write_text(
        ">P1;a\n\nMKV*\n>P1;b\n; a title\nMK\n>sp|P1|x\nMKL\n".replace("MK\n", "MK*\n")
    )
    assert read(path) == [("a", "MKV"), ("b", "MK"), ("sp|P1|x", "MKL")]


NOT_PIR = {
    "no end": ">P1;a\na title\nMKV\n",
    "no title": ">P1;a\nMKVLAT*\n",
    "residues in place of a title": f">P1;a\n{'MKVLATGLSDG' * 5}\nMKV*\n",
    "nothing but a header": ">P1;a\n",
    "letters behind the end": ">P1;a\na title\nMKV*\nMKL\n",
}


@pytest.mark.parametrize("case", NOT_PIR)
def test_what_might_be_fasta_with_such_a_header_is_refused(tmp_path: Path, case: str) -> None:
    (path := tmp_path / "a.fasta").write_text(f">x\nMK\n{NOT_PIR[case]}")
    with pytest.raises(InputError, match=r"a\.fasta: line 3: .*PIR"):
        read(path)


def test_headers_that_only_look_like_it_are_those_of_fasta(tmp_path: Path) -> None:
    (path := tmp_path / "a.fasta").write_text(">P12345;x\nMK\n>P1 a;b\nMV\n>sp;P1\nML\n")
    assert read(path) == [("P12345;x", "MK"), ("P1", "MV"), ("sp;P1", "ML")]

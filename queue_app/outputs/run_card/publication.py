"""How a publication is written: in the text of a paper, in its list of references, and for BibTeX."""

from collections.abc import Sequence
from dataclasses import dataclass

AUTHORS_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One publication. `authors` are separated by semicolons, each as `Family, G.`, or one group's name.

    `venue` is the journal, the proceedings or, with `arxiv` (its number there), nothing.
    """

    authors: str
    year: int | None
    title: str
    venue: str = ""
    volume: str = ""
    number: str = ""
    pages: str = ""
    doi: str = ""
    arxiv: str = ""
    url: str = ""
    version: str = ""
    is_in_proceedings: bool = False

    @property
    def names(self) -> Sequence[str]:
        return self.authors.split("; ")

    def in_text(self) -> str:
        """`Lin et al., 2023`, `Reimers and Gurevych, 2019`."""
        families = [name.partition(",")[0] for name in self.names]
        named = " and ".join(families) if len(families) < 3 else f"{families[0]} et al."
        return f"{named}, {self.year}" if self.year else named

    def short_title(self) -> str:
        """What stands before the colon."""
        return self.title.partition(":")[0]

    def reference(self) -> str:
        """The line of a list of references."""
        shown = [*self.names[:AUTHORS_SHOWN], *(["et al."] if len(self.names) > AUTHORS_SHOWN else [])]
        year = f" ({self.year})" if self.year else ""
        told = [f"{'; '.join(shown)}{year}", self.title, self._where(), self._link()]
        return ". ".join(part.rstrip(".") for part in told if part) + "."

    def bibtex(self, key: str) -> str:
        """Its entry, under this key."""
        fields = {
            "author": self._bibtex_authors(),
            "title": f"{{{self.title}}}",
            **({("booktitle" if self.is_in_proceedings else "journal"): self.venue} if self.venue else {}),
            "volume": self.volume,
            "number": self.number,
            "pages": self.pages.replace("-", "--"),
            "year": str(self.year or ""),
            "version": self.version,
            "doi": self.doi,
            **({"eprint": self.arxiv, "archiveprefix": "arXiv"} if self.arxiv else {}),
            "url": self.url,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{self._bibtex_kind()}{{{key},", *lines, "}"])

    def _bibtex_kind(self) -> str:
        if self.version:
            return "software"
        if self.is_in_proceedings:
            return "inproceedings"
        return "article" if self.venue else "misc"

    def _bibtex_authors(self) -> str:
        """A group's name is kept together by braces."""
        return " and ".join(name if "," in name else f"{{{name}}}" for name in self.names)

    def _where(self) -> str:
        """`Science 379(6637), 1123-1130`, or `Version 0.1.0`."""
        if self.version:
            return f"Version {self.version}"
        volume = f" {self.volume}" + (f"({self.number})" if self.number else "") if self.volume else ""
        return f"{self.venue}{volume}" + (f", {self.pages}" if self.pages else "")

    def _link(self) -> str:
        if self.doi:
            return f"doi:{self.doi}"
        return f"arXiv:{self.arxiv}" if self.arxiv else self.url

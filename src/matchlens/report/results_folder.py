"""The studies of a results folder, as the page reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from matchlens.report.texts import shown
from matchlens.results import Result, read_manifest, records

Row = dict[str, object]
FIGURES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "table-1": (("ablation", "*"),),
    "figure-1a": tuple((f"sweep-{kind}", "*") for kind in ("up-to", "from", "only", "window")),
    "heads": (("sweep-heads", "*"),),
    "screen": (("screen", "*"),),
    "figure-1b": (("attention", "1b*"),),
    "figure-1c": (("attention", "1c*"),),
    "no-op": (("attention", "no-op*"),),
    "lexical": (("attention", "lexical*"),),
    "matching": (("attention", "sets*"),),
    "figure-2": (("circuits", "[!s]*"),),
    "hypothesis": (("circuits", "shares*"),),
    "controls": (("controls", "*"),),
    "explain": (("explain", "*"),),
}
"""The files of an exhibit's figures: the study and a pattern of their names."""


def listed_mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the mappings of a list; a manifest may hold anything."""
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, Mapping)]


@dataclass(frozen=True)
class ResultsFolder:
    """A results folder's studies, in the manifest's order; ``folder`` is None if not saved."""

    manifest: Mapping[str, object]
    studies: Mapping[str, Result]
    read: dict[tuple[str, str], list[Row]] = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def load(cls, folder: Path) -> ResultsFolder:
        """Read all studies of a folder."""
        return cls(read_manifest(folder), Result.load_all(folder), folder=folder)

    def figures(self, exhibit: str) -> list[tuple[str, list[str]]]:
        """Return the figures for papers that lie beside the page."""
        files = []
        for study, pattern in FIGURES.get(exhibit, ()):
            paths = self.folder.glob(f"{study}/figures/{pattern}.svg") if self.folder else ()
            for path in sorted(paths):
                if path.with_suffix(".pdf").is_file():
                    address = quote(f"{study}/figures/{path.stem}")
                    numbered = len(path.stem) == 2 and path.stem.isdigit()
                    name = f"{study} {path.stem}" if numbered else path.stem
                    files.append((shown(name, 80), [f"{address}.svg", f"{address}.pdf"]))
        return files

    def get(self, study: str) -> Result | None:
        """Return a study, None where it was not run."""
        return self.studies.get(study)

    def rows(self, study: str, table: str) -> list[Row]:
        """Return a table's rows; empty where there is none."""
        if (study, table) not in self.read:
            result = self.get(study)
            known = result is not None and table in result.tables
            self.read[study, table] = records(result.to_frame(table)) if known else []  # type: ignore[union-attr]
        return list(self.read[study, table])

    def about(self, key: str) -> Mapping[str, object]:
        """Return a part of the identity; empty where it has none."""
        identity = self.manifest["identity"]
        part = identity.get(key) if isinstance(identity, Mapping) else None
        return part if isinstance(part, Mapping) else {}

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.about("model").get("name", "a model"))

    @property
    def collections(self) -> list[str]:
        """The collections' names."""
        sources = listed_mappings(self.about("pairs").get("sources"))
        return [str(source.get("collection", "?")) for source in sources]

    def option(self, study: str, key: str) -> object:
        """Return an option of a study, None where it has none."""
        result = self.get(study)
        return None if result is None else result.options.get(key)

    def digits(self, study: str) -> int:
        """Return the decimals that the study's preset prints."""
        digits = self.option(study, "digits")
        return digits if isinstance(digits, int) else 3

"""What a results folder holds for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from matchlens.results import Result, read_manifest, records

Row = dict[str, object]


@dataclass(frozen=True)
class ResultsFolder:
    """A results folder's studies.

    Args:
        manifest: the manifest.
        studies: name to what was found, in the manifest's order.
        seen: rows of tables that were read already.
    """

    manifest: Mapping[str, object]
    studies: Mapping[str, Result]
    seen: dict[tuple[str, str], list[Row]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> ResultsFolder:
        """Read all studies of a folder.

        Raises:
            InputError: if it is no results folder, or a file cannot be read.
        """
        return cls(read_manifest(folder), Result.load_all(folder))

    def get(self, study: str) -> Result | None:
        """A study, None where it was not run."""
        return self.studies.get(study)

    def frame(self, study: str, table: str) -> pd.DataFrame | None:
        """A table with at least one row, None where there is none."""
        result = self.get(study)
        if result is None or table not in result.tables or not len(result.tables[table]):
            return None
        return result.to_frame(table)

    def rows(self, study: str, table: str) -> list[Row]:
        """A table's rows; empty where there is none."""
        if (study, table) not in self.seen:
            frame = self.frame(study, table)
            self.seen[study, table] = [] if frame is None else records(frame)
        return list(self.seen[study, table])

    @property
    def identity(self) -> Mapping[str, object]:
        """Model, pairs and versions."""
        found = self.manifest["identity"]
        return found if isinstance(found, Mapping) else {}

    def about(self, key: str) -> Mapping[str, object]:
        """A part of the identity; empty where it has none."""
        found = self.identity.get(key)
        return found if isinstance(found, Mapping) else {}

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.about("model").get("name", "a model"))

    @property
    def collections(self) -> list[str]:
        """The collections' names."""
        sources = self.about("pairs").get("sources")
        listed = sources if isinstance(sources, list) else []
        return [str(one.get("collection", "?")) for one in listed if isinstance(one, Mapping)]

    def option(self, study: str, key: str) -> object:
        """An option of a study, None where it has none."""
        result = self.get(study)
        return None if result is None else result.options.get(key)

    def digits(self, study: str) -> int:
        """Decimals that the study's preset prints."""
        given = self.option(study, "digits")
        return given if isinstance(given, int) else 3

"""A results folder as :func:`matchlens.compare` sees it: what can differ, with the values."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matchlens.results import Result

RANKING = ("measure", "rel", "rank_easy", "pairs_run", "most_pairs")
"""Options that must agree where rankings are tested against each other."""
ASPECTS = (
    *(*RANKING, "tie_tol", "preset", "stars", "seed", "hows", "sets", "meters", "thresholds"),
    "aggregate",
)
"""Options that are compared, study by study."""
SHORT = 60
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class ComparedFolder:
    """What one folder holds."""

    name: str
    identity: Mapping[str, object]
    studies: Mapping[str, Result]

    def part(self, name: str) -> Mapping[str, Any]:
        """A part of the identity: model, pairs or versions."""
        part = self.identity[name]
        assert isinstance(part, Mapping)  # noqa: S101
        return part

    @property
    def collections(self) -> list[str]:
        """The names of the pairs' collections."""
        return [str(source["collection"]) for source in self.part("pairs")["sources"]]

    def option(self, name: str, study: str = "") -> object:
        """An option of a study, else of the first study that has it; None where none has."""
        studies = [self.studies[study]] if study else self.studies.values()
        options = (result.options for result in studies if name in result.options)
        return next(options, {}).get(name)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Every aspect that is compared, with its value as JSON."""
        yield from _flat({key: value for key, value in self.identity.items() if key != "pairs"})
        pairs = {key: value for key, value in self.part("pairs").items() if key != "sources"}
        yield from _flat({"pairs": pairs})
        yield "pairs.collections", as_json(self.collections)
        for name in ("layers", "heads"):
            yield name, as_json(self.option(name))
        for study, result in self.studies.items():
            for name in ASPECTS:
                if name in result.options:
                    yield f"{study}.{name}", as_json(result.options[name])
        if "study" in self.studies:  # the option of `explain` by this name is a result
            yield "study.margin", as_json(self.option("margin", "study"))


def _flat(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, as_json(value)


def as_json(value: object) -> str:
    """A value as JSON in one line."""
    return json.dumps(value, ensure_ascii=False)


def excerpts(texts: Sequence[str]) -> list[str]:
    """Texts of at most SHORT characters each, from about where they first differ.

    >>> [text[-4:] for text in excerpts(["a" * 99 + "b", "a" * 99 + "c"])]
    ['aaab', 'aaac']
    """
    letters = enumerate(itertools.zip_longest(*texts))
    at = next((place for place, those in letters if len(set(those)) > 1), 0)
    start = at - SHORT // 2 if at >= SHORT - 1 else 0
    shown = []
    for text in texts:
        piece = f"{'…' if start else ''}{text[start:]}"
        shown.append(piece if len(piece) <= SHORT else f"{piece[: SHORT - 1]}…")
    return shown


def values_listed(values: Mapping[str, object]) -> str:
    """A value of each folder, behind its name."""
    return "; ".join(f"{folder}: {value}" for folder, value in values.items())


def all_equal(values: Iterable[object]) -> bool:
    """Whether all values are the same."""
    return len({as_json(value) for value in values}) <= 1

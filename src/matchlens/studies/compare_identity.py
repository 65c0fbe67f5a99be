"""What differs between results folders, and what therefore cannot be compared."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from matchlens.results import Result

RANKING = ("measure", "rel", "rank_easy", "pairs_run", "most_pairs")
"""Options that must agree where rankings are tested against each other."""
ASPECTS = (*RANKING, "tie_tol", "preset", "stars", "seed", "hows", "meters", "thresholds")
"""Options that are compared, study by study."""
SHORT = 60
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class ComparedFolder:
    """What one folder holds.

    Args:
        name: what it is called in the comparison.
        identity: model, pairs and versions.
        studies: the studies that can be compared, by name.
    """

    name: str
    identity: Mapping[str, object]
    studies: Mapping[str, Result]

    def option(self, name: str) -> object:
        """An option of the first study that has it; None where none has."""
        for result in self.studies.values():
            if name in result.options:
                return result.options[name]
        return None


def differences(held: Sequence[ComparedFolder]) -> pd.DataFrame:
    """Every aspect in which folders differ, with the value in each.

    Args:
        held: the folders.

    Returns:
        Columns aspect, folder, value (JSON, short), in the order of the manifest.
    """
    facts = [dict(_facts(one)) for one in held]
    rows = []
    for aspect in dict.fromkeys(itertools.chain(*facts)):
        values = [fact.get(aspect, "-") for fact in facts]
        if len(set(values)) > 1:
            for one, value in zip(held, values, strict=True):
                rows.append({"aspect": aspect, "folder": one.name, "value": value})
    return pd.DataFrame(rows, columns=["aspect", "folder", "value"])


def _facts(one: ComparedFolder) -> Iterator[tuple[str, str]]:
    identity = {key: value for key, value in one.identity.items() if key != "pairs"}
    yield from _flat(identity)
    pairs = _mapping(one.identity["pairs"])
    yield from _flat({"pairs": {key: value for key, value in pairs.items() if key != "sources"}})
    yield "pairs.collections", _short([str(s["collection"]) for s in _sources(one)])
    for name in ("layers", "heads"):
        yield name, _short(one.option(name))
    for study, result in one.studies.items():
        for name in ASPECTS:
            if name in result.options:
                yield f"{study}.{name}", _short(result.options[name])


def _flat(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, _short(value)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


def said_of(held: Sequence[ComparedFolder]) -> list[tuple[str, str]]:
    """Sentences: what is the same, what differs and what follows from it.

    Args:
        held: the folders.

    Returns:
        Kind (``same``, ``differs`` or ``cannot``) and sentence, the most important first.
    """
    said: list[tuple[str, str]] = []
    one_model = _equal(_mapping(one.identity["model"]).get("sha256") for one in held)
    names = [f"{one.name}: {_mapping(one.identity['model'])['name']}" for one in held]
    if one_model:
        said.append(("same", f"one model in all folders ({names[0].partition(': ')[2]})"))
    else:
        said.append(("differs", f"the models ({'; '.join(names)})"))
    counts = [
        f"{one.name}: {_mapping(one.identity['pairs'])['number']} of "
        f"{', '.join(str(source['collection']) for source in _sources(one))}"
        for one in held
    ]
    if _equal(_mapping(one.identity["pairs"])["sha256"] for one in held):
        said.append(("same", f"the same pairs in all folders ({counts[0].partition(': ')[2]})"))
    else:
        said.append(("differs", f"the pairs ({'; '.join(counts)})"))
        words = "values of folders with different pairs stand side by side, no test is between them"
        said.append(("cannot", words))
    shapes = [(one.option("layers"), one.option("heads")) for one in held]
    if not _equal(shapes):
        listed = "; ".join(
            f"{one.name}: {layers} x {heads}"
            for one, (layers, heads) in zip(held, shapes, strict=True)
        )
        said.append(("differs", f"the models' layers and heads ({listed})"))
        said.append(("cannot", "heads of models of different shapes cannot be matched up"))
    elif not one_model and sum("attention" in one.studies for one in held) > 1:
        words = "a head is matched up by its layer and number, which models trained apart from "
        said.append(("differs", f"{words}each other need not share"))
    for name, words in (
        ("measure", "values of different measures are not comparable"),
        ("stars", "stars are of different tests"),
        ("rank_easy", "rankings with easy negatives and without are not comparable"),
    ):
        values = {one.name: one.option(name) for one in held if one.option(name) is not None}
        if not _equal(values.values()):
            listed = "; ".join(f"{folder}: {value}" for folder, value in values.items())
            said.append(("differs", f"{name} ({listed}): {words}"))
    versions = [_mapping(one.identity["versions"]) for one in held]
    apart = [key for key in versions[0] if not _equal(version.get(key) for version in versions)]
    if apart:
        said.append(("differs", f"versions of {', '.join(apart)}: numbers may differ by rounding"))
    for study in ("ablation", "sweep-up-to", "attention"):
        missing = [one.name for one in held if study not in one.studies]
        if missing:
            said.append(("cannot", f"{', '.join(missing)} hold no study {study}"))
    return said


def same_pairs(first: ComparedFolder, second: ComparedFolder) -> str | None:
    """Why two folders' rankings cannot be tested against each other; None where they can.

    Args:
        first: a folder with an ablation.
        second: another one.
    """
    pairs = [_mapping(one.identity["pairs"])["sha256"] for one in (first, second)]
    if pairs[0] != pairs[1]:
        return "their pairs differ"
    options = [one.studies["ablation"].options for one in (first, second)]
    for name in RANKING:
        if options[0].get(name) != options[1].get(name):
            return f"{name} is {options[0].get(name)} and {options[1].get(name)}"
    return None


def _equal(values: object) -> bool:
    return len({_short(value) for value in values}) <= 1  # type: ignore[attr-defined]


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)  # noqa: S101
    return value


def _sources(one: ComparedFolder) -> list[Mapping[str, object]]:
    sources = _mapping(one.identity["pairs"])["sources"]
    assert isinstance(sources, list | tuple)  # noqa: S101
    return list(sources)

"""Results folders side by side: several models, or one model on several collections."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.errors import InputError, visible
from matchlens.ranking import compare as over_queries
from matchlens.reading import read_back
from matchlens.results import Result, read_manifest
from matchlens.studies.compare_heads import compare_heads
from matchlens.studies.compare_identity import ComparedFolder, differences, said_of, same_pairs
from matchlens.studies.contrasts import is_earlier
from matchlens.studies.cut_modes import starred
from matchlens.studies.measuring import RANDOM

NAME = "comparison"
STUDIES = ("ablation", "sweep-up-to", "attention", "study")
"""Studies that are set side by side."""
MOST = 9
"""Folders at most: so many lines can be told apart in a figure."""
CELL = (
    "queries", "mean", "original", "diff", "ci_low", "ci_high", "p_holm", "p_unpaired", "kept",
    "tau_b", "score_change", "significant",
)  # fmt: skip
CLAIM = ("id", "claim", "verdict", "value", "low", "high", "unit", "n", "n_of", "p", "found")


@typed
def compare(folders: Iterable[str | Path], *, seed: int = 0) -> Result:
    """Set results folders side by side: Table 1, Figure 1a, matching heads, claims.

    What differs between the folders comes first, since it says what cannot be compared. Only
    folders of the same pairs, ranked by the same measure, are tested against each other.

    Args:
        folders: two to nine results folders.
        seed: of permutations and resampling.

    Returns:
        Tables ``folders``, ``said`` (sentences: what is the same, what differs, what follows),
        ``differences``, and as far as two folders or more hold the study: ``table1`` (a row a
        folder and cut), ``curves`` (a row for each folder, direction and n), ``paired`` (a row two
        folders and condition: the original, or the change under a cut; second less first),
        ``heads`` and ``overlaps`` (matching heads), ``claims``.

    Raises:
        InputError: if there are not two to nine folders, one is no results folder, one is given
            twice, or no two have a study in common.

    >>> import tempfile, matchlens
    >>> place, pairs = tempfile.mkdtemp(), matchlens.choose(matchlens.demo.load(), queries=3)
    >>> for cut in ("Q->D", "D->Q"):
    ...     done = matchlens.ablation(matchlens.load("demo"), pairs, cuts=[cut])
    ...     _ = done.save(f"{place}/{cut[0]}")
    >>> result = matchlens.compare([f"{place}/Q", f"{place}/D"])
    >>> result.to_frame("paired")[["condition", "diff"]].to_numpy().tolist()
    [['', 0.0]]
    """
    places = [Path(folder) for folder in folders]
    with read_back(*places):
        return _compared(_held(places), seed)


def _compared(held: Sequence[ComparedFolder], seed: int) -> Result:
    tables = {
        "folders": _folders(held),
        "said": pd.DataFrame(),
        "differences": differences(held),
    }
    said = said_of(held)
    tables |= _cells(held) | _curves(held)
    found, more = _paired(held, seed)
    tables |= found
    said += more
    found, more = _heads(held, seed)
    tables |= found | _claims(held)
    said += more
    tables["said"] = pd.DataFrame(said, columns=["kind", "sentence"])
    nothing = pd.DataFrame({"cut": [], "pair": [], "score": []})
    return Result(
        study=NAME,
        identity={"comparison": {one.name: dict(one.identity) for one in held}},
        options={"folders": [one.name for one in held], "seed": seed, "digits": _digits(held)},
        notes=(),
        pairs=pd.DataFrame({"pair": []}),
        scores=nothing,
        tables=tables,
    )


def _held(folders: Sequence[Path]) -> list[ComparedFolder]:
    if not 2 <= len(folders) <= MOST:
        raise InputError(
            f"{len(folders)} results folder{'s' * (len(folders) != 1)} to compare; expected 2 to "
            f"{MOST}: give each folder that a study was written to"
        )
    real = [Path(os.path.realpath(folder)) for folder in folders]
    for place, path in enumerate(real):
        if path in real[:place]:
            raise InputError(f"{str(folders[place])!r} is given twice; give each folder once")
    held = []
    for folder, name in zip(folders, _names(real), strict=True):
        manifest = read_manifest(folder)
        _check_identity(manifest["identity"], folder)
        others = [study for study in manifest["studies"] if study not in STUDIES]
        loaded = Result.load_all(folder, without=others)
        studies = {study: loaded[study] for study in STUDIES if study in loaded}
        held.append(ComparedFolder(name, manifest["identity"], studies))
    if not any(len([one for one in held if study in one.studies]) > 1 for study in STUDIES):
        listed = "; ".join(f"{one.name}: {', '.join(one.studies) or 'none'}" for one in held)
        raise InputError(
            f"the folders have no study in common that can be compared ({listed}); expected two "
            f"or more folders with one of {', '.join(STUDIES)}"
        )
    return held


def _check_identity(identity: Mapping[str, object], folder: Path) -> None:
    """See that a manifest says of what its results are."""
    if "comparison" in identity:
        raise InputError(
            f"{str(folder)!r} holds a comparison; expected a folder that a study was written to"
        )
    parts = [identity.get(name) for name in ("model", "pairs", "versions")]
    sources = parts[1].get("sources") if isinstance(parts[1], Mapping) else None
    if not all(isinstance(part, Mapping) for part in parts) or not isinstance(sources, list):
        raise InputError(
            f"the manifest of {str(folder)!r} does not say model, pairs and versions; expected a "
            "folder that a study was written to"
        )


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart, without invisible characters."""
    names = []
    for place, path in enumerate(paths):
        others = [one.parts for number, one in enumerate(paths) if number != place]
        length = 1
        while any(path.parts[-length:] == one[-length:] for one in others):
            length += 1
        end = "/".join(path.parts[-length:])
        name = visible(end)
        names.append(f"{name} ({place + 1})" if name in names else name)
    return names


def _digits(held: Sequence[ComparedFolder]) -> int:
    """The most decimals that a folder's preset prints."""
    return max(int(str(one.option("digits") or 3)) for one in held)


def _folders(held: Sequence[ComparedFolder]) -> pd.DataFrame:
    rows = []
    for one in held:
        model, pairs = one.identity["model"], one.identity["pairs"]
        assert isinstance(model, Mapping)  # noqa: S101
        assert isinstance(pairs, Mapping)  # noqa: S101
        rows.append(
            {
                "folder": one.name,
                "model": str(model["name"]),
                "type": str(model.get("type", "")),
                "layers": one.option("layers"),
                "heads": one.option("heads"),
                "collections": ", ".join(str(source["collection"]) for source in pairs["sources"]),
                "pairs": pairs["number"],
                "measure": one.option("measure"),
                "original": one.option("original"),
                "random": one.option("random"),
                "studies": ", ".join(one.studies),
            }
        )
    return pd.DataFrame(rows)


def _having(held: Sequence[ComparedFolder], study: str) -> list[ComparedFolder]:
    """The folders that hold a study, where they are two or more."""
    having = [one for one in held if study in one.studies]
    return having if len(having) > 1 else []


def _cells(held: Sequence[ComparedFolder]) -> dict[str, pd.DataFrame]:
    tables = []
    for one in _having(held, "ablation"):
        result = one.studies["ablation"]
        table = result.to_frame("table1")
        table["significant"] = starred(table, str(result.options["stars"]))
        table = table[["cut", *CELL]]
        table.insert(0, "folder", one.name)
        tables.append(table)
    return {"table1": pd.concat(tables, ignore_index=True)} if tables else {}


def _curves(held: Sequence[ComparedFolder]) -> dict[str, pd.DataFrame]:
    tables = []
    for one in _having(held, "sweep-up-to"):
        result = one.studies["sweep-up-to"]
        table = result.to_frame("points")
        table["significant"] = starred(table, str(result.options["stars"]))
        table = table[["direction", "how", "n", "cut", *CELL]]
        table.insert(0, "folder", one.name)
        tables.append(table)
    return {"curves": pd.concat(tables, ignore_index=True)} if tables else {}


def _paired(
    held: Sequence[ComparedFolder], seed: int
) -> tuple[dict[str, pd.DataFrame], list[tuple[str, str]]]:
    """Tests between every two folders whose rankings are of the same candidates."""
    tables, said = [], []
    for first, second in itertools.combinations(_having(held, "ablation"), 2):
        reason = same_pairs(first, second)
        if reason is not None:
            said.append(("cannot", f"{first.name} and {second.name} are not tested: {reason}"))
            continue
        wide = [_wide(one) for one in (first, second)]
        if not wide[0][0].index.equals(wide[1][0].index):
            words = "they were measured on different queries"
            said.append(("cannot", f"{first.name} and {second.name} are not tested: {words}"))
            continue
        where = [str(collection) for collection in wide[0][0].index.get_level_values(0)]
        values = [one[0][""].to_numpy(dtype=np.float64) for one in wide]
        table = over_queries(values[1][None], values[0], where, seed=seed)
        rows = [_row("", values[0], values[1], table.iloc[0])]
        common = [cut for cut in wide[0][1].columns if cut and cut in wide[1][1].columns]
        if common:
            changes = [one[1][common].to_numpy(dtype=np.float64).T for one in wide]
            apart = changes[1] - changes[0]
            table = over_queries(apart, np.zeros(apart.shape[1]), where, seed=seed)
            rows += [
                _row(cut, changes[0][place], changes[1][place], table.iloc[place])
                for place, cut in enumerate(common)
            ]
        made = pd.DataFrame(rows)
        made.insert(0, "first", first.name)
        made.insert(1, "second", second.name)
        tables.append(made)
    return ({"paired": pd.concat(tables, ignore_index=True)} if tables else {}), said


def _wide(one: ComparedFolder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Value and change by query (rows, in order of their ids) and cut."""
    queries = one.studies["ablation"].to_frame("queries")
    queries = queries[queries["cut"] != RANDOM]
    index = ["collection", "qid"]
    value, change = (
        queries.pivot(index=index, columns="cut", values=name).sort_index()
        for name in ("value", "diff")
    )
    order = list(dict.fromkeys(queries["cut"]))
    return pd.DataFrame(value[order]), pd.DataFrame(change[order])


def _row(
    condition: str, first: np.ndarray, second: np.ndarray, test: pd.Series
) -> dict[str, object]:
    kept = ("n", "diff", "ci_low", "ci_high", "p", "p_holm", "p_flip", "significant")
    means = {"first_mean": float(first.mean()), "second_mean": float(second.mean())}
    return {"condition": condition, **means, **{name: test[name] for name in kept}}


def _heads(
    held: Sequence[ComparedFolder], seed: int
) -> tuple[dict[str, pd.DataFrame], list[tuple[str, str]]]:
    """The lists of matching heads, and how far every two of one shape agree."""
    having = _having(held, "attention")
    if not having:
        return {}, []
    lists, overlaps, said = [], [], []
    for one in having:
        table = one.studies["attention"].to_frame("matching")
        if len(table) and not is_earlier(one.studies["attention"].tables):
            columns = ["direction", "layer", "head", "kind", "held", "auc", "p_holm"]
            mine = pd.DataFrame(table[table["matching"]])[columns]
            mine.insert(0, "folder", one.name)
            lists.append(mine)
    for first, second in itertools.combinations(having, 2):
        try:
            table = compare_heads(
                first.studies["attention"], second.studies["attention"], seed=seed
            )
        except InputError as error:
            words = f"the matching heads of {first.name} and {second.name} cannot be matched up"
            said.append(("cannot", f"{words}: {error}"))
            continue
        table = table.rename(columns={"first": "first_heads", "second": "second_heads"})
        table.insert(0, "first", first.name)
        table.insert(1, "second", second.name)
        overlaps.append(table)
    tables = {}
    if lists:
        every = pd.concat(lists, ignore_index=True)
        every["folders"] = every.groupby(["direction", "layer", "head"])["folder"].transform("size")
        tables["heads"] = every
    if overlaps:
        tables["overlaps"] = pd.concat(overlaps, ignore_index=True)
    return tables, said


def _claims(held: Sequence[ComparedFolder]) -> dict[str, pd.DataFrame]:
    tables = []
    for one in held:
        result = one.studies.get("study")
        if result is not None and "claims" in result.tables:
            table = result.to_frame("claims")
            table = pd.DataFrame(table[[name for name in CLAIM if name in table]])
            table.insert(0, "folder", one.name)
            tables.append(table)
    return {"claims": pd.concat(tables, ignore_index=True)} if len(tables) > 1 else {}

"""Results folders side by side: several models, or one model on several collections."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.errors import InputError, visible
from matchlens.ranking import compare as over_queries
from matchlens.reading import read_back
from matchlens.results import Result, read_manifest
from matchlens.studies.attention.contrasts import EARLIER, is_earlier
from matchlens.studies.cuts.cut_modes import starred
from matchlens.studies.cuts.cut_study import RANDOM

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
    """Why two folders' rankings cannot be tested against each other; None where they can."""
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


@typed
def compare_heads(first: Result, second: Result, *, seed: int = 0) -> pd.DataFrame:
    """How far two attention studies agree about the matching heads.

    Args:
        first: what :func:`matchlens.attention` returned.
        second: likewise, of a model with as many layers and heads.
        seed: of the permutations and resamples.

    Returns:
        A row for each direction that both have: heads (of the model), first and second (matching
        heads found by each), both, expected (by chance), p (chance of an overlap as large,
        one-sided hypergeometric test), rho (Spearman's correlation of the AUC on the describing
        halves, over all heads) with rho_p (permutations inside layers), rho_by_layer (what layers
        alone give), rho_low and rho_high.

    Raises:
        InputError: if a result has no list of matching heads, or the shapes differ.

    Source: science 4; the test of an overlap is the hypergeometric one.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=10, per_grade=1, easy=2)
    >>> result = matchlens.attention(matchlens.load("demo"), pairs, meters=["mass"], causal=False)
    >>> matchlens.compare_heads(result, result)["rho"].round(3).tolist()
    [1.0, 1.0]
    """
    from scipy.stats import hypergeom

    from matchlens.qk import spearman

    tables = []
    for result in (first, second):
        if is_earlier(result.tables):
            raise InputError(f"matching heads cannot be compared: {EARLIER}")
        table = result.to_frame("matching")
        if table.empty:
            raise InputError(
                "a result has no list of heads, since too few of its queries have relevant and "
                "easy passages; expected an attention study of more queries"
            )
        tables.append(table)
    shapes = [(one["layer"].max() + 1, one["head"].max() + 1) for one in tables]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"the models have {shapes[0][0]} x {shapes[0][1]} and {shapes[1][0]} x {shapes[1][1]} "
            "heads; expected results of models of one shape"
        )
    rows = []
    for direction in dict.fromkeys(tables[0]["direction"]):
        one, two = (
            table[table["direction"] == direction].sort_values(["layer", "head"])
            for table in tables
        )
        if not len(two):
            continue
        found = [side["matching"].to_numpy(dtype=bool) for side in (one, two)]
        heads, counts = len(found[0]), [int(side.sum()) for side in found]
        both = int((found[0] & found[1]).sum())
        ranks = spearman(
            one["auc"].to_numpy(dtype=np.float64).reshape(shapes[0]),
            two["auc"].to_numpy(dtype=np.float64).reshape(shapes[0]),
            seed=seed,
        )
        rows.append(
            {
                "direction": direction,
                "heads": heads,
                "first": counts[0],
                "second": counts[1],
                "both": both,
                "expected": counts[0] * counts[1] / heads,
                "p": float(hypergeom.sf(both - 1, heads, counts[0], counts[1])),
                "rho": ranks.rho,
                "rho_p": ranks.p,
                "rho_by_layer": ranks.by_layer,
                "rho_low": ranks.low,
                "rho_high": ranks.high,
            }
        )
    return pd.DataFrame(rows)


NAME = "comparison"
STUDIES = ("ablation", "sweep-up-to", "attention", "screen", "study")
"""Studies that are set side by side."""
TOP = 10
"""Heads of the largest screened effect that two folders are asked to share."""
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
        ``heads`` and ``overlaps`` (matching heads), ``screens`` (a row two folders and direction:
        how far their screened effects of the heads agree), ``claims``.

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
    tables = {"folders": _folders(held), "said": pd.DataFrame(), "differences": differences(held)}
    said = said_of(held)
    for name, study, table, columns in (
        ("table1", "ablation", "table1", ["cut"]),
        ("curves", "sweep-up-to", "points", ["direction", "how", "n", "cut"]),
    ):
        cells = _cells(held, study, table, columns)
        if cells:
            tables[name] = pd.concat(cells, ignore_index=True)
    found, more = _paired(held, seed)
    tables |= found
    said += more
    found, more = _heads(held, seed)
    tables |= found
    said += more
    found, more = _screens(held)
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


def _cells(
    held: Sequence[ComparedFolder], study: str, table: str, columns: Sequence[str]
) -> list[pd.DataFrame]:
    """A study's cells in each folder; none where fewer than two folders hold it."""
    tables = []
    for one in _having(held, study):
        result = one.studies[study]
        cells = result.to_frame(table)
        cells["significant"] = starred(cells, str(result.options["stars"]))
        cells = cells[[*columns, *CELL]]
        cells.insert(0, "folder", one.name)
        tables.append(cells)
    return tables


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


def _screens(
    held: Sequence[ComparedFolder],
) -> tuple[dict[str, pd.DataFrame], list[tuple[str, str]]]:
    """How far the screened effects of every two folders of one shape agree, by direction."""
    from scipy.stats import rankdata

    rows, said = [], []
    keys = ["direction", "layer", "head"]
    for first, second in itertools.combinations(_having(held, "screen"), 2):
        shapes = [(one.option("layers"), one.option("heads")) for one in (first, second)]
        if shapes[0] != shapes[1]:
            words = f"the screens of {first.name} and {second.name} cannot be matched up"
            said.append(("cannot", f"{words}: their models have other layers or heads"))
            continue
        gates = [one.studies["screen"].to_frame("gates") for one in (first, second)]
        both = gates[0].merge(gates[1], on=keys, suffixes=("_first", "_second"))
        both = both[(both["size_first"] > 0) | (both["size_second"] > 0)]
        for direction, some in both.groupby("direction", sort=False):
            frame = pd.DataFrame(some)
            pair = [frame[f"change_{side}"].to_numpy(float) for side in ("first", "second")]
            varied = len(some) > 2 and min(np.ptp(values) for values in pair) > 0
            tops = [
                set(np.argsort(-np.abs(values), kind="stable")[:TOP].tolist()) for values in pair
            ]
            rows.append(
                {
                    "first": first.name,
                    "second": second.name,
                    "direction": direction,
                    "heads": len(some),
                    "rho": float(np.corrcoef(*map(rankdata, pair))[0, 1]) if varied else np.nan,
                    "top": min(TOP, len(some)),
                    "both": len(tops[0] & tops[1]),
                    "first_mean": float(pair[0].mean()),
                    "second_mean": float(pair[1].mean()),
                }
            )
    return ({"screens": pd.DataFrame(rows)} if rows else {}), said


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

"""Results folders side by side: several models, or one model on several collections."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from matchlens.arguments import check_order, typed
from matchlens.errors import InputError, counted, visible
from matchlens.ranking import compare as over_queries
from matchlens.reading import read_back
from matchlens.results import Result, read_manifest
from matchlens.studies.attention.contrasts import EARLIER, is_earlier
from matchlens.studies.compared import (
    RANKING,
    ComparedFolder,
    all_equal,
    as_json,
    excerpts,
    values_listed,
)
from matchlens.studies.cuts.cut_modes import starred
from matchlens.studies.cuts.measuring import RANDOM

NAME = "comparison"
STUDIES = ("ablation", "sweep-up-to", "attention", "screen", "study")
"""Studies that are set side by side."""
TOP = 10
"""Heads of the largest screened effect that two folders are expected to share."""
MOST = 9
"""Folders at most: so many lines can be told apart in a figure."""
CELL = (
    "queries", "mean", "original", "diff", "ci_low", "ci_high", "p_holm", "p_unpaired", "kept",
    "tau_b", "score_change", "significant",
)  # fmt: skip
CLAIM = ("id", "claim", "verdict", "value", "low", "high", "unit", "n", "n_of", "p", "found")
HEAD = ("direction", "layer", "head", "kind", "held", "auc", "p_holm")


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
    shapes = [(table["layer"].max() + 1, table["head"].max() + 1) for table in tables]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"the models have {shapes[0][0]} x {shapes[0][1]} and {shapes[1][0]} x {shapes[1][1]} "
            "heads; expected results of models of one shape"
        )
    rows = []
    for direction in dict.fromkeys(tables[0]["direction"]):
        sides = [
            table[table["direction"] == direction].sort_values(["layer", "head"])
            for table in tables
        ]
        if not len(sides[1]):
            continue
        matching = [side["matching"].to_numpy(dtype=bool) for side in sides]
        auc = [side["auc"].to_numpy(dtype=np.float64).reshape(shapes[0]) for side in sides]
        heads, both = len(matching[0]), int((matching[0] & matching[1]).sum())
        first_count, second_count = (int(side.sum()) for side in matching)
        ranks = spearman(*auc, seed=seed)
        rows.append(
            {
                "direction": direction,
                "heads": heads,
                "first": first_count,
                "second": second_count,
                "both": both,
                "expected": first_count * second_count / heads,
                "p": float(hypergeom.sf(both - 1, heads, first_count, second_count)),
                "rho": ranks.rho,
                "rho_p": ranks.p,
                "rho_by_layer": ranks.by_layer,
                "rho_low": ranks.low,
                "rho_high": ranks.high,
            }
        )
    return pd.DataFrame(rows)


@typed
def compare(folders: Iterable[str | Path], *, seed: int = 0) -> Result:
    """Set results folders side by side: Table 1, Figure 1a, matching heads, screens, claims.

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
    check_order(folders, "folders")
    places = [Path(folder) for folder in folders]
    with read_back(*places):
        return _Comparison(_opened(places), seed).result()


def _opened(folders: Sequence[Path]) -> list[ComparedFolder]:
    if not 2 <= len(folders) <= MOST:
        raise InputError(
            f"{counted(len(folders), 'results folder')} to compare; expected 2 to {MOST}: give "
            "each folder that a study was written to"
        )
    real = [Path(os.path.realpath(folder)) for folder in folders]
    for place, path in enumerate(real):
        if path in real[:place]:
            raise InputError(f"{str(folders[place])!r} is given twice; give each folder once")
    opened = []
    for folder, name in zip(folders, _names(real), strict=True):
        manifest = read_manifest(folder)
        _check_identity(manifest["identity"], folder)
        others = [study for study in manifest["studies"] if study not in STUDIES]
        loaded = Result.load_all(folder, without=others)
        studies = {study: loaded[study] for study in STUDIES if study in loaded}
        opened.append(ComparedFolder(name, manifest["identity"], studies))
    if not any(sum(study in folder.studies for folder in opened) > 1 for study in STUDIES):
        listed = values_listed(
            {folder.name: ", ".join(folder.studies) or "none" for folder in opened}
        )
        raise InputError(
            f"the folders have no study in common that can be compared ({listed}); expected two "
            f"or more folders with one of {', '.join(STUDIES)}"
        )
    return opened


def _check_identity(identity: Mapping[str, object], folder: Path) -> None:
    """Check that a manifest names model, pairs and versions."""
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
    names: list[str] = []
    for place, path in enumerate(paths):
        others = [other.parts for other in (*paths[:place], *paths[place + 1 :])]
        length = 1
        while any(path.parts[-length:] == other[-length:] for other in others):
            length += 1
        name = visible("/".join(path.parts[-length:]))
        names.append(f"{name} ({place + 1})" if name in names else name)
    return names


@dataclass
class _Comparison:
    """The tables of a comparison, and the sentences on what can be compared."""

    folders: Sequence[ComparedFolder]
    seed: int
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    sentences: list[tuple[str, str]] = field(default_factory=list)
    measures: dict[str, list[str]] = field(default_factory=dict)  # by table

    def result(self) -> Result:
        folders = self.folders
        self.tables |= {
            "folders": self._overview(),
            "said": pd.DataFrame(),  # keeps its place; the sentences come last
            "differences": self._differences(),
        }
        self._say_what_differs()
        self._cells("table1", "ablation", "table1", ["cut"])
        self._cells("curves", "sweep-up-to", "points", ["direction", "how", "n", "cut"])
        self._test_rankings()
        self._list_heads()
        self._compare_heads()
        self._compare_screens()
        self._list_claims()
        self.tables["said"] = pd.DataFrame(self.sentences, columns=["kind", "sentence"])
        names = [folder.name for folder in folders]
        digits = max(int(str(folder.option("digits") or 3)) for folder in folders)
        return Result(
            study=NAME,
            identity={"comparison": {folder.name: dict(folder.identity) for folder in folders}},
            options={
                "folders": names,
                "seed": self.seed,
                "digits": digits,
                "measures": self.measures,
            },
            notes=(),
            pairs=pd.DataFrame({"pair": []}),
            scores=pd.DataFrame({"cut": [], "pair": [], "score": []}),
            tables=self.tables,
        )

    def _say(self, kind: str, sentence: str) -> None:
        self.sentences.append((kind, sentence))

    def _having(self, study: str) -> list[ComparedFolder]:
        """The folders that hold a study, where they are two or more."""
        having = [folder for folder in self.folders if study in folder.studies]
        return having if len(having) > 1 else []

    def _couples(self, study: str) -> Iterator[tuple[ComparedFolder, ComparedFolder]]:
        return itertools.combinations(self._having(study), 2)

    def _stack(self, name: str, tables: Sequence[pd.DataFrame]) -> None:
        if tables:
            self.tables[name] = pd.concat(tables, ignore_index=True)

    def _overview(self) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {
                    "folder": folder.name,
                    "model": str(folder.part("model")["name"]),
                    "type": str(folder.part("model").get("type", "")),
                    "layers": folder.option("layers"),
                    "heads": folder.option("heads"),
                    "collections": ", ".join(folder.collections),
                    "pairs": folder.part("pairs")["number"],
                    "measure": folder.option("measure"),
                    "original": folder.option("original"),
                    "random": folder.option("random"),
                    "studies": ", ".join(folder.studies),
                }
                for folder in self.folders
            ]
        )

    def _differences(self) -> pd.DataFrame:
        """Every aspect in which folders differ, with the value in each, as the manifest has it."""
        facts = [dict(folder.facts()) for folder in self.folders]
        rows = [
            (aspect, folder.name, value)
            for aspect in dict.fromkeys(itertools.chain(*facts))
            if len(set(values := [fact.get(aspect, "-") for fact in facts])) > 1
            for folder, value in zip(self.folders, excerpts(values), strict=True)
        ]
        return pd.DataFrame(rows, columns=["aspect", "folder", "value"])

    def _say_what_differs(self) -> None:
        """What is the same, what differs and what follows from it, the most important first."""
        folders = self.folders
        models = {f.name: f.part("model")["name"] for f in folders}
        one_model = all_equal(f.part("model")["sha256"] for f in folders)
        if one_model:
            self._say("same", f"one model in all folders ({models[folders[0].name]})")
            self._say_settings()
        else:
            self._say("differs", f"the models ({values_listed(models)})")
        counts = {
            f.name: f"{f.part('pairs')['number']} of {', '.join(f.collections)}" for f in folders
        }
        if all_equal(f.part("pairs")["sha256"] for f in folders):
            self._say("same", f"the same pairs in all folders ({counts[folders[0].name]})")
        else:
            self._say("differs", f"the pairs ({values_listed(counts)})")
            self._say(
                "cannot",
                "values of folders with different pairs stand side by side, no test is between "
                "them",
            )
        shapes = {f.name: f"{f.option('layers')} x {f.option('heads')}" for f in folders}
        if not all_equal(shapes.values()):
            self._say("differs", f"the models' layers and heads ({values_listed(shapes)})")
            self._say("cannot", "heads of models of different shapes cannot be matched up")
        elif not one_model and self._having("attention"):
            self._say(
                "differs",
                "a head is matched up by its layer and number, which models trained apart from "
                "each other need not share",
            )
        ideals = {f.name: _ideal(f)[0] for f in folders}
        if not all_equal(ideals.values()):
            consequence = "values by different ideal rankings are not comparable"
            self._say("differs", f"ideal ({values_listed(ideals)}): {consequence}")
        self._say_options()
        versions = [f.part("versions") for f in folders]
        if names := [key for key in versions[0] if not all_equal(v.get(key) for v in versions)]:
            self._say("differs", f"versions of {', '.join(names)}: numbers may differ by rounding")
        for study in ("ablation", "sweep-up-to", "attention"):
            if missing := [f.name for f in folders if study not in f.studies]:
                self._say("cannot", f"no study {study} in {', '.join(missing)}")

    def _say_settings(self) -> None:
        """How one model was run differently, and what follows."""
        for name, consequence in (
            ("relevance", "scores of different outputs or signs are not comparable"),
            ("prompt", "the model did not read the same texts"),
            ("query_prompt", "the model did not read the same texts"),
            ("max_length", "longer pairs are cut off at different places"),
            ("dtype", "numbers may differ by rounding"),
        ):
            values = {f.name: f.part("model").get(name) for f in self.folders}
            if not all_equal(values.values()):
                shortened = excerpts([as_json(value) for value in values.values()])
                listing = values_listed(dict(zip(values, shortened, strict=True)))
                self._say("differs", f"{name} ({listing}): {consequence}")

    def _say_options(self) -> None:
        """Options that differ, and what follows: a folder's studies need not share a measure."""
        for name, consequence in (
            ("measure", "values of different measures are not comparable"),
            ("rel", "binary measures and contrasts of different grades are not comparable"),
            ("stars", "stars are of different tests"),
            ("rank_easy", "rankings with easy negatives and without are not comparable"),
            ("aggregate", "means and medians are not comparable"),
        ):
            listings: dict[str, str] = {}  # to the first study that has it; the folder as a whole
            for study in ("", *STUDIES):
                having = self._having(study) if study else self.folders
                values = {f.name: f.option(name, study) for f in having}
                values = {key: value for key, value in values.items() if value is not None}
                if not all_equal(values.values()):
                    listings.setdefault(values_listed(values), f" of {study}" if study else "")
            for listing, of in listings.items():
                self._say("differs", f"{name}{of} ({listing}): {consequence}")

    def _cells(self, name: str, study: str, table: str, columns: Sequence[str]) -> None:
        """A study's cells in each folder."""
        tables = []
        for folder in self._having(study):
            result = folder.studies[study]
            cells = result.to_frame(table)
            cells["significant"] = starred(cells, str(result.options["stars"]))
            tables.append(_labelled(cells[[*columns, *CELL]], folder=folder.name))
        of_folders = (folder.option("measure", study) for folder in self._having(study))
        self.measures[name] = list(dict.fromkeys(map(str, of_folders)))
        self._stack(name, tables)

    def _test_rankings(self) -> None:
        """Tests between every two folders whose rankings are of the same candidates."""
        tables = []
        for first, second in self._couples("ablation"):
            wide = [_wide(folder) for folder in (first, second)]
            reason = _other_pairs(first, second)
            if reason is None and not wide[0][0].index.equals(wide[1][0].index):
                reason = "they were measured on different queries"
            if reason is not None:
                self._say("cannot", f"{first.name} and {second.name} are not tested: {reason}")
                continue
            collections = [str(name) for name in wide[0][0].index.get_level_values(0)]
            values = [value[""].to_numpy(dtype=np.float64) for value, _ in wide]
            test = over_queries(values[1][None], values[0], collections, seed=self.seed)
            rows = [_row("", values[0], values[1], test.iloc[0])]
            common = [cut for cut in wide[0][1].columns if cut and cut in wide[1][1].columns]
            if other := _other_sets(first, second):
                common = [cut for cut in common if cut not in other]
                self._say(
                    "cannot",
                    f"{first.name} and {second.name} are not tested under {', '.join(other)}: by "
                    "this name they have different sets of cuts",
                )
            if common:
                changes = [change[common].to_numpy(dtype=np.float64).T for _, change in wide]
                apart = changes[1] - changes[0]
                test = over_queries(apart, np.zeros(apart.shape[1]), collections, seed=self.seed)
                rows += [
                    _row(cut, changes[0][place], changes[1][place], test.iloc[place])
                    for place, cut in enumerate(common)
                ]
            tables.append(_labelled(pd.DataFrame(rows), first=first.name, second=second.name))
        self._stack("paired", tables)

    def _list_heads(self) -> None:
        """The matching heads of each folder, and how many folders have each."""
        tables = []
        for folder in self._having("attention"):
            table = folder.studies["attention"].to_frame("matching")
            if len(table) and not is_earlier(folder.studies["attention"].tables):
                matching = pd.DataFrame(table[table["matching"]])[[*HEAD]]
                tables.append(_labelled(matching, folder=folder.name))
        self._stack("heads", tables)
        if tables:
            heads = self.tables["heads"].groupby(["direction", "layer", "head"])
            self.tables["heads"]["folders"] = heads["folder"].transform("size")

    def _compare_heads(self) -> None:
        """How far the matching heads of every two folders of one shape agree."""
        tables = []
        for first, second in self._couples("attention"):
            try:
                table = compare_heads(
                    first.studies["attention"], second.studies["attention"], seed=self.seed
                )
            except InputError as error:
                names = f"{first.name} and {second.name}"
                self._say("cannot", f"the matching heads of {names} cannot be matched up: {error}")
                continue
            table = table.rename(columns={"first": "first_heads", "second": "second_heads"})
            tables.append(_labelled(table, first=first.name, second=second.name))
        self._stack("overlaps", tables)

    def _compare_screens(self) -> None:
        """How far the screened effects of every two folders of one shape agree, by direction."""
        from scipy.stats import rankdata

        rows = []
        for first, second in self._couples("screen"):
            names = {"first": first.name, "second": second.name}
            if any(first.option(axis) != second.option(axis) for axis in ("layers", "heads")):
                self._say(
                    "cannot",
                    f"the screens of {' and '.join(names.values())} cannot be matched up: their "
                    "models have other layers or heads",
                )
                continue
            gates = [folder.studies["screen"].to_frame("gates") for folder in (first, second)]
            both = gates[0].merge(
                gates[1], on=["direction", "layer", "head"], suffixes=("_first", "_second")
            )
            both = both[(both["size_first"] > 0) | (both["size_second"] > 0)]
            for direction, group in both.groupby("direction", sort=False):
                pair = [pd.Series(group[f"change_{side}"]).to_numpy(float) for side in names]
                varied = len(group) > 2 and min(map(np.ptp, pair)) > 0
                order = (np.argsort(-np.abs(values), kind="stable") for values in pair)
                tops = [set(heads[:TOP].tolist()) for heads in order]
                rho = float(np.corrcoef(*map(rankdata, pair))[0, 1]) if varied else np.nan
                rows.append(
                    {
                        **names,
                        "direction": direction,
                        "heads": len(group),
                        "rho": rho,
                        "top": min(TOP, len(group)),
                        "both": len(tops[0] & tops[1]),
                        "first_mean": float(pair[0].mean()),
                        "second_mean": float(pair[1].mean()),
                    }
                )
        if rows:
            self.tables["screens"] = pd.DataFrame(rows)

    def _list_claims(self) -> None:
        tables = []
        for folder in self._having("study"):
            table = folder.studies["study"].tables.get("claims")
            if table is not None:
                columns = [name for name in CLAIM if name in table]
                tables.append(_labelled(table[columns].copy(), folder=folder.name))
        margins = {f.name: f.option("margin", "study") for f in self._having("study")}
        if not all_equal(margins.values()):
            consequence = "the claims' verdicts are not comparable"
            self._say("differs", f"margin ({values_listed(margins)}): {consequence}")
        if len(tables) > 1:
            self._stack("claims", tables)


def _labelled(table: pd.DataFrame | pd.Series, **labels: str) -> pd.DataFrame:
    """A table behind columns that hold one value each."""
    table = pd.DataFrame(table)
    for place, (name, label) in enumerate(labels.items()):
        table.insert(place, name, label)
    return table


def _other_pairs(first: ComparedFolder, second: ComparedFolder) -> str | None:
    """Why two folders' rankings cannot be tested against each other; None where they can."""
    if first.part("pairs")["sha256"] != second.part("pairs")["sha256"]:
        return "their pairs differ"
    ideals = [_ideal(folder) for folder in (first, second)]
    if ideals[0][0] != ideals[1][0]:
        return f"ideal is {ideals[0][0]} and {ideals[1][0]}"
    if ideals[0] != ideals[1]:
        return "their ideal rankings are of different judgements"
    options = [folder.studies["ablation"].options for folder in (first, second)]
    for name in RANKING:
        if options[0].get(name) != options[1].get(name):
            return f"{name} is {options[0].get(name)} and {options[1].get(name)}"
    run = [_pairs_run(folder) for folder in (first, second)]
    seeds = [option.get("seed") for option in options]
    drawn_apart = options[0].get("most_pairs") is not None and seeds[0] != seeds[1]
    if run[0] != run[1] if None not in run else drawn_apart:
        number, every = options[0].get("pairs_run"), first.part("pairs")["number"]
        drawn = f", drawn by the seeds {seeds[0]} and {seeds[1]}" if seeds[0] != seeds[1] else ""
        return f"other pairs of theirs were ranked ({number} of {every}{drawn})"
    return None


def _pairs_run(folder: ComparedFolder) -> frozenset[int] | None:
    """The places of the pairs that the ablation ran; None where the scores do not tell.

    The scores are those of the whole folder: a cut may have been run on more pairs, too.
    """
    result = folder.studies["ablation"]
    cuts = result.options.get("cuts")
    for cut in cuts if isinstance(cuts, Sequence) else ():
        pairs = frozenset(result.scores.loc[result.scores["cut"] == cut, "pair"].tolist())
        if len(pairs) == result.options.get("pairs_run"):
            return pairs
    return None


def _other_sets(first: ComparedFolder, second: ComparedFolder) -> list[str]:
    """The names that two folders have for different sets of cuts."""
    named = [folder.option("sets", "ablation") for folder in (first, second)]
    one, two = (sets if isinstance(sets, Mapping) else {} for sets in named)
    return [name for name in one if name in two and as_json(one[name]) != as_json(two[name])]


def _ideal(folder: ComparedFolder) -> tuple[str, list[str]]:
    """What ideal rankings are of, and the digests of the judgements where it is all of these."""
    pairs = folder.part("pairs")
    sampling = pairs.get("sampling")
    ideal = str(sampling.get("ideal", "sample")) if isinstance(sampling, Mapping) else "sample"
    if ideal != "full":
        return ideal, []
    files = [(source.get("qrels"), source.get("qrels_sha256")) for source in pairs["sources"]]
    return ideal, [
        str(file.get("sha256") if isinstance(file, Mapping) else own) for file, own in files
    ]


def _wide(folder: ComparedFolder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Value and change by query (rows, in order of their ids) and cut."""
    queries = folder.studies["ablation"].to_frame("queries")
    queries = queries[queries["cut"] != RANDOM]
    order = list(dict.fromkeys(queries["cut"]))
    value, change = (
        queries.pivot(index=["collection", "qid"], columns="cut", values=name).sort_index()
        for name in ("value", "diff")
    )
    return pd.DataFrame(value[order]), pd.DataFrame(change[order])


def _row(
    condition: str, first: np.ndarray, second: np.ndarray, test: pd.Series
) -> dict[str, object]:
    kept = ("n", "diff", "ci_low", "ci_high", "p", "p_holm", "p_flip", "significant")
    means = {"first_mean": float(first.mean()), "second_mean": float(second.mean())}
    return {"condition": condition, **means, **{name: test[name] for name in kept}}

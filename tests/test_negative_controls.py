"""Models and judgements without a signal: a claim may hold no more often than by chance.

``python tests/test_negative_controls.py DIR`` prints, for a results folder with the studies
evidence, attention and circuits, how often each claim holds with relevance shuffled within queries,
and whether heads at random stand to the upper right.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import matchlens
from matchlens.corpora import trec
from matchlens.meters.arrays import PairArray
from matchlens.parts import Part
from matchlens.ranking import Candidates, evaluate, parse_measure, random_expectation
from matchlens.ranking.effects import Evidence, decide, one_sided
from matchlens.ranking.ties import rank
from matchlens.results import records
from matchlens.studies.attention.contrasts import Classes, Thresholds
from matchlens.studies.attention.matching import HeadMasses, find, outstanding, too_few
from matchlens.studies.attention.profiles import layer_depths, negatives
from matchlens.studies.attention.watching import Reader
from matchlens.studies.claims.claims import CLAIMS
from matchlens.studies.claims.decisions import resampled_contrast
from test_effects import proofs

SHUFFLES = 500
RELEVANCE = ("evidence", "attention", "circuits")
"""The studies on which the claims rest."""


# --- models that know nothing


@pytest.fixture(params=["demo", "dl19"])
def pairs(request) -> matchlens.PairSet:
    """A few queries of the demo collection, and of TREC DL 2019 where its files are at hand."""
    if request.param == "demo":
        return matchlens.choose(matchlens.demo.load(), queries=16, per_grade=1, easy=2)
    folder = request.getfixturevalue("trec_dl")
    passages = [folder / "dl19.passages.jsonl.gz"]
    collection = trec.load(folder / "dl19.topics.tsv", folder / "dl19.qrels", passages)
    return matchlens.choose(collection, queries=16, per_grade=1, easy=2)


def nothing_is_decided(folder: Path | str, pairs: matchlens.PairSet) -> None:
    """A model's study decides no claim, and at most 5% of its heads match in any direction."""
    model = matchlens.load(folder, max_length=64)  # it knows nothing of the words that are cut off
    done = matchlens.study(model, pairs, size="quick", studies=RELEVANCE)
    table = done.claims()
    assert table["n"].max() >= 10  # nothing is undecided for want of queries
    assert set(table["verdict"]) == {"undecided"}
    heads = done["attention"].to_frame("matching")
    assert set(heads["direction"]) == {"Q->D", "D->Q"}
    assert heads.groupby("direction")["matching"].mean().max() <= 0.05


@pytest.mark.slow
def test_nothing_is_decided_of_a_model_that_was_never_trained(tiny_folder, pairs):
    nothing_is_decided(tiny_folder, pairs)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "pairs"), [(0, "dl19"), (1, "demo")], indirect=["pairs"])
def test_nothing_is_decided_of_the_demo_model_with_shuffled_weights(
    demo_model, tmp_path, seed, pairs
):
    from safetensors.torch import load_file, save_file

    from matchlens.models.convert import demo_folder

    folder = shutil.copytree(demo_folder(), tmp_path / "shuffled")
    config = json.loads((folder / "config.json").read_text())
    layers = config["num_hidden_layers"] // 2  # the deeper half repeats what the test is about
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    tensors = load_file(folder / "model.safetensors")
    draw = np.random.default_rng(seed)
    for name, tensor in list(tensors.items()):
        mixed = draw.permutation(tensor.numpy().ravel()).reshape(tensor.shape)
        tensors[name] = tensor.new_tensor(mixed)
        if (found := re.search(r"\.layer\.(\d+)\.", name)) and int(found[1]) >= layers:
            del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    nothing_is_decided(folder, pairs)


# --- relevance that says nothing


def ranked(result: matchlens.Result) -> tuple[list[Candidates], pd.DataFrame]:
    """The queries with candidates, and the scores: condition by row of the pairs."""
    pairs = result.pairs
    queries = []
    for (collection, qid), own in pairs[pairs["grade"] >= 0].groupby(
        ["collection", "qid"], sort=False
    ):
        grades = own["grade"].to_numpy(dtype=np.int64)
        rows = own["pair"].to_numpy(dtype=np.int64)
        queries.append(Candidates(str(collection), str(qid), rows, grades, ideal=np.sort(grades)))
    scores = result.scores.pivot_table(index="cut", columns="pair", values="score", sort=False)
    return queries, scores.reindex(columns=range(len(pairs)))


class Shuffled:
    """nDCG@10 under every condition with the grades shuffled within queries.

    The scores stay, so that a passage's discount does: nDCG is the sum of discount times gain.

    Args:
        result: of the study ``evidence``.
    """

    def __init__(self, result: matchlens.Result) -> None:
        assert result.options["measure"] == "nDCG@10"
        self.queries, table = ranked(result)
        self.measure = parse_measure("nDCG@10")
        tol = float(str(result.options["tie_tol"]))
        self.cuts = list(table.index)
        scores = table.to_numpy(dtype=np.float64)
        self.scores = {cut: np.nan_to_num(own) for cut, own in zip(self.cuts, scores, strict=True)}
        self.tol = tol
        self.owner = np.repeat(np.arange(len(self.queries)), [len(q.rows) for q in self.queries])
        self.starts = np.searchsorted(self.owner, np.arange(len(self.queries)))
        self.gains = np.concatenate([query.grades for query in self.queries]).astype(np.float64)
        discounts = []
        for cut in self.cuts:
            found = rank(self.queries, self.scores[cut], tol)
            at = np.where(found.place < 10, 1 / np.log2(found.place + 2), 0.0)
            mean = np.bincount(found.group, at) / found.size
            discounts.append(found.unranked(mean[found.group]))
        places = 1 / np.log2(np.arange(2, 12))
        ideal = [np.sort(q.grades)[::-1][:10] @ places[: len(q.grades)] for q in self.queries]
        self.discounts = np.array(discounts) / np.array(ideal)[self.owner]
        self.random = random_expectation(self.measure, self.queries).values

    def of(self, order: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Each cut's change, and original - random, with the gains in this order."""
        values = np.add.reduceat(self.discounts * self.gains[order], self.starts, axis=1)
        original = values[self.cuts.index("")]
        changes = dict(zip(self.cuts, values - original, strict=True))
        return changes, original - self.random

    def slowly(self, order: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The same by evaluating every ranking."""
        mixed = self.gains[order].astype(np.int64)
        parts = np.split(mixed, self.starts[1:])
        queries = [
            Candidates(one.collection, one.qid, one.rows, grades, ideal=one.ideal)
            for one, grades in zip(self.queries, parts, strict=True)
        ]
        values = {
            cut: evaluate(self.measure, queries, own, tie_tol=self.tol).values
            for cut, own in self.scores.items()
        }
        changes = {cut: one - values[""] for cut, one in values.items()}
        return changes, values[""] - random_expectation(self.measure, queries).values


def mixed(owner: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """An order that shuffles within each owner; owners stand together."""
    return np.lexsort((draw.random(len(owner)), owner))


def in_attention(reader: Reader, classes: Classes, seed: int) -> dict[str, Evidence]:
    """The evidence for the claims that rest on attention alone."""
    out = {}
    depths = layer_depths(reader, classes, ["Q->D"], seed)
    if len(depths):
        row = depths.iloc[0]
        out["lexical-first"] = Evidence(float(row["p_later"]), float(row["p_earlier"]))
    more = negatives(reader, classes, pd.DataFrame(), ["Q->D"], seed)["more"].to_numpy()
    up, down = (min(1.0, 2 * one_sided(more, sign)) for sign in (1, -1))
    return out | {"hard-negatives": Evidence(up, down)}


class Figure2:
    """Whether heads stand to the upper right of Figure 2, whichever heads they are.

    Args:
        circuits: the result of the study ``circuits``.
        reader: of the study ``attention``'s arrays.
        pairs: of that study; passages are of like length where their pairs are.
    """

    def __init__(self, circuits: matchlens.Result, reader: Reader, pairs: pd.DataFrame) -> None:
        self.heads = records(circuits.tables["heads"])
        self.layers = np.array([row["layer"] for row in self.heads])
        self.resampled = resampled_contrast(circuits)
        self.seen = HeadMasses.of(reader, "Q->D", pairs["tokens"].to_numpy(dtype=np.float64))

    def of(self, marked: np.ndarray, seed: int) -> Evidence:
        if few := too_few(marked):
            return Evidence(np.nan, np.nan, few)
        return outstanding(self.heads, marked, self.resampled, seed=seed, draws=2000)[1]

    def matching(self, classes: Classes, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The heads that match, and all heads from the highest AUC to the lowest."""
        table, _, _ = find(self.seen, classes, "Q->D", seed, Thresholds())
        auc = table["auc_found"].to_numpy() if len(table) else np.zeros(len(self.heads))
        held = table["held"].to_numpy(dtype=bool) if len(table) else auc > 0
        return held, np.argsort(-np.nan_to_num(auc), kind="stable")

    def mixed(self, marked: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """As many heads of each layer, at random."""
        order = np.lexsort((draw.random(len(marked)), self.layers))
        out = np.empty_like(marked)
        out[np.argsort(self.layers, kind="stable")] = marked[order]
        return out


class Kept(Reader):
    """Reads each meter between two parts once, from the arrays of a result.

    Args:
        result: of the study ``attention``.
        folder: where the arrays' files are written.
    """

    def __init__(self, result: matchlens.Result, folder: Path) -> None:
        arrays = {}
        for name in result.arrays:
            values = result.array(name)
            arrays[name] = PairArray(folder / f"{name}.npy", values.shape)
            arrays[name].write(np.arange(len(values)), values)
        super().__init__(arrays)
        self.read: dict[object, np.ndarray] = {}

    def of(self, name: str, x: Part, y: Part) -> np.ndarray:
        if (name, x, y) not in self.read:
            self.read[name, x, y] = super().of(name, x, y)
        return self.read[name, x, y]


def held(
    evidence: matchlens.Result,
    attention: matchlens.Result,
    circuits: matchlens.Result,
    folder: Path,
    shuffles: int = SHUFFLES,
) -> pd.DataFrame:
    """How often each claim holds with relevance shuffled: alone at .05, and after Holm.

    The upper right is a claim about relevance, since relevance makes the matching heads. Few heads
    match where it is shuffled, so that two rows more hold it against as many heads as do match:
    those of the highest AUC with relevance shuffled, and heads at random inside their layers.
    """
    rankings, draw = Shuffled(evidence), np.random.default_rng(17)
    reader, layers = Kept(attention, folder), int(str(evidence.options["layers"]))
    pairs = attention.pairs
    rel = int(str(attention.options["rel"]))
    grade = pairs["grade"].to_numpy()
    labels = np.select([grade >= rel, grade == 0, grade < 0], [0, 1, 2], -1)
    query = pairs.groupby(["collection", "qid"], sort=False).ngroup().to_numpy()
    keys = pairs[["collection", "qid"]].drop_duplicates()
    names = tuple(keys["collection"]), tuple(keys["qid"])
    together = np.argsort(query, kind="stable")
    figure = Figure2(circuits, reader, pairs)
    really = figure.matching(Classes(labels, query, *names), 0)[0]
    if really.sum() < 2:  # a model without matching heads: any two of a layer
        really = figure.layers == 1
        really[np.flatnonzero(really)[2:]] = False
    found: dict[str, list[tuple[bool, bool]]] = {}
    for number in range(shuffles):
        proofs_of = proofs(*rankings.of(mixed(rankings.owner, draw)), layers)
        of_pair = np.empty_like(labels)
        of_pair[together] = labels[together][mixed(query[together], draw)]
        classes = Classes(of_pair, query, *names)
        proofs_of |= in_attention(reader, classes, number)
        matching, order = figure.matching(classes, number)
        proofs_of["upper-right"] = figure.of(matching, number)
        best = np.isin(np.arange(len(order)), order[: really.sum()])
        for name, heads in (("highest AUC", best), ("at random", figure.mixed(really, draw))):
            alone = decide([figure.of(heads, number)])[0].verdict == "holds"
            found.setdefault(f"upper-right, heads {name}", []).append((alone, alone))
        for (name, one), verdict in zip(
            proofs_of.items(), decide(list(proofs_of.values())), strict=True
        ):
            alone = decide([one])[0].verdict == "holds"
            found.setdefault(name, []).append((alone, verdict.verdict == "holds"))
    columns = pd.Index(["alone", "after Holm"])
    return pd.DataFrame(
        {name: np.sum(said, axis=0) / shuffles for name, said in found.items()}, index=columns
    ).T


@pytest.fixture(scope="module")
def done(tiny):
    pairs = matchlens.choose(matchlens.demo.load(), queries=16, per_grade=2, easy=3)
    return matchlens.study(tiny, pairs, size="quick", studies=RELEVANCE)


@pytest.mark.slow
def test_shuffled_rankings_are_evaluated_as_any_are(done):
    rankings = Shuffled(done["evidence"])
    for seed in range(3):
        order = mixed(rankings.owner, np.random.default_rng(seed))
        fast, slow = rankings.of(order), rankings.slowly(order)
        np.testing.assert_allclose(fast[1], slow[1], atol=1e-12)
        assert set(fast[0]) == set(slow[0])
        for cut, change in slow[0].items():
            np.testing.assert_allclose(fast[0][cut], change, atol=1e-12)
    whole = rankings.of(np.arange(len(rankings.owner)))
    queries = done["evidence"].to_frame("queries")
    stored = queries.loc[queries["cut"] == "D->D", "diff"].to_numpy()
    np.testing.assert_allclose(whole[0]["D->D"], stored, atol=1e-9)


@pytest.mark.slow
def test_claims_about_relevance_hold_by_chance_only_where_relevance_is_shuffled(done, tmp_path):
    found = held(*(done[name] for name in RELEVANCE), tmp_path)
    assert {claim.id for claim in CLAIMS} <= set(found.index)
    assert found["after Holm"].max() <= 0.07, found
    assert found["alone"].max() <= 0.07, found


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as scratch:
            studies = [matchlens.Result.load(name, study) for study in RELEVANCE]
            shown = held(*studies, Path(scratch))
        sys.stdout.write(f"{name}\n{(100 * shown).round(1)}\n")

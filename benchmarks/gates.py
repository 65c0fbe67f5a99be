"""Measures gates: ``python -m benchmarks.gates WHAT``, on judged pairs of TREC DL 2019.

``cost``: CPU seconds of the screen over those of plain scoring by transformers, alternated.
``agreement``: estimates of the screen against exact cuts of drawn gates, and of all Q->D gates.
``completeness``: what the contributions of a pair miss of its score.
``explain``: seconds of an explanation of two passages.
``swaps``: how often a smallest swap is found, its size, and the same of random sets.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import matchlens
from benchmarks import subjects
from benchmarks.gated import gate_slopes
from benchmarks.machine import Record, common_options
from matchlens import Cut, Pair, Part
from matchlens.gating import check_gates, integrate, stream_slopes
from matchlens.models.load import Reranker
from matchlens.models.words import stretches
from matchlens.parts import NAMED
from matchlens.ranking.effects import one_sided
from matchlens.runners import run
from matchlens.studies.explaining import POINTS
from matchlens.studies.screening import compared

TOGETHER, RECALLED, STRATA = 25, 50, 5
"""Cuts run side by side, gates of the largest effect that should be found again, and groups of
couples of passages by their margin."""


def cost(model: Reranker, pairs: Sequence[Pair], rounds: int, record: Record) -> None:
    """Tell the ratio of CPU seconds, round by round."""
    folder = subjects.demo_model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    library = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    order = sorted(pairs, key=lambda pair: len(pair.query) + len(pair.text))

    def plain() -> None:
        with torch.inference_mode():
            for start in range(0, len(order), 16):
                some = order[start : start + 16]
                texts = [pair.query for pair in some], [pair.text for pair in some]
                library(**tokenizer(*texts, padding=True, truncation=True, return_tensors="pt"))

    def screen() -> None:
        stream_slopes(model, pairs, lambda rows, values: None)

    check_gates(model)
    for warm in (plain, screen):
        warm()
    ratios = []
    for _ in range(rounds):
        own, theirs = (_cpu(one) for one in (screen, plain))
        ratios.append(own / theirs)
        print(f"screen {own:.2f} s, transformers {theirs:.2f} s: {own / theirs:.2f}", flush=True)
    record.put(pairs=len(pairs), ratios=ratios, median=float(np.median(ratios)))


def _cpu(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def agreement(model: Reranker, pairs: Sequence[Pair], gates: int, record: Record) -> None:
    """Tell how well the screen agrees with exact cuts, for drawn gates and for all of Q->D.

    Args:
        model: a loaded reranker.
        pairs: whole queries.
        gates: how many are drawn, as many of each direction as can be.
        record: told what was found.
    """
    family = model.family
    slopes = gate_slopes(model, pairs).slopes
    _, queries = np.unique([f"{one.collection} {one.qid}" for one in pairs], return_inverse=True)
    heads = list(itertools.product(range(family.n_layers), range(family.n_heads)))
    draw = np.random.default_rng(0)
    turns = []
    for x, y in itertools.product(NAMED, NAMED):
        own = [(*head, x, y) for head in heads]
        own = [gate for gate in own if np.abs(slopes[(slice(None), *gate)]).max() > 0]
        turns.append([own[place] for place in draw.permutation(len(own)).tolist()])
    every = [gate for turn in itertools.zip_longest(*turns) for gate in turn if gate is not None]
    reading = [(*head, Part.Q, Part.D) for head in heads]
    for title, some in (("drawn", every[:gates]), ("Q->D", reading)):
        estimates = -np.stack([slopes[(slice(None), *gate)] for gate in some])
        exact = np.concatenate(
            [
                _changes(model, pairs, some[start : start + TOGETHER])
                for start in range(0, len(some), TOGETHER)
            ]
        )
        found: dict[str, Any] = {
            "gates": len(some),
            "pairs": len(pairs),
            "queries": len(set(queries.tolist())),
        }
        for scope, center in (("all pairs", False), ("within queries", True)):
            both = [_within(v, queries) if center else v for v in (estimates, exact)]
            found[scope] = _plain(compared(*(values.ravel() for values in both)))
            top = min(RECALLED, len(some))
            first, second = (
                set(np.argsort(-np.abs(values).mean(1))[:top].tolist()) for values in both
            )
            found[scope][f"recall of the true top {top}"] = len(first & second) / top
        record.put(**{title: found})


def _changes(
    model: Reranker, pairs: Sequence[Pair], gates: Sequence[tuple[int, int, Part, Part]]
) -> np.ndarray:
    """What cutting each gate changes of each score, [gate, pair]."""
    cuts = [f"{x}->{y}#{layer}.{head}" for layer, head, x, y in gates]
    found = run(model, pairs, {"": [], **{cut: [Cut.parse(cut)] for cut in cuts}}).scores
    return np.stack([found.of(cut).astype(float) - found.of("") for cut in cuts])


def _plain(found: Mapping[Any, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}


def _within(values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    means = np.stack([values[:, queries == query].mean(1) for query in range(queries.max() + 1)], 1)
    return values - means[:, queries]


def completeness(
    model: Reranker, pairs: Sequence[Pair], points: Sequence[int], record: Record
) -> None:
    """Tell what contributions miss, as a share of the score less that without attention."""
    for number in points:
        errors = []
        for pair in pairs:
            words = stretches(model, pair)
            numbers = np.repeat(np.arange(len(words)), [one.stop - one.start for one in words])
            found = integrate(model, pair, numbers, number)
            errors.append(abs(found.missed) / abs(found.score - found.without))
        quantiles = dict(
            zip(("median", "95%", "largest"), np.quantile(errors, [0.5, 0.95, 1]), strict=True)
        )
        record.put(**{f"{number} points": {"pairs": len(pairs), **_plain(quantiles)}})


def explain(model: Reranker, pairs: Sequence[Pair], rounds: int, record: Record) -> None:
    """Tell the seconds of contributions alone, and with cuts and the smallest swap."""
    check_gates(model)
    for number, (first, second) in enumerate(_couples(model, pairs, rounds)):
        passages = [(one.docid, one.text) for one in (first, second)]
        for swap in (False, True):
            wall, cpu = time.perf_counter(), time.process_time()
            result = matchlens.explain(model, first.query, passages, swap=swap)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            what = "with the swap" if swap else "contributions"
            tokens = result.to_frame("passages")["tokens"].tolist()
            taken = {"seconds": wall, "cpu_seconds": cpu, "tokens": tokens}
            taken |= {name: result.options[name] for name in ("points", "swap")}
            record.put(**{f"{what}, {number}": taken})


def swaps(model: Reranker, pairs: Sequence[Pair], number: int, record: Record) -> None:
    """Tell how often a swap is found, by fifths of the margin, and what random sets do."""
    rows = []
    for first, second in _couples(model, pairs, number):
        passages = [(one.docid, one.text) for one in (first, second)]
        result = matchlens.explain(model, first.query, passages)
        options: dict[str, Any] = dict(result.options)
        margin = options["margin"]
        draws, steps = result.to_frame("random_swaps"), result.to_frame("swap")
        sizes = np.sign(margin) * draws["margin"].to_numpy(dtype=float) / abs(margin)
        rows.append(
            {
                "qid": f"{first.collection} {first.qid}",
                "margin": abs(margin),
                "swapped": options["swapped"],
                "size": len(options["swap"]),
                "directions": sum("#" not in cut for cut in options["swap"]),
                "left": float(np.sign(margin) * steps["margin"].iloc[-1] / abs(margin)),
                "random swapped": float(draws["swapped"].to_numpy(dtype=float).mean()),
                "random left": float(sizes.mean()),
            }
        )
        print(rows[-1], flush=True)
    rows.sort(key=lambda row: row["margin"])
    for place, some in enumerate(np.array_split(np.arange(len(rows)), STRATA)):
        record.put(**{f"fifth {place + 1}": _swapped([rows[at] for at in some.tolist()])})
    record.put(all=_swapped(rows), couples=rows)


def _swapped(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often a set swaps, its size, and how its cuts compare with random ones, by query."""
    found = [row for row in rows if row["swapped"]]
    by_query: dict[str, list[float]] = {}
    for row in found:
        by_query.setdefault(row["qid"], []).append(row["random left"] - row["left"])
    beyond = np.array([np.mean(values) for values in by_query.values()])
    random = np.array([row["random swapped"] for row in found])
    return {
        "couples": len(rows),
        "margins": [rows[0]["margin"], rows[-1]["margin"]],
        "swapped": len(found),
        "median size": float(np.median([row["size"] for row in found])) if found else None,
        "by directions alone": sum(row["directions"] == row["size"] for row in found),
        "random sets that swap": float(random.mean()) if found else None,
        "couples that no random set swaps": int((random == 0).sum()),
        "queries": len(beyond),
        "p of margin moved beyond random sets": (
            float(one_sided(beyond, 1)) if len(beyond) > 1 else None
        ),
    }


def _couples(model: Reranker, pairs: Sequence[Pair], number: int) -> list[tuple[Pair, Pair]]:
    """Passages of one query and different grade, as many of each fifth of the margins."""
    scores = matchlens.score(model, pairs)[""].to_numpy()
    both = [
        (at, other)
        for at, one in enumerate(pairs)
        for other, two in enumerate(pairs)
        if (one.collection, one.qid) == (two.collection, two.qid) and one.grade > two.grade
    ]
    both.sort(key=lambda couple: abs(scores[couple[0]] - scores[couple[1]]))
    draw = np.random.default_rng(1)
    strata = [draw.permutation(one).tolist() for one in np.array_split(both, STRATA)]
    chosen = [couple for turn in zip(*strata, strict=False) for couple in turn][:number]
    return [(pairs[one], pairs[other]) for one, other in chosen]


def main(words: Sequence[str] | None = None) -> None:
    """Measure one thing."""
    parser = common_options("python -m benchmarks.gates", __doc__)
    parser.add_argument("what", choices=["cost", "agreement", "completeness", "explain", "swaps"])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--number", type=int, help="rounds, gates or couples of passages")
    parser.add_argument("--points", type=int, nargs="+", default=[POINTS])
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    source, chosen = subjects.judged(2)
    order = np.random.default_rng(0).permutation(len(chosen.pairs))
    pairs = [chosen.pairs[place] for place in sorted(order[: options.pairs].tolist())]
    record = Record(options, source)
    model = matchlens.load("demo", device=options.device)
    match options.what:
        case "cost":
            cost(model, pairs, options.number or 5, record)
        case "agreement":
            agreement(model, chosen.pairs[: options.pairs], options.number or 300, record)
        case "completeness":
            completeness(model, pairs, options.points, record)
        case "explain":
            explain(model, chosen.pairs, options.number or 3, record)
        case _:
            swaps(model, chosen.pairs, options.number or 100, record)


if __name__ == "__main__":
    main()

"""Measures gates: ``python -m benchmarks.gates WHAT``, with one thread, on judged pairs.

``cost``: CPU seconds of the screen over those of plain scoring by transformers, alternated.
``agreement``: estimates of the screen against exact cuts of drawn gates, and of all Q->D gates.
``completeness``: what the contributions of a pair miss of its score.
``explain``: seconds of an explanation of two passages.
``swaps``: how often a smallest swap is found, its size, and the same of random sets.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import matchlens
from benchmarks import subjects
from matchlens import Cut, Pair
from matchlens.gating import check_gates, gate_slopes, integrate, stream_slopes
from matchlens.models.load import Reranker
from matchlens.models.words import stretches
from matchlens.parts import NAMED
from matchlens.runners import run
from matchlens.studies.screening import compared

TOGETHER = 25
"""Cuts that are run side by side, so that what is known so far can be printed."""
RECALLED = 50


def cost(model: Reranker, pairs: Sequence[Pair], rounds: int) -> None:
    """Print the ratio of CPU seconds, round by round."""
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
    print(f"median {np.median(ratios):.2f} of {len(pairs)} pairs")


def _cpu(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def agreement(model: Reranker, pairs: Sequence[Pair], gates: int) -> None:
    """Print how well the screen agrees with exact cuts, as they come."""
    family = model.family
    slopes = gate_slopes(model, pairs).slopes
    _, queries = np.unique([f"{one.collection} {one.qid}" for one in pairs], return_inverse=True)
    heads = list(itertools.product(range(family.n_layers), range(family.n_heads)))
    every = [(*head, x, y) for head in heads for x in NAMED for y in NAMED]
    every = [gate for gate in every if np.abs(slopes[(slice(None), *gate)]).max() > 0]
    order = np.random.default_rng(0).permutation(len(every))[:gates]
    drawn = [every[place] for place in order.tolist()]
    one = [gate for gate in every if (str(gate[2]), str(gate[3])) == ("Q", "D")]
    for title, some in (("drawn", drawn), ("Q->D", one)):
        estimates, exact = np.zeros((2, 0, len(pairs)))
        for start in range(0, len(some), TOGETHER):
            here = some[start : start + TOGETHER]
            cuts = [f"{x}->{y}#{layer}.{head}" for layer, head, x, y in here]
            found = run(model, pairs, {"": [], **{cut: [Cut.parse(cut)] for cut in cuts}}).scores
            changes = [found.of(cut).astype(float) - found.of("") for cut in cuts]
            exact = np.concatenate([exact, changes])
            estimates = np.concatenate([estimates, [-slopes[(slice(None), *g)] for g in here]])
            for scope, center in (("all pairs", False), ("within queries", True)):
                both = (_within(v, queries) if center else v for v in (estimates, exact))
                said = compared(*(values.ravel() for values in both))
                print(title, len(exact), scope, said, flush=True)
        top = min(RECALLED, len(some))
        sizes = (np.abs(values).mean(1) for values in (estimates, exact))
        first, second = (set(np.argsort(-size)[:top].tolist()) for size in sizes)
        print(f"{title}: recall of the true top {top} of {len(some)}: {len(first & second) / top}")


def _within(values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    means = np.stack([values[:, queries == query].mean(1) for query in range(queries.max() + 1)], 1)
    return values - means[:, queries]


def completeness(model: Reranker, pairs: Sequence[Pair], points: Sequence[int]) -> None:
    """Print the error of the contributions, as a share of the score less that without attention."""
    for number in points:
        errors = []
        for pair in pairs:
            words = stretches(model, pair)
            numbers = np.repeat(np.arange(len(words)), [one.stop - one.start for one in words])
            found = integrate(model, pair, numbers, number)
            errors.append(abs(found.missed) / abs(found.score - found.without))
        quantiles = np.quantile(errors, [0.5, 0.95, 1])
        shown = ", ".join(f"{one:.3%}" for one in quantiles)
        print(f"{number} points, {len(pairs)} pairs: median, 95%, largest: {shown}", flush=True)


def explain(model: Reranker, pairs: Sequence[Pair], rounds: int) -> None:
    """Print seconds of contributions alone, and with cuts and the smallest swap."""
    check_gates(model)
    for first, second in _couples(pairs, rounds):
        passages = [(one.docid, one.text) for one in (first, second)]
        for swap in (False, True):
            wall, cpu = time.perf_counter(), time.process_time()
            result = matchlens.explain(model, first.query, passages, swap=swap)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            what = "with the swap" if swap else "contributions"
            tokens = result.to_frame("passages")["tokens"].tolist()
            print(
                f"{what}: {wall:.1f} s, {cpu:.1f} CPU s, {tokens} tokens, "
                f"{result.options['points']} points, swap {result.options['swap']}",
                flush=True,
            )


def swaps(model: Reranker, pairs: Sequence[Pair], number: int) -> None:
    """Print how often a swap is found, by thirds of the margin."""
    rows = []
    for first, second in _couples(pairs, number):
        passages = [(one.docid, one.text) for one in (first, second)]
        result = matchlens.explain(model, first.query, passages, points=8)
        options: dict[str, Any] = dict(result.options)
        draws = result.to_frame("random_swaps")
        rows.append(
            (abs(options["margin"]), options["swapped"], len(options["swap"]), draws["swapped"])
        )
        print(
            *(str(one) for one in rows[-1][:3]),
            draws["swapped"].to_numpy(dtype=float).mean(),
            flush=True,
        )
    rows.sort(key=lambda row: row[0])
    for some in np.array_split(np.arange(len(rows)), 3):
        part = [rows[at] for at in some.tolist()]
        found = [row for row in part if row[1]]
        sizes = [row[2] for row in found]
        print(
            f"margins {part[0][0]:.2g} to {part[-1][0]:.2g}: {len(found)} of {len(part)} swapped, "
            f"median size {np.median(sizes) if sizes else 'none'}, random sets "
            f"{np.mean([row[3].mean() for row in found]) if found else float('nan'):.1%}"
        )


def _couples(pairs: Sequence[Pair], number: int) -> list[tuple[Pair, Pair]]:
    """Passages of one query and different grade, the higher first."""
    both = [
        (one, other)
        for one in pairs
        for other in pairs
        if (one.collection, one.qid) == (other.collection, other.qid) and one.grade > other.grade
    ]
    order = np.random.default_rng(1).permutation(len(both))
    return [both[place] for place in order[:number].tolist()]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gates", description=__doc__)
    parser.add_argument("what", choices=["cost", "agreement", "completeness", "explain", "swaps"])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--number", type=int, help="rounds, gates or couples of passages")
    parser.add_argument("--points", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source, chosen = subjects.judged(2)
    order = np.random.default_rng(0).permutation(len(chosen.pairs))
    pairs = [chosen.pairs[place] for place in sorted(order[: options.pairs].tolist())]
    print(f"{len(pairs)} pairs of {source}", flush=True)
    model = matchlens.load("demo", device="cpu")
    match options.what:
        case "cost":
            cost(model, pairs, options.number or 5)
        case "agreement":
            agreement(model, chosen.pairs[: options.pairs], options.number or 300)
        case "completeness":
            completeness(model, pairs, options.points)
        case "explain":
            explain(model, chosen.pairs, options.number or 3)
        case _:
            swaps(model, chosen.pairs, options.number or 100)


if __name__ == "__main__":
    main()

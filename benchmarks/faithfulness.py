"""Deletion and insertion curves of rankings of gates: ``python -m benchmarks.faithfulness``.

Each ranking orders all gates (a head in a direction) on one half of the queries; on the other half
the first k of them are cut together (deletion), or all but them (insertion), and the measure is
taken. A ranking's area is that between its curve and the mean curve of random rankings, each of
which has as many gates of every layer among the first k; above 0 is better. Areas are compared
query by query.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import matchlens
from benchmarks import subjects
from benchmarks.gated import gate_slopes, gated_scores
from benchmarks.machine import Record, common_options
from matchlens.corpora import PairSet
from matchlens.models.load import Reranker
from matchlens.parts import NAMED
from matchlens.ranking import Measure, evaluate, parse_measure
from matchlens.ranking.effects import LEAST_QUERIES, one_sided
from matchlens.ranking.significance import bootstrap_t
from matchlens.studies.attention.watching import watch
from matchlens.studies.common import candidates, half_of

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of the gates that a curve's points cut or keep."""
CURVES = ("deletion", "insertion")
OWN = "integrated contribution"


def rankings(model: Reranker, pairs: PairSet, points: int) -> dict[str, np.ndarray]:
    """For each ranking the size of every gate, [layer, head, row part, column part].

    Args:
        model: a loaded reranker.
        pairs: those of one half of the queries.
        points: of the integral from 0 to 1.
    """
    parts, family = len(NAMED), model.family
    shape = (family.n_layers, family.n_heads, 6, 6)
    total = np.zeros((len(pairs.pairs), *shape))
    for point in range(points):
        total += gate_slopes(model, pairs.pairs, np.full(shape, (point + 0.5) / points)).slopes
    found = {
        OWN: np.abs(total).mean(0),
        "attention x gradient": np.abs(gate_slopes(model, pairs.pairs).slopes).mean(0),
    }
    found = {name: size[..., :parts, :parts] for name, size in found.items()}
    watched = watch(model, pairs, ("mass", "norm_mass"))
    for name, array in watched.arrays.items():
        found[name.replace("_", " ")] = np.nan_to_num(array.mapped()).mean(0)
    return found


def like(size: np.ndarray, first: int, draw: np.random.Generator) -> np.ndarray:
    """Random gates, as many of each layer as a ranking has among its first ones."""
    layer = _first(size, first) // size[0].size
    counts = np.bincount(layer, minlength=len(size))
    drawn = [
        at * size[0].size + draw.permutation(size[0].size)[:count]
        for at, count in enumerate(counts.tolist())
    ]
    return np.concatenate(drawn)


def _first(size: np.ndarray, first: int) -> np.ndarray:
    return np.argsort(-size.ravel(), kind="stable")[:first]


def curves(
    size: np.ndarray,
    measured: Callable[[np.ndarray], np.ndarray],
    choose: Callable[[np.ndarray, int], np.ndarray],
) -> np.ndarray:
    """The measure along both curves, [curve, point, query].

    Args:
        size: of each gate.
        measured: takes gates and gives the measure of each query.
        choose: takes the sizes and a number, and gives so many gates.
    """
    out = []
    for curve in CURVES:
        cut = curve == "deletion"
        line = []
        for share in SHARES:
            some = choose(size, max(1, round(share * size.size)))
            named = np.full(size.size, 1.0 if cut else 0.0)
            named[some] = 1.0 - named[some]
            gates = np.ones((*size.shape[:2], 6, 6))
            gates[..., : size.shape[2], : size.shape[3]] = named.reshape(size.shape)
            line.append(measured(gates))
        out.append(np.stack(line))
    return np.stack(out)


def measured_by(model: Reranker, pairs: PairSet, measure: Measure) -> Callable:
    """What gives the measure of every query under some gates."""
    queries = candidates(pairs)

    def measured(gates: np.ndarray) -> np.ndarray:
        scores = gated_scores(model, pairs.pairs, gates)
        return evaluate(measure, queries, scores.astype(np.float64)).values

    return measured


def tested(values: np.ndarray, collections: Sequence[str]) -> dict[str, object]:
    """A mean area with its interval and p; undecided where there are fewer than ten queries.

    Args:
        values: [query], what is tested against 0.
        collections: the collection of each query.
    """
    found: dict[str, object] = {"area": float(values.mean())}
    if len(values) < LEAST_QUERIES:
        why = f"{len(values)} queries; at least {LEAST_QUERIES} are needed"
        return found | {"undecided": why}
    low, high = (float(end[0]) for end in bootstrap_t(values[None], collections))
    p = min(1.0, 2 * min(one_sided(values, 1), one_sided(values, -1)))
    known = low <= high
    return found | {
        "interval": [low, high] if known else "none: too few queries differ",
        "p (two-sided, uncorrected)": p,
    }


def compared(
    model: Reranker, source: str, chosen: PairSet, options: argparse.Namespace, record: Record
) -> None:
    """Rank gates on one half of the queries, and tell each ranking's areas on the other.

    Args:
        model: a loaded reranker.
        source: the name of the collection.
        chosen: its judged pairs.
        options: points, and number of random rankings.
        record: told what was found.
    """
    ranked, other = (half_of(chosen, which, 0) for which in (0, 1))
    measured = measured_by(model, other, parse_measure("nDCG@10", rel=2))
    queries = candidates(other)
    if not queries or not ranked.pairs:
        sys.exit(f"{source}: {len(chosen.pairs)} pairs give no query for a half: give more --pairs")
    names = [query.collection for query in queries]
    draw = np.random.default_rng(0)
    found: dict[str, Any] = {"ranked on pairs": len(ranked.pairs), "pairs": len(other.pairs)}
    found |= {"queries": len(queries), "random rankings": options.random}
    areas: dict[str, np.ndarray] = {}
    for name, size in rankings(model, ranked, options.points).items():
        own = curves(size, measured, _first)
        random = np.mean(
            [curves(size, measured, lambda s, n: like(s, n, draw)) for _ in range(options.random)],
            axis=0,
        )
        better = (own - random) * np.array([-1.0, 1.0])[:, None, None]
        areas[name] = better.mean(1)
        for at, curve in enumerate(CURVES):
            found[f"{name}, {curve}"] = {
                **tested(areas[name][at], names),
                "curve": own[at].mean(1).tolist(),
                "random curve": random[at].mean(1).tolist(),
            }
        record.put(**{source: found})
    ours = areas.pop(OWN)
    for name, theirs in areas.items():
        for curve, values in zip(CURVES, ours - theirs, strict=True):
            found[f"{OWN} less {name}, {curve}"] = tested(values, names)
    record.put(**{source: found})


def main(words: Sequence[str] | None = None) -> None:
    """Tell the areas of every ranking."""
    parser = common_options("python -m benchmarks.faithfulness", __doc__)
    parser.add_argument("--pairs", type=int, default=200, help="at most, of each collection")
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--random", type=int, default=5)
    parser.add_argument("--years", type=int, nargs="+", default=[2019, 2020], help="of TREC DL")
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    model = matchlens.load("demo", device=options.device)
    record = Record(options, "judged pairs, at most 3 of each query and grade")
    for year in options.years:
        source, chosen = subjects.judged(3, year)
        if len(chosen.pairs) > options.pairs:
            chosen = matchlens.thin(chosen, options.pairs)[0]
        compared(model, source, chosen, options, record)


if __name__ == "__main__":
    main()

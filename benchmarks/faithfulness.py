"""Deletion and insertion curves of rankings of gates: ``python -m benchmarks.faithfulness``.

Each ranking orders all gates (a head in a direction) on one half of the queries; on the other half
the first k of them are cut together (deletion), or all but them (insertion), and the measure is
taken. A ranking's area is that between its curve and the mean curve of random rankings, each of
which has as many gates of every layer among the first k; above 0 is better. Areas are compared
query by query.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch

import matchlens
from benchmarks import subjects
from matchlens.corpora import PairSet
from matchlens.gating import gate_slopes, gated_scores
from matchlens.models.load import Reranker
from matchlens.parts import NAMED
from matchlens.ranking import Measure, evaluate, parse_measure
from matchlens.ranking.effects import one_sided
from matchlens.ranking.intervals import bootstrap_t
from matchlens.studies.common import candidates, half_of
from matchlens.studies.watching import watch

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of the gates that a curve's points cut or keep."""
CURVES = ("deletion", "insertion")


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
        "integrated contribution": np.abs(total).mean(0),
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


def main() -> None:
    """Print the table of areas."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faithfulness")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--random", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source, chosen = subjects.judged(3)
    if len(chosen.pairs) > options.pairs:
        chosen = matchlens.thin(chosen, options.pairs)[0]
    model = matchlens.load("demo", device="cpu")
    found, other = (half_of(chosen, which, 0) for which in (0, 1))
    print(f"{source}: ranked on {len(found.pairs)} pairs, measured on {len(other.pairs)}")
    measured = measured_by(model, other, parse_measure("nDCG@10", rel=2))
    names = [query.collection for query in candidates(other)]
    draw = np.random.default_rng(0)
    areas: dict[str, np.ndarray] = {}
    for name, size in rankings(model, found, options.points).items():
        own = curves(size, measured, _first)
        random = np.mean(
            [curves(size, measured, lambda s, n: like(s, n, draw)) for _ in range(options.random)],
            axis=0,
        )
        better = (own - random) * np.array([-1.0, 1.0])[:, None, None]
        areas[name] = better.mean(1)
        for curve, values in zip(CURVES, areas[name], strict=True):
            low, high = bootstrap_t(values[None], names)
            p = one_sided(values, 1)
            print(
                f"{name}, {curve}: {values.mean():.4f} ({low[0]:.4f} to {high[0]:.4f}), p {p:.2g}",
                flush=True,
            )
    ours = areas.pop("integrated contribution")
    for name, theirs in areas.items():
        for curve, values in zip(CURVES, ours - theirs, strict=True):
            p = min(1.0, 2 * min(one_sided(values, 1), one_sided(values, -1)))
            print(f"integrated less {name}, {curve}: {values.mean():.4f}, p {p:.2g}")


if __name__ == "__main__":
    main()

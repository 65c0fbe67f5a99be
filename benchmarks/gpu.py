"""On a GPU: what studies take in bfloat16, for a MonoBERT-large and a Qwen3-0.6B shape.

``python -m benchmarks.gpu`` (``make bench-gpu``) watches its own clock: ``--minutes`` are divided
among the shapes and their works, and each work takes as many pairs as its time allows. It says what
the paper's 226 queries with 40 passages each would take. Results are written after every step.
Weights are random: they cost what trained ones cost. Where there is no GPU it says so in one line
and measures nothing; ``--device cpu --tiny`` walks the same code, and is no measurement.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import matchlens
from benchmarks import operations, subjects
from benchmarks.machine import machine
from benchmarks.works import FIGURE1A, TABLE1
from matchlens.corpora import PairSet
from matchlens.gating import check_gates, stream_slopes
from matchlens.meters.names import NAMES
from matchlens.models.load import Reranker
from matchlens.studies.attention.watching import watch
from matchlens.studies.explaining import POINTS

PAPER_PAIRS = 226 * 40
ABLATION_PAIRS = 200
A_GRADE = 60
"""Judged pairs of each query and grade, so that a fast card has enough to do."""
FEW, WARM, COUNTED, CHECKED, SCREENED = 16, 256, 8, 6, 2
"""Pairs that tell whether there is time for more, that warm a work up, whose operations are
counted, that are scored on a CPU, too, and of each query and grade in the study `screen`."""
COMPARED, SQUARE = 1000, 8192
LEAST_SECONDS = 4
"""A work that cannot have so long is left out."""
CHECKS = ("Q->D", "D->Q@0:2", "D->D~mask", "CLS->All", "D->D#1.1")
MISSING = "no CUDA device is at hand: the figures of a GPU are missing"


def up_to(model: Reranker) -> list[str]:
    """The cuts of Figure 1a."""
    layers = range(1, model.family.n_layers + 1)
    return [f"{way}@0:{n}" for way in FIGURE1A for n in layers]


def screen(model: Reranker, pairs: PairSet) -> None:
    """The screen's pass over the pairs; its exact cuts and its tests are timed as a study."""
    check_gates(model)
    stream_slopes(model, pairs.pairs, lambda rows, values: None)


def explain(model: Reranker, pairs: PairSet) -> None:
    """Explain each pair against its neighbour, as passages of one query, with the smallest swap."""
    for first, second in zip(pairs.pairs[::2], pairs.pairs[1::2], strict=False):
        matchlens.explain(model, first.query, [("a", first.text), ("b", second.text)])


@dataclass(frozen=True)
class Work:
    """A study that is measured.

    Args:
        run: does it.
        cuts: whose operations are counted beside the untouched model's.
        passes: how often the untouched model's operations are done; a backward pass to the gates
            is one more.
        few: pairs that tell whether there is time for more; an even number.
        paper: whether it is part of the paper's studies.
    """

    run: Callable[[Reranker, PairSet], object]
    cuts: Callable[[Reranker], Sequence[str]] = lambda model: ()
    passes: int = 1
    few: int = FEW
    paper: bool = True


WORKS: Mapping[str, Work] = {
    "scoring": Work(lambda model, pairs: matchlens.score(model, pairs.pairs)),
    "attention": Work(lambda model, pairs: watch(model, pairs, list(NAMES))),
    "screen": Work(screen, passes=2, paper=False),
    "table1": Work(
        lambda model, pairs: matchlens.score(model, pairs.pairs, TABLE1), lambda model: TABLE1
    ),
    "explain": Work(explain, passes=2 * POINTS, few=2, paper=False),
    "up-to": Work(lambda model, pairs: matchlens.score(model, pairs.pairs, up_to(model)), up_to),
}
"""What is measured, quick ones first: what they leave of their time goes to the others. Another
study is one line."""


def asked(words: Sequence[str] | None) -> argparse.Namespace:
    """The options of a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a few pairs and small shapes")
    parser.add_argument("--minutes", type=float, default=8, help="about how long it may take")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out", "bench", "gpu.json"))
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, or say that nothing can be measured."""
    options = asked(words)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(MISSING)
        return
    warnings.simplefilter("ignore")  # of random weights, which rank as they like
    end = time.monotonic() + 60 * options.minutes
    source, pairs = subjects.judged(A_GRADE)
    cuda = options.device.startswith("cuda")
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(options.device) if cuda else options.device,
        "machine": machine(),
        "source": source,
        "command": f"python -m benchmarks.gpu --minutes {options.minutes:g} "
        f"--rounds {options.rounds}",
        "shapes": {},
    }
    shapes = ("small", "small-decoder") if options.tiny else ("bert-large", "qwen3-0.6b")
    for place, shape in enumerate(shapes):
        until = time.monotonic() + (end - time.monotonic()) / (len(shapes) - place)
        with tempfile.TemporaryDirectory(prefix="matchlens-bench-") as held:
            bench = Bench(options, shape, pairs, Path(held), until)
            found["shapes"][shape] = bench.found
            for step in bench.steps():
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps({"gpu": found}, indent=1) + "\n")
                print(f"{end - time.monotonic():4.0f} s left: {shape}: {step}", flush=True)
    print(options.out)


class Bench:
    """One shape's measurements.

    Args:
        options: of the run.
        shape: a name of :mod:`benchmarks.subjects`.
        pairs: judged pairs.
        folder: where the model is made.
        until: when it should be done, by the monotonic clock.
    """

    def __init__(
        self, options: argparse.Namespace, shape: str, pairs: PairSet, folder: Path, until: float
    ) -> None:
        self.device, self.rounds, self.until = options.device, options.rounds, until
        self.cuda = self.device.startswith("cuda")
        self.side = 256 if options.tiny else SQUARE
        self.all = matchlens.thin(pairs, 16)[0] if options.tiny else pairs
        self.shape, self.folder = shape, folder
        self.found: dict[str, Any] = {"works": {}}

    def steps(self) -> Any:
        """Measure one thing after another; yields what was found, in words."""
        texts = [text for pair in self.all.pairs for text in (pair.query, pair.text)]
        folder = subjects.self_contained(self.shape, texts, self.folder, self.device)
        start = time.perf_counter()
        exact = matchlens.load(folder, device=self.device)
        yield self._put("load_seconds", time.perf_counter() - start)
        yield self._put("off the cpu", self._off_the_cpu(folder, exact))
        model = matchlens.load(folder, device=self.device, dtype="bfloat16")
        yield self._put("bf16", self._rounded(model, exact))
        exact = None
        yield self._put("returned_mib", self._returned(model))
        few = matchlens.thin(self.all, ABLATION_PAIRS)[0]
        matchlens.ablation(model, few, cuts=["Q->D"])
        took = self._timed(lambda: matchlens.ablation(model, few))
        yield self._put("ablation", {"pairs": len(few.pairs), **took})
        some = self._of_each_query(SCREENED)
        took = self._timed(lambda: matchlens.screen(model, some))
        yield self._put("screen", {"pairs": len(some.pairs), **took})
        for place, (name, work) in enumerate(WORKS.items()):
            share = (self.until - time.monotonic()) / (len(WORKS) - place)
            if self.cuda and share < LEAST_SECONDS:
                yield f"{name}: no time is left for it"
                continue
            self.found["works"][name] = found = self._measured(model, work, share)
            yield f"{name} {found['ms']:.2f} ms a pair, {found['share']:.2f} of the peak"
        if len(self.found["works"]) < len(WORKS):
            return
        both = [self.found["works"][name] for name, work in WORKS.items() if work.cuts(model)]
        self.found["share"] = sum(one["operations"] for one in both) / sum(
            one["operations"] / one["share"] for one in both
        )
        seconds = [
            self.found["works"][name]["ms"] / 1000 * PAPER_PAIRS
            for name, work in WORKS.items()
            if work.paper
        ]
        self.found["paper_seconds"] = sum(seconds)
        yield f"{self.found['share']:.2f} of the peak, the paper {sum(seconds):.0f} s"

    def _put(self, name: str, value: Any) -> str:
        self.found[name] = value
        return f"{name} {value}"

    def _measured(self, model: Reranker, work: Work, seconds: float) -> dict[str, Any]:
        """Rounds of one work in bfloat16, on as many pairs as the time allows.

        Returns:
            Milliseconds a pair (median and rounds), useful operations a pair, their share of the
            rate of big products, the most memory, and which kernels took the time.
        """
        few = self._spread(work.few)
        first = self._timed(lambda: work.run(model, few))["seconds"]
        each = first / len(few.pairs)
        if first < 0.2 * seconds:  # else there is no time to leave the warm-up out
            each = self._timed(lambda: work.run(model, few))["seconds"] / len(few.pairs)
        warm = self._spread(max(min(int(0.2 * seconds / each), WARM), work.few))
        if len(warm.pairs) > len(few.pairs):
            each = self._timed(lambda: work.run(model, warm))["seconds"] / len(warm.pairs)
        left = 0.6 * seconds - first
        pairs = self._spread(max(int(left / (self.rounds + 0.2) / each), len(warm.pairs)))
        rounds, rates = [], []
        took: dict[str, Any] = {}
        for _ in range(max(1, min(self.rounds, int(left / each / len(pairs.pairs))))):
            rates.append(self._rate())
            took = self._timed(lambda: work.run(model, pairs))
            rounds.append(1000 * took["seconds"] / len(pairs.pairs))
        operations_each = self._operations(model, work, pairs)
        ms = statistics.median(rounds)
        return {
            "pairs": len(pairs.pairs),
            "tokens": float(model.encode(pairs.pairs).lengths.mean()),
            "ms": ms,
            "rounds": rounds,
            "rate": max(rates),
            "operations": operations_each,
            "share": operations_each / (ms / 1000) / max(rates),
            "memory_gib": took["memory_gib"],
            "warm_up_seconds": first,
            "busy_ms": self._busy(work, model, warm) if self.cuda else {},
        }

    def _spread(self, number: int) -> PairSet:
        """So many pairs, of all lengths."""
        lengths = [len(pair.query) + len(pair.text) for pair in self.all.pairs]
        places = subjects.spread(lengths, number)
        return replace(self.all, pairs=tuple(self.all.pairs[place] for place in places))

    def _of_each_query(self, number: int) -> PairSet:
        """So many pairs of each query and grade."""
        left: dict[tuple[str, str, int], int] = {}
        kept = []
        for pair in self.all.pairs:
            key = (pair.collection, pair.qid, pair.grade)
            left[key] = left.get(key, number) - 1
            if left[key] >= 0:
                kept.append(pair)
        return replace(self.all, pairs=tuple(kept))

    def _operations(self, model: Reranker, work: Work, pairs: PairSet) -> float:
        """Useful operations a pair, from some pairs of all lengths."""
        lengths = model.encode(pairs.pairs).lengths
        places = subjects.spread(lengths.tolist(), COUNTED)
        some = [pairs.pairs[place] for place in places]
        counted = work.passes * operations.of_run(model, some, ["", *work.cuts(model)])
        return counted / lengths[places].sum() * lengths.mean()

    def _rounded(self, model: Reranker, exact: Reranker) -> dict[str, float]:
        """bfloat16 scores against float32 ones."""
        pairs = matchlens.thin(self.all, COMPARED)[0].pairs
        half, full = (matchlens.score(one, pairs)[""].to_numpy() for one in (model, exact))
        by_query: dict[str, list[int]] = {}
        for place, pair in enumerate(pairs):
            by_query.setdefault(pair.qid, []).append(place)
        ranks = [
            float(spearmanr(half[rows], full[rows]).statistic)
            for rows in by_query.values()
            if len(rows) > 2 and min(np.ptp(half[rows]), np.ptp(full[rows])) > 0
        ]
        inside = np.concatenate([full[rows] - full[rows].mean() for rows in by_query.values()])
        return {
            "pairs": len(pairs),
            "off by": float(np.abs(half - full).max() / full.std()),
            "off by, mean": float(np.abs(half - full).mean() / full.std()),
            "off by, of the deviation within queries": float(
                np.abs(half - full).max() / max(inside.std(), 1e-12)
            ),
            "rank correlation": float(np.mean(ranks)) if ranks else 1.0,
            "lowest rank correlation": min(ranks, default=1.0),
        }

    def _off_the_cpu(self, folder: str, exact: Reranker) -> float:
        """Largest difference of float32 scores, cut and uncut, from a CPU's."""
        pairs = self._spread(CHECKED).pairs
        here = matchlens.score(exact, pairs, CHECKS).to_numpy()
        there = matchlens.score(matchlens.load(folder, device="cpu"), pairs, CHECKS).to_numpy()
        return float(np.abs(here - there).max())

    def _returned(self, model: Reranker) -> float:
        """Device memory that a run keeps behind it, in MiB."""
        left = []
        for _ in range(2):
            matchlens.score(model, self._spread(FEW).pairs, CHECKS)
            gc.collect()
            left.append(torch.cuda.memory_allocated(self.device) if self.cuda else 0)
        return (left[1] - left[0]) / 2**20

    def _timed(self, work: Callable[[], object]) -> dict[str, Any]:
        """Seconds, and the most memory that was allocated."""
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        work()
        if self.cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        memory = torch.cuda.max_memory_allocated(self.device) / 2**30 if self.cuda else None
        return {"seconds": seconds, "memory_gib": memory}

    def _rate(self) -> float:
        """Operations a second of a big bfloat16 product, the best of some tries."""
        kind = {"device": self.device, "dtype": torch.bfloat16}
        a, b = (torch.randn(self.side, self.side, **kind) for _ in "ab")
        torch.mm(a, b)
        times = [self._timed(lambda: torch.mm(a, b))["seconds"] for _ in range(10)]
        return 2 * self.side**3 / min(times)

    def _busy(self, work: Work, model: Reranker, pairs: PairSet) -> dict[str, float]:
        """Milliseconds a pair in which the device computes, in all and by the longest kernels."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            work.run(model, pairs)
            torch.cuda.synchronize()
        each = 1000 * len(pairs.pairs)  # the profiler counts microseconds
        times: dict[str, float] = {}
        for one in seen.key_averages():
            name = one.key[:90]
            times[name] = times.get(name, 0) + one.self_device_time_total / each
        first = sorted(times, key=lambda key: -times[key])[:16]
        return {"all": sum(times.values()), **{key: times[key] for key in first}}


if __name__ == "__main__":
    main()

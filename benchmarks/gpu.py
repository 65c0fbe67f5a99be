"""On a GPU: Table 1, Figure 1a and the attention study in bfloat16, with a MonoBERT-large shape.

``python -m benchmarks.gpu`` (``make bench-gpu``) runs a slice of the paper's pairs and says what
the whole would take: 226 queries with 40 passages each. Random weights: they cost what trained ones
cost. Where there is no GPU it says so in one line and measures nothing; ``--device cpu --tiny``
walks the same code in seconds, and is no measurement.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import matchlens
from benchmarks import operations, subjects
from benchmarks.machine import machine
from benchmarks.works import FIGURE1A, TABLE1
from matchlens.corpora import Pair, PairSet
from matchlens.meters.names import NAMES
from matchlens.studies.watching import watch

PAPER_PAIRS = 226 * 40
SLICE = 256
ROUNDS = 5
SQUARE = 8192
MISSING = "no CUDA device is at hand: the figures of a GPU are missing"


def asked(words: Sequence[str] | None) -> argparse.Namespace:
    """The options of a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a few pairs and a small shape")
    parser.add_argument("--pairs", type=int, default=SLICE)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=Path("out", "bench", "gpu.json"))
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, or say that nothing can be measured."""
    options = asked(words)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(MISSING)
        return
    with tempfile.TemporaryDirectory(prefix="matchlens-bench-") as held:
        found = measured(options, Path(held))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"gpu": found}, indent=1) + "\n")
    whole = f"the whole paper {found['paper_seconds']:.0f} s"
    print(f"share of the bf16 peak {found['share']:.2f}; {whole}")
    print(options.out)


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Rounds of the three studies with the rate of matrix products between them.

    Args:
        options: of the run.
        folder: where the model is made.

    Returns:
        Every round's seconds, shares and rates, their medians, and how far bfloat16 scores are from
        float32 ones.
    """
    shape = "small" if options.tiny else "bert-large"
    folder_of_model = subjects.random_model(shape, folder, labels=2)
    number = 4 if options.tiny else options.pairs
    texts = subjects.pairs(number)[1]
    made = [Pair(f"q{n // 40}", str(n), q, text, 0) for n, (q, text) in enumerate(texts)]
    model = matchlens.load(folder_of_model, device=options.device, dtype="bfloat16")
    exact = matchlens.load(folder_of_model, device=options.device)
    layers = model.family.n_layers
    up_to = [f"{way}@0:{n}" for way in FIGURE1A for n in range(1, layers + 1)]
    works: dict[str, tuple[list[str], Callable[[], object]]] = {
        "table1": (list(TABLE1), lambda: matchlens.score(model, made, TABLE1)),
        "up-to": (up_to, lambda: matchlens.score(model, made, up_to)),
        "attention": (
            [],
            lambda: watch(model, PairSet(tuple(made), {}, {}, {}, ()), list(NAMES)),
        ),
    }
    rounds = []
    for number in range(options.rounds + 1):  # the first one warms up
        rates, took = [], {}
        for name, (_, work) in works.items():
            rates.append(_rate(options.device, 256 if options.tiny else SQUARE))
            took[name] = _seconds(work, options.device)
        if number:
            rounds.append({"rate": max(rates), "seconds": took})
    useful = {
        name: operations.of_run(model, made, ["", *cuts]) for name, (cuts, _) in works.items()
    }
    shares = [
        sum(useful[name] for name in ("table1", "up-to"))
        / sum(one["seconds"][name] for name in ("table1", "up-to"))
        / one["rate"]
        for one in rounds
    ]
    totals = [sum(one["seconds"].values()) for one in rounds]
    return {
        "device": _name(options.device),
        "machine": machine(),
        "shape": shape,
        "pairs": len(made),
        "conditions": {name: len(cuts) + 1 for name, (cuts, _) in works.items()},
        "rounds": rounds,
        "useful operations": useful,
        "shares": shares,
        "share": statistics.median(shares),
        "paper_seconds": statistics.median(totals) / len(made) * PAPER_PAIRS,
        "bf16 off by": _off(model, exact, made),
        "memory_gib": _memory(options.device),
    }


def _off(model: Any, exact: Any, pairs: list[Pair]) -> float:
    """Largest difference of bfloat16 scores from float32 ones, in standard deviations of these."""
    half, full = (matchlens.score(one, pairs)[""].to_numpy() for one in (model, exact))
    return float(np.abs(half - full).max() / max(full.std(), 1e-9))


def _seconds(work: Callable[[], object], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _rate(device: str, side: int) -> float:
    """Operations a second of a big bfloat16 product, the best of some tries."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in "ab")
    torch.mm(a, b)
    return max(2 * side**3 / _seconds(lambda: torch.mm(a, b), device) for _ in range(10))


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _memory(device: str) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.startswith("cuda") else None


if __name__ == "__main__":
    main()

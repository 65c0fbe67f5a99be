"""Runs the comparisons and writes what was measured: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import subjects
from benchmarks.encoding import Tokens, encode
from benchmarks.growth import grow
from benchmarks.harness import TOLERANCES, compete
from benchmarks.job import Job
from benchmarks.machine import machine
from benchmarks.operations import FORMULA
from benchmarks.profiled import profile
from benchmarks.reference import reference
from benchmarks.works import AMOUNTS, Work, peak, triplets, works

KEYS = ("plain", "table1", "up-to", "heads", "masses", "triplets", "growth", "gates")
LIMIT = 128
"""Length limit of all contenders, and the length to which the authors' loop pads."""


def asked(words: Sequence[str]) -> argparse.Namespace:
    """The options of a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--amount", choices=AMOUNTS, default="bench")
    parser.add_argument("--only", action="append", choices=KEYS, help="may be given several times")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison")
    parser.add_argument("--pairs", type=int, help="pairs of each comparison")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contender")
    parser.add_argument("--note", default="", help="said at the head of the page")
    parser.add_argument("--out", type=Path, help="out/bench/AMOUNT.json where left out")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run what was asked for; the file is written anew after each comparison."""
    given = sys.argv[1:] if words is None else list(words)
    options = asked(given)
    amount = AMOUNTS[options.amount]
    rounds = options.rounds or amount.rounds
    only = options.only or KEYS
    out = options.out or Path("out", "bench", f"{options.amount}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    source, pairs = subjects.pairs(options.pairs or amount.pairs)
    held: dict[str, Any] = {
        "machine": machine(),
        "command": shlex.join(["python", "-m", "benchmarks", *given]),
        "amount": options.amount,
        "note": options.note,
        "threads": options.threads,
        "rounds": rounds,
        "pairs": {"source": source, "number": len(pairs), "limit": LIMIT},
        "tolerances": TOLERANCES,
        "operations": FORMULA,
        "works": {},
        "growth": [],
    }

    def write() -> None:
        held["seconds"] = round(time.perf_counter() - started)
        out.write_text(json.dumps(_finite(held), indent=1) + "\n")

    with tempfile.TemporaryDirectory(prefix="matchlens-bench-") as temporary:
        folder = Path(temporary)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")  # nothing compiled before
        for shape in ("demo", *amount.models):
            model = subjects.model(shape, folder)
            texts = pairs if shape == "demo" else pairs[: amount.model_pairs]
            base = Job("scores", model, LIMIT, texts, threads=options.threads)
            for work in _works(base, amount, shape, only):
                held["works"][work.key] = _done(work, shape, amount.checked, rounds)
                write()
        if "triplets" in only:
            held["works"]["triplets"] = _done(triplets(options.threads), "random", 0, rounds)
        if "growth" in only:
            print("growth", flush=True)
            held["growth"] = grow(amount.growth, rounds, options.threads, folder, _say)
        if "gates" in only:
            held["gates"] = _gates(rounds, options.threads, folder)
        if "plain" in only:
            held["profile"] = profile(pairs)
    write()
    print(f"{out} after {held['seconds']} s; python -m benchmarks.page {out} writes the page")


def _works(base: Job, amount: Any, shape: str, only: Sequence[str]) -> list[Work]:
    config = json.loads(Path(base.model, "config.json").read_text())
    made = works(amount, base, config["num_hidden_layers"], config["num_attention_heads"])
    meter = peak(config)
    out = []
    for work in made:
        if work.key not in only:
            continue
        contenders = work.contenders
        if work.key in ("plain", "up-to"):
            contenders = (*contenders, meter)
        key = work.key if shape == "demo" else f"{work.key} {shape}"
        out.append(Work(key, work.title, work.job, contenders))
    return out


def _done(work: Work, shape: str, checked: int, rounds: int) -> dict[str, Any]:
    """One comparison, as it is written."""
    job = work.job
    _say(f"{work.key}: {len(job.pairs)} pairs, {len(job.conditions)} conditions")
    tokens = _lengths(work.job)
    places = subjects.spread(tokens, checked)
    everything = replace(work.job, threads=os.cpu_count() or 1)
    right = reference(everything, places)  # it is not timed
    _say("  reference: ready")
    standings = compete(work.job, work.contenders, right, rounds, _say)
    return {
        "title": work.title,
        "model": shape,
        "conditions": work.job.conditions,
        "pairs": len(work.job.pairs),
        "tokens": {"mean": sum(tokens) / len(tokens), "most": max(tokens)} if tokens else {},
        "checked": len(places),
        "contenders": {one.contender.name: one.record() for one in standings},
    }


def _gates(rounds: int, threads: int, folder: Path) -> dict[str, list[float]]:
    """The screen's CPU seconds over those of plain scoring, and those of explanations."""
    _say("gates")
    found = {}
    for what in ("cost", "explain"):
        out = folder / f"{what}.json"
        words = [what, "--number", str(rounds), "--threads", str(threads), "--out", str(out)]
        # Without the judged pairs there is nothing to measure on: the page says so.
        subprocess.run([sys.executable, "-m", "benchmarks.gates", *words], check=False)
        found[what] = json.loads(out.read_text()) if out.exists() else {}
    swaps = [value for key, value in found["explain"].items() if key.startswith("with the swap")]
    return {
        "screen": found["cost"].get("ratios", []),
        "explain": [value["cpu_seconds"] for value in swaps],
    }


def _lengths(job: Job) -> list[int]:
    if not job.pairs:
        return []
    from transformers import AutoTokenizer

    encoded: list[Tokens] = encode(AutoTokenizer.from_pretrained(job.model), job)
    return [len(one.ids) for one in encoded]


def _say(text: str) -> None:
    print(text, flush=True)


def _finite(value: Any) -> Any:
    """What JSON can hold: no NaN, no infinity."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main()

"""Seconds of the live page: ``python -m benchmarks.serve_latency``, over HTTP, as a browser asks.

From the command to the first score; then toggles, each another cell of directions by layers that is
cut or restored, and each followed by the new scores. Wall time is what a person waits; CPU time
says the same on a machine that others use, too. No goal is judged here.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch

import matchlens
from benchmarks.machine import machine
from matchlens import Pair
from matchlens.live.server import LivePage
from matchlens.parts import NAMED

GOALS = {"first score": 10.0, "1 passage": 0.1, "10 passages": 0.5, "words": 5.0}
"""Seconds, of toggles at the 95th percentile, on two cores that nobody else uses."""


MOST_CUT = 40
"""Cells that are cut at once."""


def ask(port: int, token: str, body: Mapping[str, object]) -> Mapping[str, object]:
    """What the server tells last."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        headers = {"Content-Type": "application/json", "X-Matchlens-Token": token}
        connection.request("POST", "/api/run", json.dumps(body), headers)
        return json.loads(connection.getresponse().read().splitlines()[-1])["result"]


def experiment(
    pairs: Sequence[Pair], cuts: Sequence[str], kind: str = "score"
) -> dict[str, object]:
    texts = [pair.text for pair in pairs]
    return {"kind": kind, "client": "benchmark", "model": 0, "query": pairs[0].query,
            "passages": texts, "cuts": list(cuts)}  # fmt: skip


def first_score(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Seconds from the command to the first score, by the wall and by the CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    words = [sys.executable, "-m", "matchlens", "serve", "--no-open", "--quiet"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r":(\d+)/\?token=(.+)", process.stdout.readline())
    assert found is not None
    ask(int(found[1]), found[2], experiment(pairs, []))
    seconds = time.perf_counter() - started
    process.terminate()
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def toggles(page: LivePage, pairs: Sequence[Pair], number: int) -> np.ndarray:
    """Wall and CPU seconds of each toggle, [toggle, 2]."""
    draw = np.random.default_rng(len(pairs))
    layers = page.microscope.models[0].family.n_layers
    on: set[str] = set()
    taken = []
    ask(page.port, page.token, experiment(pairs, []))
    for _ in range(number):
        x, y = draw.choice(len(NAMED), 2)
        on ^= {f"{NAMED[x]}->{NAMED[y]}@{draw.integers(layers)}"}
        on = on if len(on) <= MOST_CUT else set(sorted(on)[:1])
        wall, cpu = time.perf_counter(), time.process_time()
        ask(page.port, page.token, experiment(pairs, sorted(on)))
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    return np.array(taken)


def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_latency")
    parser.add_argument("--toggles", type=int, default=200)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(machine()), flush=True)
    pairs = matchlens.choose(matchlens.demo.load(), queries=1).pairs[:10]
    wall, cpu = first_score(pairs)
    goal = GOALS["first score"]
    print(f"first score: {wall:.1f} s, CPU {cpu:.1f} s (goal {goal:g} s)", flush=True)
    with matchlens.serve(matchlens.load("demo", device="cpu")) as page:
        for name, some in (("1 passage", pairs[:1]), ("10 passages", pairs)):
            taken = toggles(page, some, options.toggles)
            tokens = ask(page.port, page.token, experiment(some, []))["tokens"]
            median, high = (np.percentile(taken, share, axis=0) for share in (50, 95))
            print(
                f"{name} ({np.mean(tokens):.0f} tokens), {len(taken)} toggles: median "
                f"{median[0]:.3f} s, 95th percentile {high[0]:.3f} s (goal {GOALS[name]:g} s); "
                f"CPU median {median[1]:.3f} s, 95th percentile {high[1]:.3f} s",
                flush=True,
            )
        ask(page.port, page.token, experiment(pairs[:2], [], "words"))  # the check of gates, once
        taken = []
        for layer in range(10):
            wall, cpu = time.perf_counter(), time.process_time()
            ask(page.port, page.token, experiment(pairs[:2], [f"Q->D@{layer}"], "words"))
            taken.append((time.perf_counter() - wall, time.process_time() - cpu))
        high = np.max(taken, axis=0)
        print(f"words of two passages: at most {high[0]:.1f} s, CPU {high[1]:.1f} s (goal 5 s)")


if __name__ == "__main__":
    main()

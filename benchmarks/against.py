"""CPU seconds of this version against an earlier one, on the same conditions of the same pairs.

``python -m benchmarks.against COMMIT`` checks the commit out beside the working tree, starts a
process of the earlier version and two of this one, in float32 and in bfloat16, and lets them take
turns. Each ratio is the earlier version's CPU seconds over this version's: above 1, this version is
faster. "prepare" starts a fresh process that imports, loads, checks and packs the demo model. It
needs the TREC DL files in the folder of ``MATCHLENS_TREC_DL``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKS = ("prepare", "load", "plain", "table 1", "figure 1a", "heads", "masses")
GOALS = {"float32": 1.15, "bfloat16": 1.5}
"""How many times faster than the earlier version's float32 the cuts and the attention should be."""
LOADS = "import matchlens, time; matchlens.load('demo', dtype={!r}); print(time.process_time())"


def serve(pairs: int, dtype: str, threads: int) -> None:
    """Do one work for each line of the input, and answer with its CPU seconds.

    Only names that both versions have are used here.
    """
    import torch

    import matchlens
    from benchmarks.subjects import judged, spread
    from benchmarks.works import FIGURE1A, TABLE1

    try:
        from matchlens.studies.attention.watching import watch
    except ModuleNotFoundError:  # an older version
        from matchlens.studies.watching import watch  # pyright: ignore[reportMissingImports]

    with suppress(ImportError):  # an older version does it when it loads a model
        from matchlens.models.packed import keep_memory

        keep_memory()
    torch.set_num_threads(threads)
    _, chosen = judged()
    rows = spread([len(pair.text) for pair in chosen.pairs], pairs)
    collection = replace(chosen, pairs=tuple(chosen.pairs[row] for row in rows))
    model = matchlens.load("demo", dtype=dtype)
    layers = range(1, 13)
    figure = [f"{direction}@0:{layer}" for direction in FIGURE1A for layer in layers]
    heads = [f"Q->D#{layer}.{head}" for layer in layers[:-1] for head in range(12)]
    few = collection.pairs[: max(2, pairs // 4)]
    works: dict[str, Callable[[], object]] = {
        "load": lambda: matchlens.load("demo", dtype=dtype),
        "plain": lambda: matchlens.score(model, collection.pairs),
        "table 1": lambda: matchlens.score(model, collection.pairs, TABLE1),
        "figure 1a": lambda: matchlens.score(model, few, figure),
        "heads": lambda: matchlens.score(model, few, heads),
        "masses": lambda: watch(model, collection, ["mass"]),
    }
    texts = json.dumps([[pair.query, pair.text] for pair in collection.pairs])
    print(hashlib.sha256(texts.encode()).hexdigest(), flush=True)
    for line in sys.stdin:
        started = time.process_time()
        works[line.strip()]()
        print(time.process_time() - started, flush=True)


class Version:
    """A process of one version.

    Args:
        source: the folder that holds its package.
        pairs: how many pairs it runs.
        dtype: of the weights.
        threads: how many it may use.
    """

    def __init__(self, source: Path, pairs: int, dtype: str, threads: int) -> None:
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)]),
            "OMP_NUM_THREADS": str(threads),
        }
        self.dtype = dtype
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.against", "serve"),
                *(str(pairs), dtype, str(threads)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self.environment,
        )
        self.texts = self._line("load")

    def _line(self, work: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a version ended while it did {work!r}")
        return line

    def seconds(self, work: str) -> float:
        """CPU seconds of one work."""
        if work == "prepare":
            words = [sys.executable, "-c", LOADS.format(self.dtype)]
            return float(subprocess.check_output(words, text=True, env=self.environment))
        assert self.process.stdin is not None
        print(work, file=self.process.stdin, flush=True)
        return float(self._line(work))


def main() -> None:
    """Compare, print a table, and write the seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("commit", help="the earlier version; or a folder that holds its package")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", action="append", choices=WORKS)
    parser.add_argument("--dtype", action="append", choices=GOALS, help="of this version")
    parser.add_argument("--out", type=Path, default=Path("out", "bench", "against.json"))
    options = parser.parse_args()
    dtypes = options.dtype or [*GOALS]
    with tempfile.TemporaryDirectory(prefix="matchlens-against-") as folder:
        source = Path(options.commit)
        if not source.is_dir():
            archive = Path(folder) / "base.tar"
            subprocess.run(["git", "archive", "-o", archive, options.commit, "src"], check=True)
            subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
            source = Path(folder) / "src"
        versions = {
            "earlier": Version(source.resolve(), options.pairs, "float32", options.threads),
            **{
                dtype: Version(ROOT / "src", options.pairs, dtype, options.threads)
                for dtype in dtypes
            },
        }
        if len({version.texts for version in versions.values()}) > 1:
            sys.exit("the versions choose different pairs; expected the same texts")
        seconds: dict[str, dict[str, list[float]]] = {}
        for work in options.only or WORKS:
            taken: dict[str, list[float]] = {name: [] for name in versions}
            for turn in range(options.rounds + 1):
                # Who goes first alternates; the first round warms all up.
                order = list(versions) if turn % 2 else list(versions)[::-1]
                for name in order:
                    spent = versions[name].seconds(work)
                    if turn:
                        taken[name].append(spent)
            seconds[work] = taken
            print(f"{work:12}earlier {statistics.median(taken['earlier']):.2f} s", end="")
            for dtype in dtypes:
                ratios = [a / b for a, b in zip(taken["earlier"], taken[dtype], strict=True)]
                print(
                    f"   {dtype} {statistics.median(taken[dtype]):.2f} s, "
                    f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to "
                    f"{max(ratios):.2f})",
                    end="",
                )
            print(flush=True)
        for version in versions.values():
            version.process.kill()
    goals = ", ".join(f"{goal:g} in {dtype}" for dtype, goal in GOALS.items())
    print(f"goals for plain scoring, cuts and masses: at least {goals}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**vars(options), "seconds": seconds}, default=str))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()

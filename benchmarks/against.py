"""CPU seconds of this version against an earlier one, on the same conditions of the same pairs.

``python -m benchmarks.against COMMIT`` checks the commit out beside the working tree, starts one
process for each version and lets them take turns. Each ratio is the earlier version's CPU seconds
over this version's: above 1, this version is faster. It needs the TREC DL files in the folder of
``MATCHLENS_TREC_DL``.
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
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKS = ("load", "table 1", "figure 1a", "heads", "masses")


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
        from matchlens.studies.watching import watch

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
        options: those of :func:`serve`.
    """

    def __init__(self, source: Path, options: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.against", "serve", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)])},
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
        assert self.process.stdin is not None
        print(work, file=self.process.stdin, flush=True)
        return float(self._line(work))


def main() -> None:
    """Compare, print a table, and write the seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("commit", help="the earlier version; or a folder that holds its package")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out", "bench", "against.json"))
    options = parser.parse_args()
    arguments = [str(options.pairs), options.dtype, str(options.threads)]
    with tempfile.TemporaryDirectory(prefix="matchlens-against-") as folder:
        source = Path(options.commit)
        if not source.is_dir():
            archive = Path(folder) / "base.tar"
            subprocess.run(["git", "archive", "-o", archive, options.commit, "src"], check=True)
            subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
            source = Path(folder) / "src"
        versions = {
            "earlier": Version(source.resolve(), arguments),
            "now": Version(ROOT / "src", arguments),
        }
        if versions["earlier"].texts != versions["now"].texts:
            sys.exit("the two versions choose different pairs; expected the same texts")
        seconds: dict[str, dict[str, list[float]]] = {}
        print(f"{'work':12}{'earlier':>10}{'now':>10}{'ratio':>8}   lowest and highest", flush=True)
        for work in WORKS:
            taken = {name: [] for name in versions}
            for turn in range(options.rounds + 1):
                # Who goes first alternates; the first round warms both up.
                order = list(versions) if turn % 2 else list(versions)[::-1]
                for name in order:
                    spent = versions[name].seconds(work)
                    if turn:
                        taken[name].append(spent)
            seconds[work] = taken
            ratios = [a / b for a, b in zip(taken["earlier"], taken["now"], strict=True)]
            earlier, now = (statistics.median(taken[name]) for name in ("earlier", "now"))
            print(
                f"{work:12}{earlier:10.2f}{now:10.2f}{statistics.median(ratios):8.2f}"
                f"   {min(ratios):.2f} to {max(ratios):.2f}",
                flush=True,
            )
        for version in versions.values():
            version.process.kill()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**vars(options), "seconds": seconds}, default=str))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()

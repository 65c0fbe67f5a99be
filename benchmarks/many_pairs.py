"""100,000 pairs, scores and masses, stopped half way: memory must stay flat, progress right.

    python benchmarks/many_pairs.py [--pairs 100000]

A tiny random model, so that what grows with the pairs is seen. Three processes:
half of the run, stopped as by Ctrl-C; the rest; and the whole run at once, whose bytes must be
the same.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def resident() -> float:
    """MiB of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def child(folder: Path, out: Path, number: int, stop_at: float) -> None:
    sys.path.insert(0, str(HERE.parent / "tests"))
    import torch

    import matchlens
    import tiny
    from matchlens.meters.arrays import PairArray
    from matchlens.runners import MeasurementRequest, ShardedRunner
    from matchlens.runners.measures import Attention, rows_into
    from matchlens.signals import Stop, Stopped

    torch.set_num_threads(1)
    model = matchlens.load(folder, device="cpu")
    pairs = tiny.pairs(number, queries=max(1, number // 50))
    out.mkdir(exist_ok=True)
    array = PairArray(out.parent / f"{out.name}.npy", (number, 2, 2, 5, 5))
    stop, begun, seen = Stop(), time.perf_counter(), []

    def progress(done: int, total: int) -> None:
        assert total == number
        assert not seen or done >= seen[-1][0], "progress went back"
        if not seen or done - seen[-1][0] >= number // 20 or done == total:
            seen.append((done, resident()))
            print(f"  {done:7d} of {total}: {seen[-1][1]:6.0f} MiB", flush=True)
        if done >= stop_at * number:
            stop.requested = True

    runner = ShardedRunner(out, stop=stop)
    asked = [MeasurementRequest(Attention(("mass",)), rows_into({"mass": array}))]
    try:
        run = runner(model, pairs, {"": []}, progress=progress, asked=asked)
    except Stopped:
        print(f"  stopped at {seen[-1][0]}, {time.perf_counter() - begun:.0f} s")
    else:
        digest = hashlib.sha256(run.scores.values.tobytes() + array.path.read_bytes())
        print(f"  {digest.hexdigest()} {time.perf_counter() - begun:.0f} s", flush=True)
    shards = len(list(out.glob("*/*.shard")))
    quarter = next(
        held for done, held in seen if done >= seen[0][0] + (seen[-1][0] - seen[0][0]) / 4
    )
    print(f"  {shards} shards, {seen[-1][1] - quarter:+.0f} MiB since the first quarter")
    assert seen[-1][1] - quarter < 64, "memory grew"


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--pairs", type=int, default=100_000)
    given.add_argument("--child", nargs=3, metavar=("MODEL", "OUT", "STOP"))
    options = given.parse_args()
    if options.child:
        folder, out, stop_at = options.child
        child(Path(folder), Path(out), options.pairs, float(stop_at))
        return
    sys.path.insert(0, str(HERE.parent / "tests"))
    import tiny

    with tempfile.TemporaryDirectory(prefix="matchlens-") as made:
        model = tiny.save(Path(made) / "model", layers=2, heads=2)
        last = []
        for what, name, stop_at in (
            ("to the half", "a", "0.5"),
            ("the rest", "a", "2"),
            ("all at once", "b", "2"),
        ):
            print(what, flush=True)
            words = ["--pairs", str(options.pairs), "--child", str(model)]
            done = subprocess.run(
                [sys.executable, __file__, *words, f"{made}/{name}", stop_at],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            print(done.stdout, end="", flush=True)
            last += [line.split()[0] for line in done.stdout.splitlines() if len(line) > 64]
        assert last[0] == last[1], "a resumed run ended in other bytes"
        print("the same bytes with and without a stop")


if __name__ == "__main__":
    main()

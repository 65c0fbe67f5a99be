"""One contender in a process of its own: it waits, works when told to, and says what that took.

``python -m benchmarks.worker JOB.json`` in any environment. Each line of its input is a file name:
the work is done once, its results are written there, and a line of JSON answers.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.job import UnavailableError, read

TOLD = ("matchlens", "torch", "transformers", "numpy", "sentence-transformers", "nnsight")


class Local:
    """A contender in this process.

    Args:
        path: the job, as :meth:`benchmarks.job.Job.write` wrote it.

    Raises:
        UnavailableError: if the contender cannot run here.
    """

    def __init__(self, path: Path) -> None:
        job, contender = read(path)
        started = time.perf_counter()
        module = importlib.import_module(f"benchmarks.{contender.module}")
        self.made: Any = module.make(job, **contender.options)
        self.facts = {
            **self.made.facts,
            "prepare seconds": time.perf_counter() - started,
            "versions": versions(),
        }

    def round(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Do the work once: CPU and wall seconds, and the results."""
        cpu, wall = _cpu(), time.perf_counter()
        raw = self.made.work()
        took = {"cpu": _cpu() - cpu, "wall": time.perf_counter() - wall}
        took["memory_mib"] = peak_memory()
        return took, self.made.results(raw)


def versions() -> dict[str, str]:
    """Versions of what matters, as far as it is installed here."""
    out = {"python": platform.python_version()}
    for name in TOLD:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out


def peak_memory() -> float:
    """Peak resident set of this process in MiB.

    ``ru_maxrss`` is not asked where there is another way: on Linux a process starts with that of
    the one that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) / 1024
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found / (2**20 if sys.platform == "darwin" else 1024)


def _cpu() -> float:
    """CPU seconds of this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Serve one contender until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to the log

    def answer(said: dict[str, object]) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    try:
        local = Local(Path(sys.argv[1]))
    except UnavailableError as error:
        answer({"unavailable": str(error)})
        return
    answer(local.facts)
    for line in sys.stdin:
        took, results = local.round()
        arrays: dict[str, Any] = {f"={key}": value for key, value in results.items()}
        np.savez(line.strip(), **arrays)
        answer(dict(took))


if __name__ == "__main__":
    main()

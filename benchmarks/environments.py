"""Environments of opponents that cannot share ours, made on first use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.job import UnavailableError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(__file__).resolve().parent / ".envs"
NEEDS = {"sentence-transformers": "sentence-transformers==6.2.0", "nnsight": "nnsight==0.8.1"}
"""What each environment holds beside transformers and NumPy."""


def python(environment: str) -> Path:
    """The interpreter of an environment; it is made where it is not there.

    Torch and transformers are those of our own constraints where the opponent allows them, else
    those that it asks for.

    Args:
        environment: its name; empty for our own.

    Raises:
        UnavailableError: if it cannot be made.
    """
    if not environment:
        return Path(sys.executable)
    folder, package = FOLDER / environment, NEEDS[environment]
    ready = folder / f"{package}.ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", package]
        command += ["transformers", "numpy"]
        pinned = ["--constraint", str(ROOT / "constraints.txt")]
        for more in (pinned, []):
            done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
        else:
            said = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            raise UnavailableError(f"{package} cannot be installed: {said}")
        ready.touch()
    return folder / "bin" / "python"


def surroundings(threads: int) -> dict[str, str]:
    """Environment variables of a contender: threads pinned, no network, our packages found."""
    number = str(threads)
    pinned = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(pinned, number),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }

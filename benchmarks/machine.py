"""What the figures were measured on."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT
from benchmarks.worker import versions


def machine() -> dict[str, Any]:
    """The processor, the memory, the system, the versions and the commit."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "vectors": next((name for name in ("avx512f", "avx2", "avx") if name in flags), "unknown"),
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.platform(),
        "versions": versions(),
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def common_options(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of measurements that write a record."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write what was measured to this JSON file")
    return parser


class Record:
    """What was measured, printed and kept in a JSON file after every step.

    Args:
        options: with the file, if any, and the device.
        source: of the pairs.
    """

    def __init__(self, options: argparse.Namespace, source: str) -> None:
        import torch

        cuda = options.device.startswith("cuda")
        self.path: Path | None = options.out
        self.found: dict[str, Any] = {
            "command": shlex.join(sys.argv),
            "device": torch.cuda.get_device_name(options.device) if cuda else options.device,
            "machine": machine(),
            "source": source,
        }

    def put(self, **found: Any) -> None:
        """Keep figures by name, and print them."""
        for name, value in found.items():
            self.found[name] = value
            print(f"{name}: {value}", flush=True)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.found, indent=1) + "\n")


def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return said.stdout.strip() or "unknown"

"""What the figures were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
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


def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return said.stdout.strip() or "unknown"

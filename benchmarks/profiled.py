"""Where matchlens's time goes, operator by operator: ``python -m benchmarks.profiled FILE``.

It is added to the file that ``python -m benchmarks`` wrote; that command adds it, too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.works import CELLS

NAMES = {
    "mkldnn::_linear_pointwise": "linear layers by packed weights (oneDNN)",
    "aten::addmm": "linear layers by BLAS",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "attention of uncut rows (fused)",
    "aten::bmm": "attention of cut rows: products",
    "aten::_softmax": "attention of cut rows: softmax",
    "aten::native_layer_norm": "layer normalisation",
    "aten::add": "residual sums",
    "aten::copy_": "copies",
    "aten::gelu": "GELU",
    "aten::gelu_": "GELU, where it is not part of these",
}
"""Operators of torch in words; the others are summed up."""


def profile(texts: Sequence[tuple[str, str]]) -> dict[str, list[tuple[str, float]]]:
    """Shares of the time of plain scoring and of some cells of Table 1, largest first.

    Args:
        texts: queries with passages.
    """
    import torch

    import matchlens
    from matchlens.corpora import Pair

    torch.set_num_threads(1)
    model = matchlens.load("demo", device="cpu")
    pairs = [Pair("q", str(n), query, text, 0) for n, (query, text) in enumerate(texts)]
    out = {}
    for title, cuts in (("plain scoring", []), (f"{len(CELLS)} cells of Table 1", list(CELLS))):
        matchlens.score(model, pairs, cuts)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            matchlens.score(model, pairs, cuts)
        times = {one.key: float(one.self_cpu_time_total) for one in seen.key_averages()}
        out[title] = _shares(times)
    return out


def _shares(times: Mapping[str, float]) -> list[tuple[str, float]]:
    whole = sum(times.values())
    named = {NAMES[key]: time / whole for key, time in times.items() if key in NAMES}
    rows = sorted(named.items(), key=lambda one: -one[1])
    return [*rows, ("all else", 1 - sum(named.values()))]


def add(path: Path) -> None:
    """Add the profile to a file of measurements."""
    from benchmarks import subjects

    held: dict[str, Any] = json.loads(path.read_text())
    held["profile"] = profile(subjects.pairs(held["pairs"]["number"])[1])
    path.write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    add(Path(sys.argv[1]))

"""Heads that others published for a model, next to those found here."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

MINILM = frozenset(
    {
        "demo",
        "cross-encoder/ms-marco-MiniLM-L-12-v2",
        "cross-encoder/ms-marco-MiniLM-L12-v2",
    }
)
LISTS: Mapping[str, str] = {
    "matching": "7.9 8.1 4.9 2.1 8.8 6.5 1.7 5.7 5.9 3.1 8.0 6.3 0.8",
    "scoring": "10.1 10.4 10.7 10.10",
    "contextual query": "8.10 9.11",
}
"""The heads of Lu, Chen & Eickhoff 2025, layer and head counted from 0."""


def beside(identity: Mapping[str, object], matching: pd.DataFrame) -> pd.DataFrame | None:
    """The heads of Lu et al. 2025 next to ours, where the model is ms-marco-MiniLM-L-12-v2.

    Theirs are found by path patching on pairs that differ in one query term; what they read is not
    tied to one direction. The list of matching heads is that of their linear model's code; the
    other two were taken from their paper at second hand.

    Args:
        identity: the model's.
        matching: every head of every direction, as :func:`matchlens.studies.matching.find` has it.

    Returns:
        One row for each of their heads and our direction: list, layer, head, direction, matching,
        held, kind, auc. None for another model, or where no heads were looked for.

    Source: Lu, Chen & Eickhoff 2025 (arXiv 2502.04645), mlu108/CrossEncoderBM25.
    """
    if identity.get("name") not in MINILM or matching.empty:
        return None
    theirs = pd.DataFrame(
        [
            (name, *map(int, head.split(".")))
            for name, heads in LISTS.items()
            for head in heads.split()
        ],
        columns=pd.Index(["list", "layer", "head"]),
    )
    columns = ["layer", "head", "direction", "matching", "held", "kind", "auc"]
    return theirs.merge(matching[columns], on=["layer", "head"], how="left")

"""Whether a higher score means more relevant, as obvious built-in pairs have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from matchlens.batching import collate
from matchlens.corpora.pairs import Pair
from matchlens.models.checks.item import Item
from matchlens.models.checks.passes import scored

ASKED = (
    ("how many legs does a spider have", "Spiders have eight legs, insects have six."),
    ("capital of france", "Paris is the capital and the largest city of France."),
    ("what temperature does water boil at", "Water boils at 100 degrees Celsius at sea level."),
    ("who wrote hamlet", "Hamlet is a tragedy written by William Shakespeare around 1600."),
    ("how to treat a bee sting", "Remove the stinger, wash the sting and put ice on it."),
    ("why is the sky blue", "The sky is blue because air scatters blue light more than red."),
    ("price of a postage stamp", "A first class postage stamp costs about 70 cents."),
    ("symptoms of the flu", "Flu brings fever, cough, a sore throat and aching muscles."),
)
"""Queries, each with the passage that answers it; it answers none of the others."""


def relevant_above(reranker: Any) -> Iterator[Item]:
    """How many queries' own passage scores no lower than the next query's.

    Every passage is once the relevant one and once the other, so that no liking for a passage or
    a query alone turns all of them round. Nothing is seen where the pairs are too long for the
    limit. The answer is for a warning: it refuses no model.
    """
    pairs = [
        Pair("check", f"{number}", query, ASKED[(number + step) % len(ASKED)][1], 1 - step)
        for step in (0, 1)
        for number, (query, _) in enumerate(ASKED)
    ]
    encoded = reranker.encode(pairs)
    if encoded.truncated.any():
        yield Item("relevant_above", None)
        return
    rows = np.arange(len(pairs))
    batch = collate(encoded, rows, pad_id=reranker.pad_id, device=reranker.device)
    found = scored(reranker.family, batch)
    relevant, other = (-found if reranker.negate else found).unflatten(0, (2, -1))
    yield Item("relevant_above", int((relevant >= other).sum()))

"""Random settings of configs, tokenizers and saved files: the library's scores, or a refusal.

The default suite tries every setting alone and 300 random combinations; ``make fuzz`` tries every
setting in every family and 5,000 combinations (``MATCHLENS_FUZZ_COMBINATIONS``).
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

import matchlens
from combinations import (
    FAMILIES,
    PAIRS,
    Combination,
    Impossible,
    alone,
    build,
    drawn,
    expected,
    words_of,
)
from matchlens import InputError
from matchlens.corpora import Pair
from matchlens.errors import MOST, MatchlensWarning

COMBINATIONS = int(os.environ.get("MATCHLENS_FUZZ_COMBINATIONS", "300"))
MOST_SHOWN = 20
TOLERANCE = 1e-5


def outcome(combination: Combination) -> tuple[str, str]:
    """What became of a combination, and a sentence on it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "model")
        try:
            build(folder, combination)
        except Impossible as error:
            return "impossible", str(error)
        theirs = expected(folder, combination)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ours = scores(folder)
        except InputError as error:
            return _refused(str(error), combination, theirs.refused)
        except Exception as error:
            return "crash", f"{type(error).__name__}: {error}"
    if theirs.refused:
        return "accepted", f"scored, though the library says: {theirs.refused}"
    both = np.isfinite(theirs.scores)
    far = np.abs(ours - theirs.scores)[both].max()
    if not far <= TOLERANCE * max(1.0, np.abs(theirs.scores[both]).max()):
        return "differs", f"{ours} instead of {theirs.scores}"
    return "equal", ""


def scores(folder: Path) -> np.ndarray:
    """The scores of all pairs by matchlens."""
    model = matchlens.load(folder, device="cpu")
    pairs = [Pair(f"q{n}", f"d{n}", *texts, 0) for n, texts in enumerate(PAIRS)]
    return matchlens.score(model, pairs)[""].to_numpy()


def _refused(line: str, combination: Combination, library: str) -> tuple[str, str]:
    if not (line.isprintable() and len(line) <= MOST):
        return "unreadable", line
    if any(word.lower() in line.lower() for word in words_of(combination)):
        return ("both refuse" if library else "refused"), line
    return "unnamed", f"{line} (the library: {library or 'scores it'})"


FAULTS = ("crash", "accepted", "differs", "unreadable", "unnamed")


def smallest(combination: Combination, kind: str) -> Combination:
    """The fewest of its settings that go wrong in the same way."""
    for name in [one for one in combination if one != "family"]:
        fewer = {key: value for key, value in combination.items() if key != name}
        if outcome(fewer)[0] == kind:
            combination = fewer
    return combination


def tried(combinations: Iterable[Combination]) -> tuple[Counter, Counter, list[str]]:
    """Outcomes, families scored as the library does, and what went wrong, made small."""
    tally: Counter = Counter()
    scored: Counter = Counter()
    wrong = []
    for combination in combinations:
        kind, said = outcome(combination)
        tally[kind] += 1
        scored[combination["family"]] += kind == "equal"
        if kind in FAULTS and len(wrong) < MOST_SHOWN:
            fewer = smallest(combination, kind)
            wrong.append(f"{kind}: {fewer!r}: {outcome(fewer)[1] or said}")
    return tally, scored, wrong

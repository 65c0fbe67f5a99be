"""The numbers of every study of a tiny model are those that were stored, on any processor."""

from __future__ import annotations

import json

import numpy as np
import pytest

import golden


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::matchlens.MatchlensWarning")
def test_no_number_of_any_study_has_moved(tmp_path):
    """One that is meant to move is stored anew: ``python tests/golden.py store``."""
    stored, found = json.loads(golden.STORED.read_text()), golden.sums(tmp_path)
    assert {name: [*columns] for name, columns in found.items()} == {
        name: [*columns] for name, columns in stored.items()
    }
    moved = [
        f"{name} {key}: {before}, now {found[name][key]}"
        for name, columns in stored.items()
        for key, before in columns.items()
        if not np.allclose(found[name][key], before, rtol=golden.CLOSE, atol=golden.CLOSE)
    ]
    assert moved == []

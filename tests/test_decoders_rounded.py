"""The library as it is, which rounds to float32 inside decoders and ModernBERT."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import matchlens
from matchlens import InputError
from test_decoders import MARKED, library_scores, prompt_of, saved, scores, some_pairs


@pytest.mark.parametrize("kind", MARKED)
def test_scores_in_float32_and_bfloat16(kind, tmp_path):
    """The library as it is, roundings and all."""
    folder, pairs = saved(kind, tmp_path), some_pairs(kind)
    expected = library_scores(kind, folder, pairs, 1, torch.float32)
    prompt = prompt_of(kind)
    got = scores(matchlens.load(folder, device="cpu", prompt=prompt), pairs)[""]
    np.testing.assert_allclose(got, expected, atol=1e-5 * max(1, np.abs(expected).max()), rtol=0)
    half = matchlens.load(folder, device="cpu", dtype="bfloat16", prompt=prompt)
    near = scores(half, pairs, "Q->Q", "CLS->D~mask")
    assert np.abs(near[""] - expected).max() < 0.2 * max(1, np.abs(expected).max())
    assert all(np.isfinite(values).all() for values in near.values())


@pytest.mark.parametrize("kind", MARKED)
def test_float64_would_be_no_more_exact(kind, tmp_path):
    with pytest.raises(InputError, match=r"--dtype float64: inside .* rounds to float32"):
        matchlens.load(saved(kind, tmp_path), dtype="float64", device="cpu", prompt=prompt_of(kind))

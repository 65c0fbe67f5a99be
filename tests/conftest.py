"""Shared fixtures: the import hook that checks shapes and types, tiny models, the real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches for a network; read when the hub is imported

install_import_hook("matchlens", "beartype.beartype")  # for good: most modules are imported late

import torch

import matchlens
import tiny as tiny_models

torch.set_num_threads(1)  # tiny models gain nothing from threads, and lose much on a busy machine

os.environ["COLUMNS"] = "100"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A tiny random BERT reranker with one label, saved as any model is."""
    return tiny_models.save(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    """It, loaded in float64: differences that are no rounding show."""
    return matchlens.load(tiny_folder, dtype="float64", device="cpu")


@pytest.fixture(scope="session")
def tiny32(tiny_folder):
    return matchlens.load(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def tiny_pairs():
    """Pairs of quite different lengths, so that batches are padded."""
    return tiny_models.pairs(24)


@pytest.fixture(scope="module")
def demo_model():
    """The real demo model; skips where the demo extra is not installed."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ  # threads of two processes stand in queues
    torch.set_num_threads((os.cpu_count() or 1) if alone else 1)
    try:
        yield matchlens.load("demo", device="cpu")
    except matchlens.InputError as error:
        if "demo extra" not in str(error):  # a model that fails its check must not pass unseen
            raise
        pytest.skip(str(error))
    finally:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trec_dl() -> Path:
    """The folder of the TREC DL files."""
    folder = os.environ.get("MATCHLENS_TREC_DL")
    if not folder:
        pytest.skip("MATCHLENS_TREC_DL names no folder with the TREC DL files")
    return Path(folder)

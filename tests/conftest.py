"""Shared fixtures: the import hook that checks shapes and types, tiny models, the real files."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
from pathlib import Path

import hypothesis
import pytest

import type_checks

os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches for a network; read when the hub is imported

type_checks.install()

import torch

import matchlens
import tiny as tiny_models

torch.set_num_threads(1)  # tiny models gain nothing from threads, and lose much on a busy machine

os.environ["COLUMNS"] = "100"
gc.set_threshold(20_000, 20, 20)  # at the usual 700 objects it takes a tenth of the suite's time
# A shell has what it starts in the background ignore Ctrl-C, and so would the commands of tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, and no limit of time, which a busy machine exceeds: `make fuzz` draws
# others.
hypothesis.settings.register_profile(
    "matchlens",
    derandomize="MATCHLENS_FUZZ_SECONDS" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("matchlens")


COSTLY = (
    *("remedies", "attention_study", "families", "fuzz_models", "negative_controls", "real"),
    *("rerun", "runners", "kill", "study", "circuits_study", "engine", "decoders", "matching"),
    *("cli_bad_input", "benchmarks", "explain", "looking", "page_browser", "every_family"),
    *("cli_own_parts", "claims", "saboteurs"),
)
"""Files that take long: they begin first, that all processes end at about the same time."""


def pytest_collection_modifyitems(items) -> None:
    places = {f"test_{name}": place for place, name in enumerate(COSTLY)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish() -> None:
    gc.freeze()  # libraries and tests stay to the end: no collection need look at them again


def pytest_runtest_setup() -> None:
    type_checks.begin_test()


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


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of matchlens's own."""
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty hub cache, in the folder that the test works in."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


@pytest.fixture
def svg_alone(monkeypatch):
    """Figures are saved as SVG alone: PDF and PNG take most of the time of saving many."""
    from matchlens.figures import files

    monkeypatch.setattr(files, "METADATA", {"svg": files.METADATA["svg"]})


@pytest.fixture(scope="session")
def tiny_pairs():
    """Pairs of quite different lengths, so that batches are padded."""
    return tiny_models.pairs(24)


@pytest.fixture(scope="session")
def loaded_demo():
    """The real demo model, loaded and checked once; skips where the demo extra is not installed."""
    try:
        model = matchlens.load("demo", device="cpu")
    except matchlens.InputError as error:
        if "demo extra" not in str(error):  # a model that fails its check must not pass unseen
            raise
        pytest.skip(str(error))
    before = digest(model)
    yield model
    assert digest(model) == before, "a test changed the demo model that all tests share"


def digest(model) -> str:
    """The weights of a model, and whether it trains, in a few letters."""
    module = model.family.module
    total = hashlib.sha256(str([part.training for part in module.modules()]).encode())
    for name, value in sorted(module.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


@pytest.fixture(scope="module")
def demo_model(loaded_demo):
    """The real demo model, with as many threads as there are cores where no other test runs."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ  # threads of two processes stand in queues
    torch.set_num_threads((os.cpu_count() or 1) if alone else 1)
    yield loaded_demo
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trec_dl() -> Path:
    """The folder of the TREC DL files."""
    folder = os.environ.get("MATCHLENS_TREC_DL")
    if not folder:
        pytest.skip("MATCHLENS_TREC_DL names no folder with the TREC DL files")
    return Path(folder)

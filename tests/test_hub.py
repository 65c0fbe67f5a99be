"""Models of the Hugging Face hub: what is downloaded, what is taken from the cache, offline too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import fake_hub
import matchlens
import tiny as tiny_models
import tiny_decoders
from matchlens import InputError
from matchlens.models.folder import find
from matchlens.models.hub import download_size
from matchlens.studies import wexir25

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cache")]

COMMAND = str(Path(sys.executable).with_name("matchlens"))


def pickled(folder: Path, **settings) -> Path:
    """A tiny model with its weights in pytorch_model.bin alone."""
    tiny_models.save(folder, **settings)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def online(words: str, address: str, cache: Path, *, offline: bool = False) -> str:
    """What a line of Python prints in a process that may reach the fake hub."""
    unset = {"HF_HUB_OFFLINE": "1" if offline else "0", "HF_ENDPOINT": address}
    where = {"HF_HUB_CACHE": str(cache), "MATCHLENS_CACHE": str(cache.parent / "cache")}
    names = "from matchlens.models.folder import *; from matchlens.models.hub import *"
    line = f"import matchlens; {names}; {words}"
    quiet = {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, "-c", line],
        check=False,
        capture_output=True,
        text=True,
        cwd=cache.parent,
        env={**os.environ, **unset, **where, **quiet},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_pickles_are_downloaded_only_where_there_are_no_safetensors(tmp_path):
    both = tiny_models.save(tmp_path / "both", seed=1)
    torch.save({}, both / "pytorch_model.bin")
    only = pickled(tmp_path / "only", seed=2)
    for folder in (both, only):
        for other in ("onnx/model.onnx", "tf_model.h5", "flax_model.msgpack", "training_args.bin"):
            (folder / other).parent.mkdir(exist_ok=True)
            (folder / other).write_bytes(b"x" * 1000)
    cache = tmp_path / "hub"
    with fake_hub.serve({"some/both": both, "some/only": only}) as (address, fetched):
        for name, weights in (
            ("some/both", "model.safetensors"),
            ("some/only", "pytorch_model.bin"),
        ):
            size = int(online(f"print(download_size({name!r}))", address, cache))
            assert fetched == []
            assert online(f"print(find({name!r}).sha256)", address, cache)
            local = {
                file: (tmp_path / name.split("/")[1] / file).stat().st_size for file in fetched
            }
            assert sorted(fetched) == sorted(
                ["config.json", weights, "tokenizer.json", "tokenizer_config.json"]
            )
            assert size == sum(local.values())
            assert online(f"print(download_size({name!r}))", address, cache) == "0"
            fetched.clear()
        for name in ("both", "only"):  # and from the cache, as the folder itself
            digest = online(f"print(find('some/{name}').sha256)", address, cache, offline=True)
            assert digest == find(str(tmp_path / name)).sha256
        assert fetched == []


def test_a_model_in_modules_arrives_whole(tmp_path):
    """With whatever lies in the folders that sentence-transformers' modules.json names."""
    folder, cache = tiny_decoders.save(tmp_path / "model", "qwen3"), tmp_path / "hub"
    kinds = {"": "Transformer", "1_LogitScore": "LogitScore"}
    modules = [
        {"idx": n, "path": path, "type": f"sentence_transformers.cross_encoder.models.{kind}"}
        for n, (path, kind) in enumerate(kinds.items())
    ]
    yes, no = tiny_decoders.tokenizer("qwen3").convert_tokens_to_ids(["yes", "no"])
    for file, content in {
        "modules.json": modules,
        "config_sentence_transformers.json": {"model_type": "CrossEncoder"},
        "sentence_bert_config.json": {"transformer_task": "text-generation"},
        "1_LogitScore/config.json": {"true_token_id": yes, "false_token_id": no},
        "1_LogitScore/pytorch_model.bin": 1,
        "1_LogitScore/words.vocab": 2,
        "elsewhere/pytorch_model.bin": 3,
    }.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(json.dumps(content))
    with fake_hub.serve({"some/model": folder}) as (address, fetched):
        size = int(online("print(download_size('some/model'))", address, cache))
        assert fetched == ["modules.json"]
        digest = online("print(find('some/model').sha256)", address, cache)
        assert digest == find(str(folder)).sha256
        assert {"1_LogitScore/pytorch_model.bin", "1_LogitScore/words.vocab"} < set(fetched)
        assert "elsewhere/pytorch_model.bin" not in fetched
        rest = [(folder / one).stat().st_size for one in fetched if one != "modules.json"]
        assert size == sum(rest)
        assert online("print(download_size('some/model'))", address, cache) == "0"
        again = online("print(find('some/model').sha256)", address, cache, offline=True)
    assert again == digest


def test_what_is_lacking_in_the_cache_is_counted_and_downloaded(tmp_path):
    """An older version, or another program, has left the weights out."""
    folder, cache = pickled(tmp_path / "model"), tmp_path / "hub"
    fake_hub.cached(cache, "some/model", folder, without=("pytorch_model.bin",))
    with fake_hub.serve({"some/model": folder}) as (address, fetched):
        size = int(online("print(download_size('some/model'))", address, cache))
        assert size == (folder / "pytorch_model.bin").stat().st_size
        online("find('some/model')", address, cache)
    assert fetched == ["pytorch_model.bin"]


def test_a_cache_without_weights_says_so_and_what_to_do(hub, tmp_path):
    """The remedy, the same command with a network, is the test above."""
    fake_hub.cached(hub, "some/model", pickled(tmp_path / "model"), without=("pytorch_model.bin",))
    expected = "neither model.safetensors nor pytorch_model.bin; run the same command where the hub"
    for call in (find, matchlens.load):
        with pytest.raises(InputError) as error:
            call("some/model")
        assert expected in str(error.value)
        assert "some/model" in str(error.value)
    assert download_size("some/model") == 0  # offline; then find says it
    done = subprocess.run(
        [COMMAND, "reproduce", "wexir25", "--model", "some/model", "--demo", "--out", "out"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_CACHE": str(hub)},
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert expected in done.stderr
    for call in (find, download_size):
        with pytest.raises(InputError, match="no folder 'some/other' here"):
            call("some/other")


@pytest.mark.parametrize("door", ["by name", "by path"])
def test_a_cache_that_may_lack_files_is_warned_of(door, hub, tmp_path):
    """As where transformers' AutoModel asked for its own files alone: other scores, no word."""
    folder = tiny_models.save(tmp_path / "model")
    (folder / "modules.json").write_text("[]")
    snapshot = fake_hub.cached(hub, "some/model", folder, without=("modules.json",))
    name = "some/model" if door == "by name" else snapshot
    says = (
        f"does not list the files of some/model.*hf download some/model --revision {snapshot.name}"
    )
    with pytest.warns(matchlens.MatchlensWarning, match=says):
        matchlens.load(name, device="cpu")
    with fake_hub.serve({"some/model": folder}) as (address, fetched):  # what hf download does
        line = "import huggingface_hub as h; h.snapshot_download('some/model')"
        online(line, address, hub)
        assert "modules.json" in fetched
    (folder / "modules.json").unlink()
    (snapshot / "modules.json").unlink()
    if door == "by path":
        with pytest.warns(matchlens.MatchlensWarning, match="lacks 'modules.json' of some/model"):
            matchlens.load(name, device="cpu")
    else:
        with pytest.raises(InputError, match="is incomplete"):
            matchlens.load(name, device="cpu")
    fake_hub.cached(hub, "whole/model", folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matchlens.load("whole/model", device="cpu")


@pytest.mark.parametrize("sharded", [False, True])
def test_pickled_weights_load_from_the_cache_offline(sharded, hub, tmp_path, tiny_pairs):
    folder = pickled(tmp_path / "model", labels=2, seed=4)
    if sharded:
        weights = torch.load(folder / "pytorch_model.bin")
        names, placed = sorted(weights), {}
        for number, part in enumerate((names[:5], names[5:]), start=1):
            file = f"pytorch_model-{number:05}-of-00002.bin"
            torch.save({name: weights[name] for name in part}, folder / file)
            placed |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": placed}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        (folder / "pytorch_model.bin").unlink()
    snapshot = fake_hub.cached(hub, "some/model", folder)
    with pytest.warns(
        matchlens.MatchlensWarning, match=r"pytorch_model\.bin, read without running"
    ):
        model = matchlens.load("some/model", dtype="float64", device="cpu")
    assert model.identity["name"] == "some/model"
    assert model.identity["weights"] == "pytorch_model.bin, read without running code"
    assert model.identity["sha256"] == find(str(folder)).sha256
    plain = matchlens.load(
        tiny_models.save(tmp_path / "plain", labels=2, seed=4), dtype="float64", device="cpu"
    )
    assert "weights" not in plain.identity
    ours, theirs = (matchlens.score(one, tiny_pairs)[""] for one in (model, plain))
    np.testing.assert_array_equal(ours, theirs)
    assert not any(one.suffix == ".safetensors" for one in snapshot.iterdir())


def collections(folder: Path) -> list[Path | str]:
    """Two small collections, as TREC files, and the options that name them."""
    words: list[Path | str] = []
    for year in ("19", "20"):
        pairs = tiny_models.pairs(16, seed=int(year))
        topics, qrels, passages = (
            folder / f"dl{year}{end}" for end in (".tsv", ".qrels", ".jsonl")
        )
        topics.write_text("".join({f"{one.qid}\t{one.query}\n": 0 for one in pairs}))
        qrels.write_text("".join(f"{one.qid} 0 {one.docid} {one.grade}\n" for one in pairs))
        lines = [json.dumps({"docid": one.docid, "text": one.text}) for one in pairs]
        passages.write_text("\n".join(lines))
        words += ["--topics", topics, "--qrels", qrels, "--passages", passages]
    return words


@pytest.mark.slow
def test_the_paper_is_reproduced_with_its_own_model(tmp_path):
    """MonoBERT-large's shape and form: 24 layers of 16 heads, two labels, pickled, in the cache."""
    folder = pickled(
        tmp_path / "model", labels=2, layers=24, heads=16, hidden_size=64, intermediate_size=16
    )
    fake_hub.cached(tmp_path / "hub", wexir25.MODEL, folder)
    words = ["--studies", "ablation", "--out", tmp_path / "out", *collections(tmp_path)]
    where = {"HF_HUB_CACHE": tmp_path / "hub", "MATCHLENS_CACHE": tmp_path / "cache"}
    done = subprocess.run(
        [COMMAND, "reproduce", "wexir25", *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **{key: str(value) for key, value in where.items()}},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("pytorch_model.bin, read without running code") == 1
    identity = json.loads((tmp_path / "out/manifest.json").read_text())["identity"]["model"]
    assert identity["name"] == wexir25.MODEL
    assert identity["weights"] == "pytorch_model.bin, read without running code"
    assert f"the model is the paper's, {wexir25.MODEL}" in done.stdout
    table = pd.read_parquet(tmp_path / "out/wexir25/comparison.parquet").set_index("cut")
    assert len(table) == 32
    assert table.loc["CLS->All", "ours"] == pytest.approx(table.loc["random", "ours"])

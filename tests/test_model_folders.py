"""Folders that hold something else than a whole model: the cause by name, and the remedy done."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import fake_hub
import matchlens
import tiny as tiny_models
from matchlens import InputError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::matchlens.MatchlensWarning"),
    pytest.mark.usefixtures("cache"),
]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny_models.save(tmp_path / "model", seed=5)


def refused(model: Path | str) -> str:
    """What load says; the line is short and printable."""
    with pytest.raises(InputError) as error:
        matchlens.load(str(model), device="cpu")
    said = str(error.value)
    assert said.isprintable()
    assert len(re.sub(r"/[\w/-]+", "", said)) <= 420  # without the paths
    return said


def loads(model: Path | str) -> None:
    assert matchlens.load(str(model), device="cpu").family.n_layers == 3


# --- files that are not what their names say

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 90868376\n"
SPOILED = {
    "is a Git LFS pointer": LFS,
    "is empty (0 bytes)": b"",
    "is a web page": b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>" * 20,
    "is a web page, not": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
}


@pytest.mark.parametrize(
    "file",
    [
        "model.safetensors",
        "pytorch_model.bin",
        "tokenizer.json",
        "config.json",
        "tokenizer_config.json",
    ],
)
@pytest.mark.parametrize("says", SPOILED)
def test_a_file_that_is_something_else_is_named_and_the_remedy_works(says, file, folder):
    if file == "pytorch_model.bin":
        torch.save(load_file(folder / "model.safetensors"), folder / file)
        (folder / "model.safetensors").unlink()
    sound = (folder / file).read_bytes()
    (folder / file).write_bytes(SPOILED[says])
    said = refused(folder)
    assert f"{file} {says}" in said
    assert ("git lfs pull" in said) == (SPOILED[says] == LFS)
    (folder / file).write_bytes(sound)  # what git lfs pull, a copy or a download does
    loads(folder)


def test_a_pointer_instead_of_a_shard_or_a_sentencepiece_model(folder, tmp_path):
    module = tiny_models.model(seed=5)
    (folder / "model.safetensors").unlink()
    module.save_pretrained(folder, max_shard_size="20KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    sound = shard.read_bytes()
    shard.write_bytes(LFS)
    assert f"{shard.name} is a Git LFS pointer" in refused(folder)
    shard.write_bytes(sound)
    loads(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "spm.model").write_bytes(LFS)
    assert "spm.model is a Git LFS pointer" in refused(folder)


def test_files_that_are_not_used_may_be_pointers(folder):
    for file in ("pytorch_model.bin", "tf_model.h5", "spare.safetensors", "README.md"):
        (folder / file).write_bytes(LFS)
    loads(folder)


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_under_the_name_of_the_other_format(legacy, folder):
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "x.bin", _use_new_zipfile_serialization=not legacy)
    (folder / "x.bin").rename(folder / "model.safetensors")
    said = refused(folder)
    assert "model.safetensors is a file of torch.save under another name" in said
    assert "rename it to pytorch_model.bin" in said
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    loads(folder)
    save_file(weights, folder / "pytorch_model.bin", {"format": "pt"})
    assert "is a safetensors file under another name; rename it to model" in refused(folder)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    loads(folder)


def test_a_server_s_error_instead_of_weights(folder):
    (folder / "model.safetensors").write_text('{"error": "Repository not found"}')
    assert "model.safetensors is JSON text, not weights" in refused(folder)


# --- no weights under the names that are read


def renamed(folder: Path, name: str) -> str:
    (folder / "model.safetensors").rename(folder / name)
    return refused(folder)


@pytest.mark.parametrize(
    "name", ["model.fp16.safetensors", "reranker.safetensors", "open_model.safetensors"]
)
def test_weights_under_another_name(name, folder):
    said = renamed(folder, name)
    assert f"its weights are called {name!r}; rename that file to model.safetensors" in said
    (folder / name).rename(folder / "model.safetensors")
    loads(folder)


def test_several_weights_under_other_names(folder):
    shutil.copy(folder / "model.safetensors", folder / "model.fp32.safetensors")
    said = renamed(folder, "model.fp16.safetensors")
    assert "rename the one that you mean to model.safetensors" in said
    (folder / "model.fp32.safetensors").rename(folder / "model.safetensors")
    loads(folder)


@pytest.mark.parametrize("name", ["model.pt", "best.pth", "epoch-3.ckpt", "model.bin"])
def test_a_state_dict_under_another_name(name, folder):
    torch.save(load_file(folder / "model.safetensors"), folder / name)
    torch.save({"lr": 0.1}, folder / "optimizer.pt")
    torch.save({"lr": 0.1}, folder / "training_args.bin")
    (folder / "model.safetensors").unlink()
    said = refused(folder)
    assert f"it has {name!r}; expected model.safetensors or pytorch_model.bin" in said
    assert "optimizer" not in said
    (folder / name).rename(folder / "pytorch_model.bin")
    loads(folder)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_shards_without_their_index_or_with_one_missing(form, folder):
    weights = load_file(folder / "model.safetensors")
    stem = "model" if form == "safetensors" else "pytorch_model"
    (folder / "model.safetensors").unlink()
    names, placed = sorted(weights), {}
    for number, part in enumerate((names[:5], names[5:]), start=1):
        file = f"{stem}-{number:05}-of-00002.{form}"
        held = {name: weights[name] for name in part}
        if form == "bin":
            torch.save(held, folder / file)
        else:
            save_file(held, folder / file, {"format": "pt"})
        placed |= dict.fromkeys(part, file)
    said = refused(folder)
    assert f"{stem}.{form}.index.json" in said
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": placed})
    (folder / f"{stem}.{form}.index.json").write_text(index)
    loads(folder)
    (folder / file).rename(folder / "away")
    assert file in refused(folder)
    (folder / "away").rename(folder / file)
    loads(folder)


OTHERS = {
    "TensorFlow": "tf_model.h5",
    "Flax": "flax_model.msgpack",
    "ONNX": "model.onnx",
    "GGUF": "model-q4.gguf",
    "OpenVINO": "openvino_model.xml",
}


@pytest.mark.parametrize("inner", ["", "onnx"])
@pytest.mark.parametrize("kind", OTHERS)
def test_weights_for_other_libraries_only(kind, inner, folder):
    (folder / "model.safetensors").unlink()
    (folder / inner).mkdir(exist_ok=True)
    (folder / inner / OTHERS[kind]).write_bytes(b"GGUF")
    said = refused(folder)
    assert (
        f"it has weights for {kind} only; expected model.safetensors or pytorch_model.bin" in said
    )
    assert "as PyTorch's save_pretrained writes it" in said
    tiny_models.model(seed=5).save_pretrained(folder)
    loads(folder)


def test_no_weights_at_all(folder):
    (folder / "model.safetensors").unlink()
    assert "there are none; expected model.safetensors or pytorch_model.bin" in refused(folder)
    tiny_models.model(seed=5).save_pretrained(folder)
    loads(folder)


def test_weights_in_a_folder_of_their_own(folder):
    (folder / "pytorch").mkdir()
    said = renamed(folder, "pytorch/model.safetensors")
    assert "they lie in 'pytorch'; move them up, beside config.json" in said
    (folder / "pytorch/model.safetensors").rename(folder / "model.safetensors")
    loads(folder)


# --- a folder too high, too deep, or none


@pytest.mark.parametrize("inner", ["0_Transformer", "checkpoint-500", "snapshots/0123abc", "model"])
def test_a_folder_too_high_names_the_one_inside(inner, folder):
    above = folder.parent / "above"
    shutil.copytree(folder, above / inner)
    said = refused(above)
    assert "has no config.json; there is one in" in said
    given = re.search(r"give that folder, '(.+)'", said).group(1)
    assert given == str(above / inner)
    loads(given)


def test_the_last_checkpoint_is_the_one_that_is_named(folder):
    above = folder.parent / "above"
    for step in (500, 1000, 90):
        shutil.copytree(folder, above / f"checkpoint-{step}")
    said = refused(above)
    assert f"give that folder, '{above}/checkpoint-1000'" in said
    assert "'checkpoint-500'" in said


def test_a_checkpoint_folder_of_a_training_loads(folder):
    """What Trainer writes beside the model is not opened."""
    for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (folder / file).write_bytes(b"not opened")
    (folder / "trainer_state.json").write_text("{}")
    loads(folder)


def test_a_folder_too_deep_names_the_one_above(folder, monkeypatch):
    (folder / "onnx").mkdir()
    said = refused(folder / "onnx")
    given = re.search(r"the folder above: give that, '(.+)'", said).group(1)
    loads(given)
    monkeypatch.chdir(folder)
    assert str(folder) in refused("onnx")


def test_a_file_instead_of_a_folder_names_the_folder(folder):
    for file in ("model.safetensors", "config.json"):
        said = refused(folder / file)
        given = re.search(r"is a file; expected the folder that holds config.json: '(.+)'", said)
        loads(given.group(1))


def test_an_empty_folder_and_one_of_llama_cpp(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no config.json; expected a folder as save_pretrained" in refused(tmp_path / "empty")
    (tmp_path / "empty/model.gguf").write_bytes(b"GGUF")
    assert "has no config.json (it has 'model.gguf', a model for llama.cpp)" in refused(
        tmp_path / "empty"
    )


@pytest.mark.parametrize("inner", [False, True])
def test_no_tokenizer(inner, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    if inner:
        tokenizer.save_pretrained(folder / "tokenizer")
    said = refused(folder)
    assert "has no tokenizer" in said
    assert ("there is one in 'tokenizer': move its files up" in said) == inner
    if inner:
        for file in (folder / "tokenizer").iterdir():
            file.rename(folder / file.name)
    else:
        tokenizer.save_pretrained(folder)
    loads(folder)


# --- adapters


def tuned(folder: Path, labels: int) -> Path:
    """A LoRA fine-tuning of a tiny language model, as peft saves it, with a head of its own."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForSequenceClassification

    base = tiny_models.save(folder.parent / "base", seed=6)
    tiny_models.model(seed=6).bert.save_pretrained(base)
    module = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels)
    about = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    torch.manual_seed(0)
    model = peft.get_peft_model(module, about)
    for name, weight in model.named_parameters():
        if "lora_B" in name or "classifier" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tmp_path) -> Path:
    return tuned(tmp_path / "lora", 2)


def unmerged(adapter: Path) -> str:
    """What is said of an adapter with a setting that is not known, which peft passes over."""
    tiny_models.edit(adapter / "adapter_config.json", made_by="somebody")
    return refused(adapter)


def merged(said: str, where: Path, monkeypatch) -> np.ndarray:
    """Run the very lines of a message, and score with what they write."""
    lines = said.split("in Python: ")[1]
    monkeypatch.chdir(where)
    exec(lines, {})
    model = matchlens.load(where / "merged", device="cpu")
    return matchlens.score(model, tiny_models.pairs(8))[""].to_numpy()


@pytest.mark.parametrize(
    ("labels", "config", "tokenizer"), [(1, False, True), (2, True, True), (2, False, False)]
)
def test_an_adapter_is_named_and_the_lines_of_the_message_merge_it(
    labels, config, tokenizer, tmp_path, monkeypatch
):
    from peft import AutoPeftModelForSequenceClassification

    adapter, base = tuned(tmp_path / "lora", labels), tmp_path / "base"
    if config:
        shutil.copy(base / "config.json", adapter)
    if not tokenizer:
        for file in adapter.glob("tokenizer*"):
            file.unlink()
    said = unmerged(adapter)
    assert f"is an adapter (LORA) of {str(base)[:40]!r}, and made_by in adapter_config" in said
    ours = merged(said, tmp_path, monkeypatch)
    whole = AutoPeftModelForSequenceClassification.from_pretrained(
        adapter, num_labels=labels
    ).eval()
    inputs = AutoTokenizer.from_pretrained(base)
    for score, pair in zip(ours, tiny_models.pairs(8), strict=True):
        with torch.no_grad():
            logits = whole(**inputs(pair.query, pair.text, return_tensors="pt")).logits[0].tolist()
        assert score == pytest.approx(logits[-1] - (logits[0] if labels == 2 else 0), abs=1e-4)
    assert np.ptp(ours) > 0.01


def test_an_adapter_on_the_hub(adapter, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    unmerged(adapter)
    fake_hub.cached(tmp_path / "hub", "some/lora", adapter)
    monkeypatch.chdir(tmp_path)
    said = refused("some/lora")
    assert "is an adapter (LORA)" in said
    assert "M.from_pretrained('some/lora', num_labels=2)" in said


def test_an_adapter_s_own_words_cannot_act(adapter):
    about = {"peft_type": "\x1b[31m" * 9, "base_model_name_or_path": "'); evil('" + "x" * 10_000}
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    said = refused(adapter)
    compile(said.split("in Python: ")[1], "said", "exec")
    for content in ("[]", "{", "\0"):
        (adapter / "adapter_config.json").write_text(content)
        assert "is an adapter (PEFT)" in refused(adapter)


def test_an_adapter_beside_a_whole_model(adapter, folder):
    """Whether the library adds it depends on whether peft is installed."""
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / file, folder)
    said = refused(folder)
    assert "remove adapter_config.json to look at the model without it" in said
    os.remove(folder / "adapter_config.json")
    loads(folder)


def test_an_adapter_s_weights_alone(adapter, folder):
    (folder / "model.safetensors").unlink()
    shutil.copy(adapter / "adapter_model.safetensors", folder)
    assert "an adapter, without its adapter_config.json; copy that, too" in refused(folder)
    shutil.copy(adapter / "adapter_config.json", folder)
    loads(folder)

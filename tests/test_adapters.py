"""LoRA adapters: merged at load into what peft merges, named in the digest, refused by reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import fake_hub
import matchlens
import tiny
import tiny_decoders
import tiny_t5
from matchlens import InputError
from matchlens.models import adapters
from matchlens.models.check import CheckError
from matchlens.models.folder import find
from tiny import edit

PAIRS = tiny.pairs(6)
AUTO = {
    "SEQ_CLS": AutoModelForSequenceClassification,
    "CAUSAL_LM": AutoModelForCausalLM,
    "SEQ_2_SEQ_LM": AutoModelForSeq2SeqLM,
}


def tuned(folder: Path, base: Path, task: str, seed: int = 0, **settings) -> Path:
    """An adapter of a base as peft saves it, its factors and its head drawn."""
    more = {"num_labels": 1} if task == "SEQ_CLS" else {}
    module = AUTO[task].from_pretrained(base, **more)
    torch.manual_seed(seed)
    model = peft.get_peft_model(module, peft.LoraConfig(task_type=task, **{"r": 3, **settings}))
    for name, weight in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return folder


def by_peft(adapter: Path, base: Path, task: str, target: Path) -> Path:
    """What peft itself makes of base and adapter, saved as a whole model."""
    more = {"num_labels": 1} if task == "SEQ_CLS" else {}
    module = AUTO[task].from_pretrained(base, **more)
    whole = peft.PeftModel.from_pretrained(module, adapter).merge_and_unload()
    if whole.config.pad_token_id is None:
        whole.config.pad_token_id = whole.config.bos_token_id
    whole.save_pretrained(target)
    AutoTokenizer.from_pretrained(base).save_pretrained(target)
    return target


def llama(folder: Path, **settings) -> Path:
    """A language model without a score's head, as RankLLaMA's base is."""
    return tiny_decoders.save(folder, "llama", **{"seed": 4, "bos_token_id": 2, **settings})


def scores(folder: Path, **options) -> np.ndarray:
    model = matchlens.load(folder, device="cpu", **options)
    return matchlens.score(model, PAIRS)[""].to_numpy()


@pytest.fixture
def rankllama(tmp_path) -> Path:
    base = llama(tmp_path / "base", pad_token_id=None)
    return tuned(tmp_path / "lora", base, "SEQ_CLS", target_modules=["q_proj", "v_proj"])


@pytest.mark.parametrize(
    ("kind", "task", "settings"),
    [
        ("llama", "SEQ_CLS", {"target_modules": ["q_proj", "v_proj", "o_proj"], "lora_alpha": 7}),
        ("llama", "SEQ_CLS", {"target_modules": ["embed_tokens", "down_proj"], "use_rslora": True}),
        ("qwen3", "CAUSAL_LM", {
            "target_modules": ["q_proj", "k_proj"], "rank_pattern": {"k_proj": 1},
            "alpha_pattern": {"layers.1.self_attn.q_proj": 20},
        }),
        ("bert", "SEQ_CLS", {"target_modules": ["query", "value"], "bias": "all"}),
        ("t5", "SEQ_2_SEQ_LM", {"target_modules": ["q", "v"], "modules_to_save": ["lm_head"]}),
        ("distilbert", "SEQ_CLS", {"target_modules": ["q_lin"]}),  # it has a pre_classifier, too
        ("qwen3", "CAUSAL_LM", {
            "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"],
        }),
    ],
)  # fmt: skip
def test_scores_are_those_of_what_peft_merges(kind, task, settings, tmp_path):
    base = tmp_path / "base"
    if kind in tiny.FAMILIES:
        tiny.save(base, kind)
    elif kind == "t5":
        tiny_t5.save(base)
    elif kind == "llama":
        llama(base, pad_token_id=None)
    else:
        tiny_decoders.save(base, kind)
    adapter = tuned(tmp_path / "lora", base, task, **settings)
    expected = scores(by_peft(adapter, base, task, tmp_path / "whole"))
    got = scores(adapter)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    if task != "SEQ_CLS":
        assert np.abs(got - scores(base)).max() > 1e-2


def old_names(base: Path) -> None:
    """Norms are called as in the days of TensorFlow: bert-base-uncased's files do."""
    for new, old in {"weight": "gamma", "bias": "beta"}.items():
        renamed(base, f"LayerNorm.{new}", f"LayerNorm.{old}")


def renamed(base: Path, new: str, old: str, **more: torch.Tensor) -> None:
    weights = load_file(base / "model.safetensors")
    weights = {key.replace(new, old): weight for key, weight in weights.items()}
    save_file({**weights, **more}, base / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "settings", [{"bias": "all"}, {"modules_to_save": ["LayerNorm", "classifier"]}], ids=str
)
def test_norms_of_a_base_with_old_names_are_the_adapter_s(settings, tmp_path, monkeypatch):
    base = tiny.save(tmp_path / "base")
    old_names(base)
    adapter = tuned(tmp_path / "lora", base, "SEQ_CLS", target_modules=["query"], **settings)
    kept = load_file(adapter / adapters.FILE)
    kept = {name: weight + 0.2 if "Norm" in name else weight for name, weight in kept.items()}
    save_file(kept, adapter / adapters.FILE, metadata={"format": "pt"})
    whole = by_peft(adapter, base, "SEQ_CLS", tmp_path / "whole")
    np.testing.assert_allclose(scores(adapter), scores(whole), atol=1e-5)
    monkeypatch.setattr(adapters, "_OLD", {})
    with pytest.raises(CheckError, match=r"the adapter's own bert.*LayerNorm.* is not the loaded"):
        scores(adapter)


@pytest.mark.parametrize(
    ("kind", "saved", "target", "modules"),
    [
        ("modernbert", "ForMaskedLM", "Wqkv", ["classifier"]),
        ("deberta-v2", "ForMaskedLM", "query_proj", ["classifier", "pooler"]),
        ("albert", "ForPreTraining", "query", ["classifier"]),
    ],
)
def test_heads_of_a_base_s_pretraining_are_not_the_adapter_s(
    kind, saved, target, modules, tmp_path
):
    """DeBERTa-v3's and ALBERT's files hold weights whose names end as a classifier's."""
    config = tiny.model(family=kind).config
    name = type(config).__name__.removesuffix("Config") + saved
    torch.manual_seed(1)
    base = tiny.put(tmp_path / "base", getattr(transformers, name)(config), tiny.tokenizer(kind))
    if kind == "deberta-v2":
        masked = {f"mask_predictions.classifier.{end}": torch.ones(1) for end in ("weight", "bias")}
        renamed(base, "", "", **masked)
    adapter = tuned(
        tmp_path / "lora", base, "SEQ_CLS", target_modules=[target], modules_to_save=modules
    )
    whole = by_peft(adapter, base, "SEQ_CLS", tmp_path / "whole")
    with pytest.warns(matchlens.MatchlensWarning, match="of a head that does not score left out"):
        found = scores(adapter)
    np.testing.assert_allclose(found, scores(whole), atol=1e-5)


def test_fan_in_fan_out_means_nothing_for_linear_layers(tmp_path):
    """It is for GPT-2's Conv1D: peft warns and ignores it."""
    base = tiny.save(tmp_path / "base")
    adapter = tuned(tmp_path / "lora", base, "SEQ_CLS", target_modules=["query"])
    edited(adapter, fan_in_fan_out=True)
    with pytest.warns(UserWarning, match="fan_in_fan_out"):
        whole = by_peft(adapter, base, "SEQ_CLS", tmp_path / "whole")
    np.testing.assert_allclose(scores(adapter), scores(whole), atol=1e-5)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "product"])
@pytest.mark.parametrize(("kind", "module"), [("qwen3", "embed_tokens"), ("t5", "shared")])
def test_one_of_two_shared_weights_is_not_replaced(kind, module, whole, tmp_path):
    """peft unties word embeddings that it saves from a head that shares them."""
    base, task = tmp_path / "base", "SEQ_2_SEQ_LM" if kind == "t5" else "CAUSAL_LM"
    if kind == "t5":
        tiny_t5.save(base)
    else:
        tiny_decoders.save(base, kind, tie_word_embeddings=True)
    target = "q" if kind == "t5" else "q_proj"
    own = {"modules_to_save": [module]} if whole else {}
    targets = [target] if whole else [target, module]
    adapter = tuned(tmp_path / "lora", base, task, target_modules=targets, **own)
    if not whole:  # as where it was saved with save_embedding_layers=False
        kept = load_file(adapter / adapters.FILE)
        kept = {name: weight for name, weight in kept.items() if "lora_" in name}
        save_file(kept, adapter / adapters.FILE, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"{module}.weight, which its base shares .*LM as M"):
        matchlens.load(adapter, device="cpu")


def test_rankllama_reads_the_last_token_of_each_pair(rankllama):
    model = matchlens.load(rankllama, device="cpu")
    assert model.reads_last
    tokenizer = AutoTokenizer.from_pretrained(rankllama.parent / "base")
    module = AutoModelForSequenceClassification.from_pretrained(
        rankllama.parent / "base", num_labels=1
    )
    whole = peft.PeftModel.from_pretrained(module, rankllama).eval()  # not merged
    got = matchlens.score(model, PAIRS)[""].to_numpy()
    for score, pair in zip(got, PAIRS, strict=True):
        with torch.inference_mode():  # as its model card scores: one pair at a time
            inputs = tokenizer(pair.query, pair.text, return_tensors="pt")
            assert abs(float(whole(**inputs).logits[0, 0]) - score) < 1e-5


def test_half_precision_passes_the_check(rankllama):
    model = matchlens.load(rankllama, device="cpu", dtype="bfloat16")
    assert model.checks["adapter"]["ok"]


def test_a_pickled_base(rankllama):
    base = rankllama.parent / "base"
    expected = scores(rankllama)
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    with pytest.warns(matchlens.MatchlensWarning, match="read without running code"):
        np.testing.assert_allclose(scores(rankllama), expected, atol=1e-6)


def test_the_digest_names_base_and_adapter(rankllama):
    base, first = rankllama.parent / "base", find(rankllama)
    identity = first.identity("float32", None)
    assert identity["adapter_of"] == "base"
    assert identity["name"] == "lora"
    assert str(base) not in json.dumps(identity)
    weights = load_file(rankllama / adapters.FILE)
    weights[next(iter(weights))] += 1e-3
    save_file(weights, rankllama / adapters.FILE, metadata={"format": "pt"})
    second = find(rankllama)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] += 1e-3
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert len({first.sha256, second.sha256, find(rankllama).sha256}) == 3


@pytest.mark.parametrize("where", ["base", "lora"])
def test_a_file_that_changes_meanwhile_is_refused(rankllama, where):
    folder = find(rankllama)
    file = next((rankllama.parent / where).glob("*.safetensors"))
    weights = load_file(file)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="changed while the model was loaded"):
        matchlens.load(folder, device="cpu")


def test_an_adapter_s_own_tokenizer_goes_before_the_base_s(rankllama):
    tokenizer = AutoTokenizer.from_pretrained(rankllama.parent / "base")
    tokenizer.model_max_length = 77
    tokenizer.save_pretrained(rankllama)
    assert matchlens.load(rankllama, device="cpu").max_length == 77


def test_a_base_of_the_hub_s_cache(rankllama, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    edited(rankllama, base_model_name_or_path="some/base")
    with pytest.raises(InputError, match=r"neither a folder here nor in the cache .*hf download"):
        matchlens.load(rankllama, device="cpu")
    fake_hub.cached(tmp_path / "hub", "some/base", tmp_path / "base")
    assert matchlens.load(rankllama, device="cpu").identity["adapter_of"] == "base"
    fake_hub.cached(tmp_path / "hub", "some/lora", rankllama)
    shutil.rmtree(rankllama)
    assert matchlens.load("some/lora", device="cpu").checks["adapter"]["ok"]


def test_the_base_is_of_the_revision_that_the_adapter_names(rankllama, tmp_path, monkeypatch):
    """Its newest revision is another model."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    expected = scores(rankllama)
    fake_hub.cached(tmp_path / "hub", "some/base", tmp_path / "base", revision="v1")
    other = llama(tmp_path / "other", seed=9, pad_token_id=None)
    fake_hub.cached(tmp_path / "hub", "some/base", other)
    edited(rankllama, base_model_name_or_path="some/base", revision="v1")
    fake_hub.cached(tmp_path / "hub", "some/lora", rankllama)
    for name in (rankllama, "some/lora"):
        np.testing.assert_allclose(scores(name), expected, atol=1e-6)
    assert find(rankllama).identity("float32", None)["adapter_of_revision"] == "v1"
    edited(rankllama, revision="v2")
    with pytest.raises(InputError, match=r"hf download some/base --revision v2\)"):
        find(rankllama)
    edited(rankllama, revision=None)
    assert np.abs(scores(rankllama) - expected).max() > 1e-2


@pytest.mark.parametrize("revision", ["../../x", "/etc/x", 3])
def test_a_revision_that_can_be_none_is_refused(rankllama, revision):
    edited(rankllama, revision=revision)
    with pytest.raises(InputError, match=r"revision in adapter_config.json is .* or null"):
        find(rankllama)
    assert find(edited(rankllama, revision=None)).sha256


@pytest.mark.parametrize("says", ["its head", "sentence-transformers"])
def test_an_adapter_that_names_no_task_is_a_classifier_where_something_says_so(tmp_path, says):
    base, adapter = tiny.save(tmp_path / "base"), tmp_path / "lora"
    tuned(adapter, base, "SEQ_CLS", target_modules=["query"])
    if says != "its head":
        kept = load_file(adapter / adapters.FILE)
        kept = {key: weight for key, weight in kept.items() if "classifier" not in key}
        save_file(kept, adapter / adapters.FILE, metadata={"format": "pt"})
        edit(adapter / "sentence_bert_config.json", transformer_task="sequence-classification")
    expected = scores(adapter)
    edit(base, architectures=["BertForMaskedLM"])
    np.testing.assert_array_equal(scores(edited(adapter, task_type=None)), expected)


def edited(adapter: Path, **settings) -> Path:
    return edit(adapter / adapters.ADAPTER, **settings).parent


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_dora": True}, "use_dora in adapter_config.json asks for more than a product"),
        ({"peft_type": "IA3"}, "only LoRA adapters are merged"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"something_new": 3}, "something_new"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"alpha_pattern": {"(q|v)+": 3}}, "alpha_pattern"),
        ({"lora_alpha": "much"}, "its scale is"),
        ({"base_model_name_or_path": ""}, "names no base_model_name_or_path"),
    ],
)
def test_what_cannot_be_merged_is_refused(rankllama, settings, says):
    with pytest.raises(InputError, match=says):
        matchlens.load(edited(rankllama, **settings), device="cpu")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"r": 64}, "r of its .* is 64 in adapter_config.json, and 3 in adapter_model.safetensors"),
        ({"rank_pattern": {"v_proj": 2}}, "v_proj' is 2 in adapter_config.json, and 3 in"),
        ({"rank_pattern": {"v.*": 3}}, r"rank_pattern has 'v\.\*'"),
        ({"rank_pattern": ["v_proj"]}, r"rank_pattern is \['v_proj'\], which names no modules"),
        ({"alpha_pattern": "v_proj"}, "alpha_pattern is 'v_proj', which names no modules"),
        ({"lora_alpha": True}, "its scale is True / 3"),
        ({"lora_alpha": float("nan")}, "its scale is nan / 3"),
    ],
)
def test_settings_that_contradict_the_weights_are_refused(rankllama, settings, says):
    edited(rankllama, **settings)
    with pytest.raises(InputError, match=says):
        find(str(rankllama))


def test_settings_that_are_no_object_are_refused(rankllama):
    (rankllama / adapters.ADAPTER).write_text("[]")
    with pytest.raises(InputError, match=r"an adapter \(PEFT\) of '\?', and its .* no JSON object"):
        find(str(rankllama))


@pytest.mark.parametrize("module", ["word_embeddings", "classifier"])
def test_an_adapter_with_tokens_of_its_own_is_merged_by_the_lines_of_its_refusal(
    module, tmp_path, monkeypatch
):
    base, adapter = tiny.save(tmp_path / "base"), tmp_path / "lora"
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["walrus"])
    whole = AutoModelForSequenceClassification.from_pretrained(base)
    if module == "word_embeddings":
        whole.resize_token_embeddings(len(tokenizer))
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=3, target_modules=["query"], modules_to_save=[module]
    )
    torch.manual_seed(1)
    model = peft.get_peft_model(whole, config)
    for name, weight in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(adapter)
    if module == "classifier":
        assert np.isfinite(scores(adapter)).all()
        return
    tokenizer.save_pretrained(adapter)
    with pytest.raises(InputError, match="has 154 tokens, the one of its base 153") as refused:
        scores(adapter)
    monkeypatch.chdir(tmp_path)
    exec(str(refused.value).partition("in Python: ")[2], {})
    expected = [
        model.eval()(**tokenizer(pair.query, pair.text, return_tensors="pt")).logits.item()
        for pair in PAIRS
    ]
    np.testing.assert_allclose(scores(tmp_path / "merged"), expected, atol=1e-5)


def test_tensors_that_fit_nothing_are_refused(rankllama):
    kept = load_file(rankllama / adapters.FILE)
    for change, says in (
        ({"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(3, 48)},
         "nothing in .* fits its 'model.layers.9"),
        ({"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight":
          torch.ones(3)}, "it holds 'base_model"),
        ({"base_model.model.spare.weight": torch.ones(3)}, "weights are not used"),
        ({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.tensor(1.0)},
         "its scale is 8 / 0"),
        ({"base_model.model.model.embed_tokens.weight": torch.tensor(1.0)}, "has 0 tokens"),
        ({"base_model.model.model.embed_tokens.weight": torch.ones(624, 16)}, "624 x 16 instead"),
    ):  # fmt: skip
        save_file({**kept, **change}, rankllama / adapters.FILE, metadata={"format": "pt"})
        with pytest.raises(InputError, match=says):
            matchlens.load(rankllama, device="cpu")


def test_an_adapter_of_an_adapter_is_refused(rankllama, tmp_path):
    upper = shutil.copytree(rankllama, tmp_path / "upper")
    edited(upper, base_model_name_or_path=str(rankllama))
    with pytest.raises(InputError, match="is an adapter itself"):
        matchlens.load(upper, device="cpu")


def not_merged(monkeypatch):
    monkeypatch.setattr(adapters, "added", lambda product, own, dtype: 0.0)


def merged_by_half(monkeypatch):
    whole = adapters.added
    monkeypatch.setattr(adapters, "added", lambda *given: 0.5 * whole(*given))


def one_weight_forgotten(monkeypatch):
    whole = adapters.Adapter.onto

    def onto(self, *given):
        out = whole(self, *given)
        kept = dict(list(out.products.items())[1:])
        read = type(out)(
            *(
                getattr(out, name)
                for name in ("path", "name", "files", "tensors", "base", "adapter")
            ),
            kept,
            out.saved,
        ).read
        object.__setattr__(out, "read", read)
        return out  # fmt: skip

    monkeypatch.setattr(adapters.Adapter, "onto", onto)


@pytest.mark.parametrize(
    ("sabotage", "dtype"),
    [
        (not_merged, "float32"),
        (merged_by_half, "float32"),
        (one_weight_forgotten, "float32"),
        (not_merged, "bfloat16"),  # whose rounding hides a share of the effect
    ],
)
def test_an_adapter_that_is_not_merged_is_caught(rankllama, monkeypatch, sabotage, dtype):
    sabotage(monkeypatch)
    with pytest.raises(CheckError, match="of what the adapter adds to its base's weights is not"):
        matchlens.load(rankllama, device="cpu", dtype=dtype)

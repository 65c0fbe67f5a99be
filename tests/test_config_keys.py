"""Every setting of every family's config: the library's own scores, or a refusal that names it."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
)
from transformers.utils import logging

import matchlens
import tiny
import tiny_decoders
from matchlens import InputError
from matchlens.corpora import Pair

FAMILIES = (*tiny.FAMILIES, *tiny_decoders.FAMILIES)
PAIRS = [
    Pair("q", "a", "cat sat", "the dog ran far", 0),
    Pair("q", "b", "warm tea", "tea in the cold rain is warm and the sun is far from here", 1),
]
OTHER: dict[str, tuple] = {
    "activation": ("relu", "gelu_new", "silu"),
    "architectures": (None, []),
    "attention_bias": (True, False),
    "chunk_size_feed_forward": (1, 7, -1),
    "classifier_activation": ("relu", "tanh"),
    "classifier_dropout": (0.4,),
    "classifier_pooling": ("mean", "cls", "max"),
    "dtype": ("bfloat16", "float16", "no_such_type"),
    "embedding_size": (8, 32),
    "final_logit_softcapping": (None, 2.0),
    "attn_logit_softcapping": (None, 1.0),
    "head_dim": (8, 12),
    "hidden_act": ("relu", "gelu_new", "silu", "gelu_pytorch_tanh"),
    "hidden_activation": ("relu", "silu", "gelu"),
    "hidden_dropout_prob": (0.9,),
    "is_decoder": (True,),
    "is_encoder_decoder": (True,),
    "add_cross_attention": (True,),
    "inner_group_num": (2,),
    "label2id": ({"x": 5},),
    "layer_norm_eps": (0.3,),
    "norm_eps": (0.3,),
    "rms_norm_eps": (0.3,),
    "legacy": (False,),
    "local_attention": (4, 8),
    "max_position_embeddings": (80, 500),
    "max_relative_positions": (16,),
    "mlp_bias": (True,),
    "norm_bias": (True,),
    "num_hidden_groups": (2,),
    "num_key_value_heads": (1, 4),
    "output_hidden_states": (True,),
    "pad_token_id": (0, 1, 2, None),
    "bos_token_id": (3,),
    "eos_token_id": (3,),
    "pooler_hidden_act": ("relu", "tanh"),
    "pos_att_type": (["c2p"], ["p2c"], [], "p2c|c2p"),
    "position_biased_input": (False, True),
    "position_embedding_type": ("relative_key", "sans_pos"),
    "problem_type": ("regression", "multi_label_classification", "nonsense"),
    "query_pre_attn_scalar": (5,),
    "relative_attention": (False, True),
    "relative_attention_num_buckets": (4, 8),
    "return_dict": (False,),
    "rope_parameters": (
        {"rope_type": "default", "rope_theta": 100.0},
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0},
        {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0},
        {"rope_type": "yarn", "factor": 2.0, "rope_theta": 100.0},
    ),
    "sinusoidal_pos_embds": (True,),
    "sliding_window": (4, None),
    "summary_type": ("last", "mean"),
    "summary_use_proj": (False,),
    "summary_activation": ("tanh",),
    "tie_word_embeddings": (False, True),
    "type_vocab_size": (0, 1, 2, 3),
    "use_bidirectional_attention": (True,),
    "use_cache": (False,),
    "use_sliding_window": (False,),
    "layer_types": (["full_attention", "full_attention"],),
    # keys that no class declares: the library sets them and reads some of them
    "_attn_implementation": ("flash_attention_2",),
    "attn_implementation": ("flash_attention_2", "flex_attention", "kernels-community/flash-attn"),
    "experts_implementation": ("grouped_mm",),
    "output_attentions": (True,),
    "torch_dtype": ("float16",),
    "torchscript": (True,),
    "gradient_checkpointing": (True,),
    "pruned_heads": ({"0": [0]},),
    "quantization_config": ({"quant_method": "bitsandbytes", "load_in_8bit": True},),
    "is_causal": (True, False),
    "conv_kernel_size": (3,),
    "share_att_key": (False, True),
    "norm_rel_ebd": ("none", "layer_norm"),
    "position_buckets": (4, -1),
    "global_attn_every_n_layers": (1, 2),
    "text_config": ({"num_hidden_layers": 1},),
    "transformers_weights": ("other.safetensors",),
    "configuration_files": (["config.4.0.0.json"],),
    "per_layer_config": ({"0": {"intermediate_size": 8}},),
    "fusion_config": ({"patch_embeddings": True},),
    "reference_compile": (True,),
    "_name_or_path": ("somebody/else",),
}
"""Name of a setting to plausible values; the families that have it, and some that have not."""
NEUTRAL = {
    "hidden_size", "dim", "num_hidden_layers", "n_layers", "num_attention_heads", "n_heads",
    "vocab_size", "intermediate_size", "hidden_dim", "initializer_range", "id2label",
    "transformers_version", "attention_probs_dropout_prob", "classifier_dropout_prob", "dropout",
    "attention_dropout", "qa_dropout", "seq_classif_dropout", "summary_last_dropout",
    "pooler_dropout", "initializer_cutoff_factor", "embedding_dropout", "mlp_dropout",
    "decoder_bias", "classifier_bias", "deterministic_flash_attn", "sparse_prediction",
    "sparse_pred_ignore_index", "max_window_layers", "cls_token_id", "sep_token_id",
    "pretraining_tp",
}  # fmt: skip
"""Settings that other tests vary (sizes), or that no pass in evaluation mode reads."""


def build(family: str, folder: Path) -> Path:
    logging.disable_progress_bar()
    if family in tiny.FAMILIES:
        return tiny.save(folder, family, layers=2, heads=4)
    return tiny_decoders.save(folder, family, labels=1)


def changed(family: str, source: Path, folder: Path, key: str, value: object) -> Path | None:
    """The model with another setting: its weights anew where sizes change; None: no such model."""
    shutil.copytree(source, folder)
    held = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**held, key: value}))
    try:
        config = AutoConfig.from_pretrained(folder, attn_implementation="eager")
        config._attn_implementation = "eager"
        torch.manual_seed(1)
        module = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    except Exception:
        return folder  # the library refuses it; matchlens must too
    if shapes(module) != shapes_of(source):
        module.save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps({**held, key: value}))
    return folder


def shapes(module) -> dict[str, torch.Size]:
    return {name: one.shape for name, one in module.state_dict().items()}


@functools.cache
def shapes_of(source: Path) -> dict[str, torch.Size]:
    config = AutoConfig.from_pretrained(source)
    return shapes(AutoModelForSequenceClassification.from_config(config, dtype=torch.float32))


def library(folder: Path, model) -> np.ndarray:
    """The library's own scores, of the tokens that matchlens feeds."""
    config = AutoConfig.from_pretrained(folder, attn_implementation="eager")
    config._attn_implementation, config._experts_implementation = "eager", None
    config.return_dict, config.chunk_size_feed_forward = True, 0  # how results are packed, made
    own = AutoModelForSequenceClassification.from_pretrained(
        folder, config=config, dtype=torch.float32
    ).eval()
    encoded, out = model.encode(PAIRS), []
    for ids, types in zip(encoded.ids, encoded.types, strict=True):
        fed = {"input_ids": torch.tensor(ids[None].astype(int))}
        if model.family.token_types:
            fed["token_type_ids"] = torch.tensor(types[None].astype(int))
        with torch.inference_mode():
            out.append(float(own(**fed, attention_mask=torch.ones_like(fed["input_ids"])).logits))
    return np.array(out)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_is_known_to_this_test(family):
    """A setting that a new version of the library brings is to be looked at."""
    fields = {field.name for field in dataclasses.fields(CONFIG_MAPPING[family])}
    assert fields - OTHER.keys() - NEUTRAL == set()


def wrong_of(family: str, source: Path, folder: Path, key: str, value: object) -> str:
    """What is wrong with a model whose config has another value; empty where nothing is."""
    changed(family, source, folder, key, value)
    try:
        model = matchlens.load(folder, device="cpu")
        got, expected = matchlens.score(model, PAIRS)[""].to_numpy(), library(folder, model)
    except InputError as error:
        named = any(name in str(error) for name in (key, *NAMES.get(key, ()), ITSELF))
        return "" if named else f"refused without its name: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(folder)
    same = np.abs(got - expected).max() <= 1e-5 * max(1, np.abs(expected).max())
    return "" if same else f"{got} instead of {expected}"


def keys_of(family: str) -> list[str]:
    """The settings that a family's class declares, and those that it reads all the same."""
    declared = {field.name for field in dataclasses.fields(CONFIG_MAPPING[family])}
    anywhere = {one for each in FAMILIES for one in map(str, DECLARED[each])}
    beside = OTHER.keys() - anywhere if family in THOROUGH else READ.get(family, set())
    return sorted((declared & OTHER.keys()) | set(beside))


DECLARED = {
    family: [field.name for field in dataclasses.fields(CONFIG_MAPPING[family])]
    for family in FAMILIES
}
THOROUGH = ("bert", "modernbert", "qwen3")
"""Families in which keys that no class declares are tried, too."""
READ = {
    "deberta-v2": {"conv_kernel_size", "share_att_key", "norm_rel_ebd", "position_buckets"},
    "roberta": {"attn_implementation", "output_attentions", "position_embedding_type"},
}
NAMES = {
    "dtype": ("no_such_type",),
    "type_vocab_size": ("segments",),
    "use_sliding_window": ("sliding_window",),
}
"""What else a refusal may name for a setting."""
ITSELF = "transformers cannot run this model"
"""What a refusal says where the library's own pass fails."""


@pytest.mark.filterwarnings("ignore::matchlens.MatchlensWarning")
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_is_followed_or_refused_by_name(family, tmp_path):
    source = build(family, tmp_path / "model")
    cases = [(key, value) for key in keys_of(family) for value in OTHER[key]]
    found = {
        f"{key}={value!r}": wrong_of(family, source, tmp_path / "changed", key, value)
        for key, value in cases
    }
    assert len(found) > 15
    assert {case: said for case, said in found.items() if said} == {}

"""A folder's config, as the library loads it: the only source of what a model is."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matchlens.errors import InputError
from matchlens.models.files import MOST_LAYERS, read_json

MOST_CONFIG = 16 * 2**20
"""Bytes of config.json, at most."""
MOST_LABELS = 10_000
_COUNTS = {
    **dict.fromkeys(("num_hidden_layers", "n_layers"), MOST_LAYERS),
    **dict.fromkeys(("inner_group_num", "num_hidden_groups"), MOST_LAYERS),
    **dict.fromkeys(("num_layers", "num_decoder_layers", "num_heads"), MOST_LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_heads", "num_key_value_heads"), MOST_LAYERS),
    "num_labels": MOST_LABELS,
}
"""Numbers for which the library makes objects, before any weight is looked at, and the most."""
_REFUSED = {
    "configuration_files": "names other config files",
    "transformers_weights": "names another file of weights",
    "quantization_config": "says that the weights are quantized",
    "per_layer_config": "gives layers shapes of their own",
    "fusion_config": "fuses modules",
    "text_config": "describes another model inside",
    "distributed_config": "spreads the model over devices",
}
"""Keys of config.json that the library follows and matchlens does not."""
_NEAREST = {
    r"jinaforranking|jina-reranker-v3": "Qwen/Qwen3-Reranker-0.6B",
    r"jina|xlmrobertaflash|bidirec": "BAAI/bge-reranker-v2-m3",
    r"minicpm|layerwise|costwise|cost_wise": "BAAI/bge-reranker-v2-gemma",
    r"\bnew\b": "Alibaba-NLP/gte-reranker-modernbert-base",
}
"""Patterns of the names of known models' own code, to the nearest model that needs none."""
_DECODES = ("is_decoder", "add_cross_attention")
ENCODER_DECODERS = ("t5", "mt5")
"""Types of an encoder with a decoder behind it."""


def load_config(path: Path, name: str, types: Collection[str]) -> Any:
    """The config of a folder, as the library loads it.

    The file itself is read only to refuse what would run code or fill the memory.
    """
    raw = read_json(path, "config.json", name, MOST_CONFIG)
    _refuse_early(raw, name, types)
    with quiet_library(), refusing(name, "the library cannot use its config.json"):
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(
            str(path), trust_remote_code=False, local_files_only=True, attn_implementation="eager"
        )
    if config.model_type != raw["model_type"]:
        raise InputError(
            f"model {name!r} is of type {raw['model_type']!r}, which the library takes for "
            f"{config.model_type!r} (a mistral with layer_types is a ministral); expected the "
            "config.json of a supported type, as it was saved"
        )
    return settled(config)


def settled(config: Any) -> Any:
    """A config without the settings that change no score, in place.

    They say how results are packed, and which kernels of another machine compute them.
    """
    if isinstance(config.architectures, str):
        config.architectures = [config.architectures]
    config._attn_implementation = "eager"
    config._experts_implementation = None
    config.return_dict = True
    config.output_attentions = config.output_hidden_states = False
    config.chunk_size_feed_forward = 0
    return config


def check_config(config: Any, name: str, types: Collection[str]) -> None:
    """Refuse a model that cannot be walked."""
    _check_type(config.model_type, name, types)
    odd = {key: getattr(config, key, None) for key in _REFUSED}
    odd["text_config"] = config.get_text_config() is not config
    odd["per_layer_config"] = config.to_dict().get("per_layer_config")  # {} says nothing
    for key, value in odd.items():
        if value:
            raise _refused(name, key)
    if config.model_type in ENCODER_DECODERS:
        return  # the library's stacks say of themselves what they are
    known = {field.name for field in dataclasses.fields(config)}
    for key in _DECODES:
        if key in known and getattr(config, key):  # other types ignore the key
            raise InputError(f"model {name!r} is a decoder ({key} is true); expected an encoder")


def _refuse_early(raw: Mapping[str, object], name: str, types: Collection[str]) -> None:
    if raw.get("auto_map"):
        words = f"{raw.get('model_type')} {raw['auto_map']} {name.rpartition('/')[2]}".lower()
        near = next((model for form, model in _NEAREST.items() if re.search(form, words)), None)
        instead = "use" if near is None else f"the nearest supported model is {near}; or use"
        raise InputError(
            f"model {name!r} wants to run code of its own (auto_map in config.json), which "
            "matchlens does not do, since there is no class of the library's to be exact against; "
            f"{instead} a model of a supported type: " + ", ".join(types)
        )
    _check_type(raw.get("model_type"), name, types)
    for key in [key for key in _REFUSED if key != "text_config"]:  # most types ignore it
        if raw.get(key):
            raise _refused(name, key)
    for key, limit in _COUNTS.items():
        value = raw.get(key)
        if isinstance(value, int | float) and value > limit:
            raise InputError(
                f"model {name!r}: {key} in config.json is {value:.15g}; expected at most {limit:,}"
            )


def _check_type(model_type: object, name: str, types: Collection[str]) -> None:
    if not isinstance(model_type, str) or model_type not in types:
        raise InputError(
            f"model {name!r} is of type {model_type!r:.60}; expected one of: " + ", ".join(types)
        )


def _refused(name: str, key: str) -> InputError:
    expected = "the model saved without it (load it with transformers, then save_pretrained)"
    if key == "quantization_config":
        expected = "weights in float32, bfloat16 or float16: the model from before that"
    return InputError(
        f"model {name!r}: {key} in config.json {_REFUSED[key]}, which matchlens does not follow; "
        f"expected {expected}"
    )


@contextmanager
def refusing(name: str, what: str) -> Iterator[None]:
    """Turn whatever the library raises over a stranger's files into an InputError."""
    try:
        yield
    except InputError as error:
        if type(error) is not InputError or str(error).startswith("model "):
            raise
        why = str(error)
    except Exception as error:  # the library raises anything here, and all of it is bad input
        lines = (str(error).strip() or type(error).__name__).splitlines()
        why = f"{what}: {' '.join(line.strip() for line in lines)[:240]}"
    else:
        return
    raise InputError(f"model {name!r}: {why}")


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep the library's loading chatter off the terminal; what matters is checked here."""
    from transformers.utils import logging as library_logging

    level, bar = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity(logging.ERROR)
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)
        if bar:
            library_logging.enable_progress_bar()

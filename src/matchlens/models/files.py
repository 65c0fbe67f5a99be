"""A model folder's files: read, counted as whole, digested; nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from matchlens.errors import InputError
from matchlens.files import MOST_TEXT, check_regular, read_text
from matchlens.models.diagnosis import (
    INDEX,
    ONE,
    PICKLE_INDEX,
    TOKENIZERS,
    check_sentencepiece,
    no_tokenizer,
    no_weights,
    pickled_files,
)

_WIDTHS = ("hidden_size", "dim")
_TIMES_WIDTH = ("hidden_size", "dim", "intermediate_size", "hidden_dim", "type_vocab_size")
_DEEP = ("num_hidden_layers", "n_layers", "inner_group_num", "num_hidden_groups")
_DEEP += ("num_attention_heads", "n_heads", "num_key_value_heads")
MOST_LAYERS = 1024


def read_json(path: Path, name: str) -> dict[str, object]:
    """A JSON object of a model's folder.

    Args:
        path: the file.
        name: the model's name, for the error.

    Raises:
        InputError: if it cannot be read or is no object.
    """
    content = _json(path, name)
    if not isinstance(content, dict):
        raise InputError(f"model {name!r}: {path.name} is not a JSON object")
    return content


def read_list(path: Path, name: str) -> list[object]:
    """A JSON list of a model's folder.

    Args:
        path: the file.
        name: the model's name, for the error.

    Raises:
        InputError: if it cannot be read or is no list.
    """
    content = _json(path, name)
    if not isinstance(content, list):
        raise InputError(f"model {name!r}: {path.name} is not a JSON list")
    return content


def _json(path: Path, name: str) -> object:
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise InputError(
            f"model {name!r} has no {path.name}; expected a folder as save_pretrained writes it"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"model {name!r}: cannot read {path.name}: {error}") from None


def check_files(path: Path, name: str, scores: bool = True) -> None:
    """See that a folder has weights, and a tokenizer where it must score pairs.

    Args:
        path: the folder.
        name: the model's name, for the error.
        scores: whether it must be able to score pairs.

    Raises:
        InputError: if something is missing.
    """
    if not any((path / file).exists() for file in (ONE, INDEX)) and not pickled_files(path, name):
        raise no_weights(path, name)
    if not scores:
        return
    if not any(all((path / file).exists() for file in files) for files in TOKENIZERS):
        raise no_tokenizer(path, name)
    check_sentencepiece(path, name)
    settings = path / "tokenizer_config.json"
    if settings.exists() and read_json(settings, name).get("auto_map"):
        raise InputError(
            f"model {name!r}: its tokenizer wants to run code of its own (auto_map in "
            "tokenizer_config.json), which matchlens does not do"
        )


def check_sizes(path: Path, config: Mapping[str, object], name: str) -> None:
    """See that no file is a pipe or a bomb, and that config.json asks for no more than the weights.

    Every weight takes a byte of the files or more, so a width or a vocabulary that they cannot hold
    is a mistake, or a trap that would fill the memory before the library notices.

    Args:
        path: the folder.
        config: its config.json.
        name: the model's name, for the error.

    Raises:
        InputError: it says what is too large.
    """
    held = 0
    for file in _files(path, name):
        try:
            size = check_regular(path / file)
        except OSError as error:
            raise InputError(
                f"model {name!r}: {file} cannot be read ({error.strerror or error}); expected a "
                "regular file"
            ) from None
        if file.endswith((".safetensors", ".bin")):
            held += size
        elif size > MOST_TEXT:
            raise InputError(
                f"model {name!r}: {file} has {size:,} bytes; expected at most {MOST_TEXT:,}"
            )

    def number(key: str) -> int:
        value = config.get(key)
        return value if isinstance(value, int) else 1

    width = max(number(key) for key in _WIDTHS)
    narrow = number("embedding_size") if "embedding_size" in config else width
    for key, other in {**dict.fromkeys(_TIMES_WIDTH, width), "vocab_size": narrow}.items():
        if number(key) * other > held > 0:  # without any weights the library says what is missing
            raise InputError(
                f"model {name!r}: {key} in config.json is {config[key]}, for which its "
                f"weights of {held:,} bytes have no room; expected the config that belongs to them"
            )
    for key in _DEEP:
        if number(key) > MOST_LAYERS:
            raise InputError(
                f"model {name!r}: {key} in config.json is {config[key]}; expected at most "
                f"{MOST_LAYERS:,}"
            )


def _files(path: Path, name: str) -> list[str]:
    """Every file that decides what the model computes."""
    names = {"config.json", "tokenizer_config.json", *(name for one in TOKENIZERS for name in one)}
    if pickles := pickled_files(path, name):
        names |= {PICKLE_INDEX, *pickles}
    ends = (".safetensors", ".safetensors.index.json")
    return [one for one in sorted(os.listdir(path)) if one in names or one.endswith(ends)]


def digest(path: Path, name: str) -> str:
    """One digest over every file that decides what the model computes."""
    total = hashlib.sha256()
    for file in _files(path, name):
        with open(path / file, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file}\0{digest}\n".encode())
    return total.hexdigest()

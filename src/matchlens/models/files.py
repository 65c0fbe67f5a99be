"""A model folder's files: read, counted as whole, digested; nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from matchlens.errors import InputError

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_TOKENIZERS = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def read_json(path: Path, name: str) -> dict[str, object]:
    """A JSON object of a model's folder.

    Args:
        path: the file.
        name: the model's name, for the error.

    Raises:
        InputError: if it cannot be read or is no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"model {name!r} has no {path.name}; expected a folder as save_pretrained writes it"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"model {name!r}: cannot read {path.name}: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"model {name!r}: {path.name} is not a JSON object")
    return content


def check_files(path: Path, name: str, scores: bool = True) -> None:
    """See that a folder has weights that run no code, and a tokenizer where it must score pairs.

    Args:
        path: the folder.
        name: the model's name, for the error.
        scores: whether it must be able to score pairs.

    Raises:
        InputError: if something is missing.
    """
    if not any((path / file).exists() for file in _WEIGHTS):
        if any((path / file).exists() for file in _PICKLES):
            raise InputError(
                f"model {name!r} has pickled weights only (pytorch_model.bin), which can run code "
                "when loaded; expected model.safetensors; convert it with "
                "transformers' save_pretrained in a place that you trust"
            )
        raise InputError(f"model {name!r} has no weights; expected {_WEIGHTS[0]} in {str(path)!r}")
    if not scores:
        return
    if not any(all((path / file).exists() for file in files) for files in _TOKENIZERS):
        raise InputError(
            f"model {name!r} has no tokenizer; expected tokenizer.json, vocab.txt, or vocab.json "
            "with merges.txt, beside the weights; save the tokenizer into the same folder"
        )
    settings = path / "tokenizer_config.json"
    if settings.exists() and read_json(settings, name).get("auto_map"):
        raise InputError(
            f"model {name!r}: its tokenizer wants to run code of its own (auto_map in "
            "tokenizer_config.json), which matchlens does not do"
        )


def digest(path: Path) -> str:
    """One digest over every file that decides what the model computes."""
    total = hashlib.sha256()
    names = {"config.json", "tokenizer_config.json", *(name for one in _TOKENIZERS for name in one)}
    for file in sorted(os.listdir(path)):
        if file in names or file.endswith((".safetensors", ".safetensors.index.json")):
            with open(path / file, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            total.update(f"{file}\0{digest}\n".encode())
    return total.hexdigest()

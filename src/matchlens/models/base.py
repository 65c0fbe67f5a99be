"""A second model of which only the query and key weights are wanted: the one before fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from matchlens.errors import InputError
from matchlens.models.config import quiet_library, refusing
from matchlens.models.folder import ModelFolder, check_positions, class_of_family, find
from matchlens.models.load import assembled
from matchlens.models.qk import QK
from matchlens.models.weights import few, leftover


@dataclass(frozen=True, eq=False)
class Base:
    """The query and key weights of a model by layer, and what the manifest says of the model."""

    name: str
    identity: Mapping[str, object]
    layers: tuple[QK, ...]


def load_base(model: str | Path | ModelFolder) -> Base:
    """Load the query and key weights of a model; it needs no head that scores and no tokenizer.

    Args:
        model: ``demo``, a local folder or a Hugging Face id (only then is the network used).

    Raises:
        InputError: if the model cannot be found, is of no supported type, has rotary positions, or
            lacks a query or key weight.

    >>> base = load_base("demo")
    >>> len(base.layers), base.layers[0].query.shape
    (12, torch.Size([12, 32, 384]))
    """
    named = not isinstance(model, ModelFolder)
    folder = find(model, scores=False) if named else model
    check_positions(folder)
    folder.say_files()
    family = class_of_family(folder.model_type)
    with quiet_library():
        module, report = assembled(folder, family.library, torch.float32)
    folder.check_unchanged()
    body, _, _ = leftover(module, report["unexpected_keys"])  # its heads are not wanted
    if body:
        raise InputError(
            f"model {folder.name!r}: {len(body)} of its weights are not used ({few(body)}); "
            "expected the config.json that belongs to them"
        )
    with refusing(folder.name, "its config cannot be followed"):
        walked = family(module)
    lost = set(report["missing_keys"]) | {key[0] for key in report["mismatched_keys"]}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for layer in range(walked.n_layers):
        for linear in walked.projections(layer)[:2]:
            for parameter in linear.parameters():
                if names[id(parameter)] in lost:
                    raise InputError(
                        f"model {folder.name!r} has no weight {names[id(parameter)]}, so its "
                        "query-key matrices would be random; expected the model before fine-tuning"
                    )
    identity = folder.files()
    return Base(folder.name, identity, tuple(walked.qk(n) for n in range(walked.n_layers)))

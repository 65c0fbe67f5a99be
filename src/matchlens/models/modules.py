"""CrossEncoders in modules (sentence-transformers 5.4 and newer): a body, a pooling, a head.

``modules.json`` lists Transformer, Pooling, and any row of Dense and LayerNorm, the last of which
writes the scores. Their configs and weights are read here; the package itself is not needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from matchlens.errors import InputError, MatchlensWarning
from matchlens.models.config import ENCODER_DECODERS, refusing
from matchlens.models.convert import safetensors_of
from matchlens.models.diagnosis import ONE
from matchlens.models.family import Family, PartNumbers, RowStates
from matchlens.models.files import check_files, pickled_files
from matchlens.models.folder import READ_SAFELY
from matchlens.models.rotary import Rotary
from matchlens.models.serving import Head
from matchlens.models.weights import Weights
from matchlens.parts import PADDING, Part

_ROWS: Mapping[str, tuple[tuple[Part, ...], slice, str]] = {
    "cls": ((Part.CLS,), slice(0, 1), "the first row"),
    "mean": (tuple(Part), slice(None), "the mean of all rows"),
    "lasttoken": ((Part.CLS,), slice(-1, None), "the last row"),
}
"""What each pooling reads: the parts, the rows, and both in words."""


class Modular(PreTrainedModel):
    """The library's body with the modules behind it, as sentence-transformers runs them."""

    base_model_prefix = "body"

    def __init__(self, body: Any, head: Head, modules: Sequence[nn.Module]) -> None:
        super().__init__(body.config)
        self.body, self.pooling = body, head.pooling
        self.behind = nn.ModuleList(modules)

    def set_attn_implementation(
        self, attn_implementation: Any, allow_all_kernels: bool = False
    ) -> None:
        """Say which attention function the body's layers call."""
        self.body.set_attn_implementation(attn_implementation, allow_all_kernels)

    def forward(self, attention_mask: Tensor, **inputs: Any) -> SimpleNamespace:
        """Logits and attention maps, pooled by the mask."""
        out = self.body(attention_mask=attention_mask, **inputs)
        states, mask = out.last_hidden_state, attention_mask
        if self.pooling == "mean":
            weights = mask[..., None].to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1)
        else:
            places = torch.arange(mask.shape[1], device=mask.device) * mask
            first, last = mask.int().argmax(1), places.argmax(1)
            rows = torch.arange(len(mask), device=mask.device)
            pooled = states[rows, first if self.pooling == "cls" else last]
        return SimpleNamespace(logits=self.scores(pooled), attentions=out.attentions)

    def scores(self, pooled: Float[Tensor, "batch width"]) -> Float[Tensor, "batch label"]:
        """What the modules behind the pooling make of it."""
        for module in self.behind:
            pooled = module(pooled)
        return pooled


class Dense(nn.Module):
    """A linear map, its activation, and what goes past both where the module is residual."""

    def __init__(self, linear: nn.Linear, activation: nn.Module, residual: nn.Module | None):
        super().__init__()
        self.linear, self.activation, self.residual = linear, activation, residual

    def forward(self, states: Float[Tensor, "batch wide"]) -> Float[Tensor, "batch narrow"]:
        """The states, mapped."""
        out = self.activation(self.linear(states))
        return out if self.residual is None else out + self.residual(states)


def modular(body: Any, head: Head, path: Path, name: str, dtype: torch.dtype) -> Modular:
    """A body with the modules that a folder lists behind it."""
    modules: list[nn.Module] = []

    def fill(module: nn.Module, folder: str) -> None:
        inner = path / folder
        check_files(inner, f"{name}/{folder}", scores=False)
        if pickles := pickled_files(inner, name):
            inner = safetensors_of(inner, pickles, name)
            warnings.warn(
                f"model {name!r}: weights of {folder} from {READ_SAFELY}; converted once to "
                f"{str(inner / ONE)!r}",
                MatchlensWarning,
                stacklevel=4,
            )
        weights = Weights.find(inner, name).read(dtype)
        with refusing(name, f"the weights in {folder} do not fit its config.json"):
            module.load_state_dict({key: weight.to(dtype) for key, weight in weights.items()})

    for kind, folder, about in head.behind:
        if kind == "LayerNorm":
            norm = nn.LayerNorm(int(about["dimension"]), dtype=dtype)
            fill(nn.ModuleDict({"norm": norm}), folder)
            modules.append(norm)
        else:
            wide, narrow = int(about["in_features"]), int(about["out_features"])
            parts = {"linear": nn.Linear(wide, narrow, bool(about.get("bias", True)), dtype=dtype)}
            residual: nn.Module | None = None
            if about.get("use_residual"):
                residual = nn.Identity()
                if wide != narrow:
                    residual = parts["residual"] = nn.Linear(wide, narrow, False, dtype=dtype)
            fill(nn.ModuleDict(parts), folder)
            activation = _activation(about, folder, name)
            modules.append(Dense(parts["linear"], activation, residual))
    return Modular(body, head, modules).eval().requires_grad_(False)


def modular_object(body: Any, head: Head, modules: Sequence[Any], name: str) -> Modular:
    """A body with a CrossEncoder's modules behind it; both are copies that share tensors."""
    behind: list[nn.Module] = []
    for (kind, place, about), module in zip(head.behind, modules, strict=True):
        if kind == "LayerNorm":
            behind.append(module.norm)
            continue
        _activation(about, place, name)
        residual: nn.Module | None = None
        if about.get("use_residual"):
            residual = getattr(module, "residual", nn.Identity())
        behind.append(Dense(module.linear, module.activation_function, residual))
    body.config.num_labels = head.labels
    return Modular(body, head, behind).eval()


def _activation(about: Mapping[str, Any], folder: str, name: str) -> nn.Module:
    """The activation that a config names, a class of torch's own."""
    named = about.get("activation_function", "torch.nn.modules.activation.Tanh")
    kind = getattr(nn, str(named).rpartition(".")[2], None)
    own = str(named).startswith("torch.nn.")
    if not own or not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InputError(
            f"model {name!r}: activation_function in {folder}/config.json is {named!r:.80}; "
            "expected one of torch's, such as torch.nn.modules.activation.GELU"
        )
    with refusing(name, f"activation_function in {folder}/config.json cannot be made"):
        return kind()


def check_body(model_type: str, name: str) -> None:
    """Refuse a body of which the modules read the encoder alone."""
    if model_type in ENCODER_DECODERS:
        raise InputError(
            f"model {name!r}: its Transformer is the encoder of a {model_type}, which matchlens "
            "runs with its decoder only; expected modules over an encoder such as modernbert or a "
            "decoder such as qwen3"
        )


def modular_family(family_class: Any, head: Head, name: str) -> Any:
    """A family's class, with the pooling and the modules of a folder in its head's place."""
    if head.pooling == "lasttoken" and not issubclass(family_class, Rotary):
        raise InputError(
            f"model {name!r}: its Pooling reads the last token of an encoder with position "
            "embeddings, which matchlens does not do; expected pooling_mode 'cls' or 'mean'"
        )
    parts, rows, reads = _ROWS[head.pooling]

    class ModularFamily(family_class):  # pyright: ignore[reportGeneralTypeIssues]
        """The family, whose score comes of the folder's modules."""

        score_parts, score_rows = parts, rows
        splittable = family_class.splittable and head.pooling == "cls"  # one row is read there

        def __init__(self, module: Modular) -> None:
            super().__init__(module)
            self.reads, self.score_parts, self.score_rows = reads, parts, rows

        def logits(self, states: RowStates, parts: PartNumbers) -> Tensor:
            """The last normalisation, the pooling and the modules."""
            norm = getattr(self.body, "final_norm", None) or getattr(self.body, "norm", None)
            states = states if norm is None else norm(states)
            real = (parts != PADDING)[..., None]
            pooled = (states * real).sum(1) / real.sum(1)  # of one row where one is read
            return self.module.scores(pooled)

        library_inputs, library_logits = Family.library_inputs, Family.library_logits

    ModularFamily.__name__ = f"Modular{family_class.__name__}"
    return ModularFamily

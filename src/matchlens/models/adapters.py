"""LoRA adapters, merged into their base at load: W + scale B A, as peft's ``merge_and_unload``.

The adapter's settings and tensors are read as any model's files are; peft is not needed. A setting
that is not known to change nothing refuses the adapter, and names the lines that merge it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matchlens.errors import InputError
from matchlens.models.checks.item import HALF, Item, within
from matchlens.models.diagnosis import ADAPTER, adapter_refusal, scoring_weight
from matchlens.models.files import read_json
from matchlens.models.hub import is_revision
from matchlens.models.serving import transformer_settings
from matchlens.models.weights import Stored, Weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FILE = "adapter_model.safetensors"
_HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "bias", "exclude_modules", "inference_mode"),
    *("layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "modules_to_save"),
    *("peft_type", "peft_version", "r", "rank_pattern", "revision", "target_modules", "task_type"),
    *("loftq_config", "qalora_group_size"),  # read by settings that are refused where they are set
    *("alpha_pattern", "fan_in_fan_out", "init_lora_weights", "lora_alpha", "use_rslora"),
}
"""Settings that need no refusal where they are set: they are followed, or the tensors say it."""
_RANDOM = (True, False, None, "gaussian", "orthogonal")
"""Ways to begin a training that leave the base's weights as they were."""
HEADS = {
    "SEQ_CLS": "ForSequenceClassification",
    "CAUSAL_LM": "ForCausalLM",
    "SEQ_2_SEQ_LM": "ForConditionalGeneration",
}
"""How the library's class ends for each of peft's tasks that can be a reranker."""
SCORES, HALF_SCORES = 1e-3, 0.5
"""Largest share of the adapter's effect that may be missing; in half precision rounding is."""

_SHARED = ("shared.weight", "embed_tokens.weight")
"""Word embeddings that T5 shares with its stacks, and others with the head of the answers."""
_TOKENS = re.compile(r"(word_embeddings|embed_tokens|shared|lm_head)\.weight$")
"""Weights with a row for each token."""
_OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
"""How files of TensorFlow's time call the weights of norms, which the library renames."""
_LORA = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.default)?(?:\.weight)?")
_OTHER = re.compile(r"\.(lora_\w+|ranknum|vera_\w+|ia3_\w+)(\.|$)")
_WRAPPED = re.compile(r"\.(modules_to_save(\.default)?|base_layer)(?=\.)")


@dataclass(frozen=True)
class Product:
    """One weight's change, ``scale * B A`` (transposed if ``turned``); ``names`` has B's first."""

    scale: float
    names: tuple[str, str]
    turned: bool


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter's folder, before any weight is loaded; ``base`` names the model it changes."""

    path: Path
    name: str
    base: str
    settings: Mapping[str, Any]
    weights: Weights = field(repr=False)
    classifies: bool = False
    """Whether sentence-transformers' file says that the model is loaded as a classifier."""

    @classmethod
    def find(cls, path: Path, name: str) -> Adapter:
        """Read an adapter's settings and the header of its weights."""
        refuse = partial(adapter_refusal, path, name)
        try:
            settings = read_json(path, ADAPTER, name)
        except InputError:
            raise refuse(f"its {ADAPTER} is no JSON object") from None
        base = settings.get("base_model_name_or_path")
        if settings.get("peft_type") != "LORA":
            raise refuse("only LoRA adapters are merged at load")
        if not isinstance(base, str) or not base:
            raise refuse("it names no base_model_name_or_path")
        if (revision := settings.get("revision")) and not is_revision(revision):
            raise InputError(
                f"model {name!r}: revision in {ADAPTER} is {revision!r:.60}; expected a branch, "
                "tag or commit of its base on the hub, or null: correct it there"
            )
        odd = sorted(key for key, value in settings.items() if value and key not in _HARMLESS)
        if settings.get("init_lora_weights") not in _RANDOM:
            odd.append("init_lora_weights")
        if odd:
            raise refuse(f"{odd[0][:40]} in {ADAPTER} asks for more than a product of two factors")
        if not (path / FILE).exists():
            raise refuse(f"it has no {FILE}")
        task = transformer_settings(path, name).values.get("transformer_task")
        classifies, weights = task == "sequence-classification", Weights.find(path, name, FILE)
        return cls(path, name, base, settings, weights, classifies)

    @property
    def revision(self) -> str | None:
        """Branch, tag or commit of the base on the hub; None: its newest."""
        return self.settings.get("revision") or None

    @property
    def head(self) -> str | None:
        """How the library's class for the merged model ends; None where nothing says its task."""
        task = self.settings.get("task_type")
        if not task and (self.classifies or self.labels is not None):
            task = "SEQ_CLS"
        return HEADS.get(str(task))

    @property
    def labels(self) -> int | None:
        """Rows of the head that it brings; None where it brings none."""
        shapes = {key: stored.shape for key, stored in self.weights.tensors.items()}
        name = scoring_weight(shapes)
        return shapes[name][0] if name and shapes[name] else None

    def onto(self, base: Weights, ties: bool = False) -> Adapted:
        """The base's weights with the adapter's; ``ties``: the head shares the word embeddings."""
        pairs: dict[tuple[str, bool], dict[str, str]] = {}
        saved: dict[str, str] = {}
        for key in self.weights.tensors:
            plain = key.removeprefix("base_model.model.")
            if (match := _LORA.fullmatch(plain)) is not None:
                module, embeds, letter = match.groups()
                pairs.setdefault((module, bool(embeds)), {})[letter] = key
            elif _OTHER.search(plain):
                raise adapter_refusal(self.path, self.name, f"it holds {key[:80]!r}")
            elif ".original_module." not in plain:
                saved[_WRAPPED.sub("", plain)] = key
        products: dict[str, Product] = {}
        for (module, embeds), each in pairs.items():
            weight = _named(f"{module}.weight", base)
            if weight is None or set(each) != {"A", "B"}:
                raise adapter_refusal(
                    self.path, self.name, f"nothing in {self.base[:60]!r} fits its {module[:80]!r}"
                )
            rank = _rows(self.weights.tensors[each["A"]])
            # fan_in_fan_out is for GPT-2's Conv1D; peft ignores it for the library's Linear, too
            products[weight] = Product(self._scale(module, rank), (each["B"], each["A"]), embeds)
        stand = {_named(key, base) or key: own for key, own in saved.items()}
        t5 = _SHARED if "shared.weight" in base.tensors else ()
        common = (*_SHARED, "lm_head.weight") if ties else t5
        if tied := [key for key in products if key.endswith(common)]:
            raise adapter_refusal(
                self.path,
                self.name,
                f"it adds to {tied[0][:60]}, which its base shares with another weight: peft "
                "changes one of them before it merges, both after",
            )
        shared = [key for key in stand if key.endswith(_SHARED if ties else _SHARED[:1])]
        if shared and "lm_head.weight" not in stand:
            raise adapter_refusal(
                self.path,
                self.name,
                f"modules_to_save replaces {shared[0][:60]}, which its base shares with another "
                "weight that stays as it was",
            )
        tensors = {key: self.weights.tensors[own] for key, own in stand.items()}
        for key, stored in tensors.items():
            own, known = _rows(stored), _rows(base.tensors.get(key, stored))
            if own != known and _TOKENS.search(key):
                why = f"its {key[:80]!r} has {own} tokens, the one of its base {known}"
                raise adapter_refusal(self.path, self.name, why)
        every = {**base.tensors, **tensors}
        return Adapted(base.path, base.name, base.files, every, base, self, products, stand)

    def _scale(self, module: str, rank: int) -> float:
        alpha = self._set_for(module, "lora_alpha", "alpha_pattern", 8)
        stated = self._set_for(module, "r", "rank_pattern", rank)
        number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
        if not number or not math.isfinite(alpha) or rank < 1:
            raise adapter_refusal(self.path, self.name, f"its scale is {alpha!r:.20} / {rank}")
        if stated != rank:
            why = f"r of its {module[:80]!r} is {stated!r:.20} in {ADAPTER}, and {rank} in {FILE}"
            raise adapter_refusal(self.path, self.name, why)
        return alpha / (math.sqrt(rank) if self.settings.get("use_rslora") else rank)

    def _set_for(self, module: str, key: str, patterns: str, default: object) -> Any:
        """A setting of one module: the first of the patterns that names it, else the common one."""
        by_pattern = self.settings.get(patterns) or {}
        if not isinstance(by_pattern, dict):
            why = f"{patterns} is {by_pattern!r:.40}, which names no modules"
            raise adapter_refusal(self.path, self.name, why)
        for pattern, value in by_pattern.items():
            words = str(pattern).removeprefix("^").replace("\\.", ".")
            if not re.fullmatch(r"[\w.]+", words):
                raise adapter_refusal(self.path, self.name, f"{patterns} has {pattern[:40]!r}")
            if module == words or (module.endswith(f".{words}") and not pattern.startswith("^")):
                return value
        return self.settings.get(key, default)


@dataclass(frozen=True)
class Adapted(Weights):
    """A base's weights with an adapter: by weight, the products to add and the tensors to take."""

    base: Weights
    adapter: Adapter
    products: Mapping[str, Product]
    saved: Mapping[str, str]

    def read(
        self, dtype: torch.dtype, only: Collection[str] | None = None
    ) -> dict[str, torch.Tensor]:
        """Load every tensor, the adapter's products added in float32 or wider."""
        import torch

        loaded = self.base.read(dtype, only)
        own = self.adapter.weights.read(torch.float32)
        for key, name in self.saved.items():
            if only is None or key in only:
                loaded[key] = own[name]
        for key, product in self.products.items():
            if only is None or key in only:
                weight = loaded[key]
                wide = torch.promote_types(weight.dtype, torch.float32)
                loaded[key] = (weight.to(wide) + added(product, own, wide)).to(weight.dtype)
        return loaded


def added(product: Product, own: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    """What an adapter adds to one weight."""
    b, a = (own[name].to(dtype) for name in product.names)
    return product.scale * ((b @ a).T if product.turned else b @ a)


def _rows(stored: Stored) -> int:
    """Rows of a tensor; none where a stranger's file holds a single number."""
    return stored.shape[0] if stored.shape else 0


def _named(key: str, base: Weights) -> str | None:
    """The name in the base's files: the body's prefix may be missing on either side, and old files
    call the weights of norms by other names.
    """
    bare = key.split(".", 1)[-1]
    firsts = Counter(name.split(".", 1)[0] for name in base.tensors)
    body = max(firsts, key=lambda first: firsts[first], default="")  # a pretraining head has fewer
    for name in (key, bare, f"{body}.{key}"):
        for spelled in (name, *(name.replace(new, old) for new, old in _OLD.items())):
            if spelled in base.tensors:
                return spelled
    return None


def _loaded(key: str, parameters: Mapping[str, Tensor]) -> Tensor | None:
    """The loaded parameter of a weight in the files."""
    for new, old in _OLD.items():
        key = key.replace(old, new)
    names = [name for name in parameters if name == key or name.endswith(f".{key}")]
    names = names or [name for name in parameters if key.endswith(f".{name}")]
    return parameters[names[0]].detach() if names else None


def merged(reranker: Any) -> Iterator[Item]:
    """The loaded weights do to a vector what base and adapter do apart, factor by factor; what the
    adapter holds whole is loaded as it stands there.
    """
    import torch

    adapted: Adapted | None = reranker.adapted
    if adapted is None:
        return
    own = adapted.adapter.weights.read(torch.float32)
    every = reranker.family.module.named_parameters(remove_duplicate=False)
    parameters = {name.removeprefix("body."): weight for name, weight in every}  # of modules
    missing = effect = 0.0
    for key, product in adapted.products.items():
        stands = adapted.saved.get(key)
        weight = own[stands] if stands else adapted.base.read(torch.float32, {key})[key]
        weight = weight.double()
        b, a = (own[name].double() for name in product.names)
        columns = weight.shape[1]
        probe = torch.cos(torch.arange(1, columns + 1, dtype=torch.float64))
        plain = weight @ probe
        first, second = (b.T, a.T) if product.turned else (a, b)
        change = product.scale * (second @ (first @ probe))
        loaded = _loaded(key, parameters)
        if loaded is None:
            missing, effect = math.inf, 1.0
            break
        missing += float((loaded.double().cpu() @ probe - plain - change).square().sum())
        effect += float(change.square().sum())
    share = math.sqrt(missing / effect) if effect else 0.0
    limit = HALF_SCORES if reranker.dtype in HALF else SCORES
    text = f"{share:.2g} of what the adapter adds to its base's weights is not in the loaded ones"
    for key in adapted.saved.keys() - adapted.products.keys():
        tensor, loaded = own[adapted.saved[key]], _loaded(key, parameters)
        # None is loaded of what the library leaves out, which is refused or warned of.
        if loaded is not None and not torch.equal(loaded.cpu(), tensor.to(loaded.dtype)):
            share, text = 1.0, f"the adapter's own {key[:80]} is not the loaded one"
    yield within("adapter", share, limit, text)

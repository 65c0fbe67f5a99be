"""Ready objects: a loaded model with its tokenizer, or a sentence-transformers CrossEncoder."""

from __future__ import annotations

import copy
import hashlib
import inspect
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import MODEL_MAPPING, PreTrainedTokenizerFast

from matchlens.arguments import typed
from matchlens.batching import batches
from matchlens.errors import InputError
from matchlens.models.checks.item import SCORES, Item
from matchlens.models.checks.passes import PAIRS
from matchlens.models.config import check_config, quiet_library, refusing, settled
from matchlens.models.family import relevance
from matchlens.models.folder import (
    DTYPES,
    FAMILIES,
    TEMPLATE,
    ModelFacts,
    asked_prompt,
    class_of_family,
    library_of,
    no_prompt,
    smallest,
)
from matchlens.models.labels import choose, no_labels
from matchlens.models.load import (
    Reranker,
    load,
    proved,
    reranker_of,
)
from matchlens.models.modules import check_body, modular_family, modular_object
from matchlens.models.prompted import template_prompt
from matchlens.models.serving import PLAIN as PLAINLY
from matchlens.models.serving import Head, serving_object
from matchlens.models.tokenizer import unpadded
from matchlens.prompts import Prompt, shipped_from

_SAYS_NOTHING = (
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "torch_dtype",
    "transformers_version",
)
"""What a config holds that decides nothing of what is computed."""

SHORT = tuple(
    replace(pair, query=" ".join(pair.query.split()[:2]), text=" ".join(pair.text.split()[:2]))
    for pair in PAIRS
)
"""The check's pairs, so short that no limit cuts them: CrossEncoders cut in another way."""


@typed
def wrap(
    model: Any,
    tokenizer: Any = None,
    *,
    name: str | None = None,
    max_length: int | None = None,
    prompt: Prompt | Path | None = None,
    negate: bool = False,
    label: str | int | None = None,
) -> Reranker:
    """Take a loaded cross-encoder as it is, and check that cutting its attention bites.

    The object stays its owner's: the walk goes through a copy of its modules that shares the
    weights (no second copy of them in memory), so that its attention implementation, its train or
    eval mode, ``requires_grad`` and its tokenizer's settings are left alone, and ``forward`` and
    ``predict`` work as before. Since the weights are shared, train first and wrap afterwards: a
    model whose weights, their type or device, or the CrossEncoder's ``max_length`` have changed
    since is refused when it is run, until it is wrapped again.

    Scores are relevance logits, as everywhere here. ``CrossEncoder.predict`` puts an activation
    behind the logit (a sigmoid for one label, unless it was told otherwise); that changes no
    ranking. Pairs longer than the limit are cut at the passage's end, whereas the library cuts the
    longer of the two texts first.

    The digest in the manifest is over the state dict (names, types, shapes, bytes), the fast
    tokenizer's own JSON and the config without what only says where it came from. It is not the
    digest of a folder with the same model.

    Args:
        model: a transformers sequence classifier of a supported type, a model that answers a
            prompt, or a ``sentence_transformers.CrossEncoder`` (anything with ``model``,
            ``tokenizer`` and ``predict``).
        tokenizer: its fast tokenizer; a CrossEncoder brings its own.
        name: what results call the model; its ``name_or_path`` where None.
        max_length: most tokens of a pair; never more than the tokenizer, the position table and
            the CrossEncoder allow.
        prompt: how a decoder is asked, as :func:`matchlens.load` takes it.
        negate: take the negated logit for the score, as :func:`matchlens.load` does.
        label: name or number of the label that means relevance, as for :func:`matchlens.load`.

    Raises:
        InputError: if it is no cross-encoder of a supported type, fails the check, or is a
            CrossEncoder that does more than score pairs with its model (a chat template, another
            module).

    >>> import matchlens
    >>> demo = matchlens.load("demo", device="cpu")
    >>> mine = wrap(demo.family.module, demo.tokenizer, name="mine")
    >>> mine.identity["name"], mine.identity["object"], mine.max_length
    ('mine', 'BertForSequenceClassification', 512)
    """
    owner = model if hasattr(model, "predict") and hasattr(model, "tokenizer") else None
    module = model if owner is None else getattr(owner, "model", None)
    if owner is not None:
        if tokenizer is not None:
            raise InputError(
                f"a {type(owner).__name__} brings its own tokenizer; leave the other one out"
            )
        tokenizer = owner.tokenizer
    serving = PLAINLY if owner is None else serving_object(owner, _shown(module, name))
    head = serving.head
    facts = _facts(module, name, head)
    if tokenizer is None:
        raise InputError(
            f"model {facts.name!r} came without a tokenizer; expected wrap(model, tokenizer) with "
            "the fast tokenizer that it was trained with"
        )
    own_prompt, source = asked_prompt(facts, prompt), "given"
    if prompt is None:
        source = shipped_from(facts.model_type, facts.name, facts.origin)
    if facts.classifies:
        facts = replace(facts, label=choose(facts.config, facts.name, label, negate))
    elif label is not None:
        raise no_labels(facts.name)
    predicted = None if owner is None or prompt is not None else _predicted(owner, module)
    with quiet_library():
        own = unpadded(copy.deepcopy(tokenizer), facts.name)
        if prompt is None and serving.chat and FAMILIES[facts.model_type].prompted:
            written = template_prompt(own, serving)
            own_prompt, source = (own_prompt, source) if written is None else (written, TEMPLATE)
        if own_prompt is None and not facts.classifies:
            raise no_prompt(facts)
        family_class, full = class_of_family(facts.model_type), module
        others: list[Any] = []
        if head is not None:
            others = list(cast(Any, owner))[2:]
            full = modular_object(_twin(module), head, list(map(_twin, others)), facts.name)
            family_class = modular_family(family_class, head, facts.name)
        with refusing(facts.name, "its config cannot be followed"):
            family = family_class(_twin(module) if head is None else full)
    family.label = facts.label
    chosen = prompt is not None
    facts = replace(facts, prompt=own_prompt, prompt_from=source, chosen=chosen, serving=serving)
    dtype = _dtype(full, facts.name)
    limits = facts.limits(serving.stated(own, facts.name), max_length)
    if isinstance(owner_limit := _limit(owner), int):
        limits.setdefault(f"max_seq_length of the {type(owner).__name__}", owner_limit)
    files = {
        "name": facts.name,
        "sha256": _digest(full, own, head),
        "revision": None,
        "type": facts.model_type,
    }
    identity = facts.record(files, dtype, smallest(limits), negate)
    identity["object"] = type(model).__name__
    ready = reranker_of(facts, family, own, limits, identity, negate)
    reranker = proved(ready, [cast(Any, module), *others], partial(_limit, owner))
    if predicted is not None:
        _compare(reranker, predicted, type(owner).__name__)
    return reranker


def as_model(model: Any) -> Any:
    """A model of a folder, an id, a CrossEncoder or a transformer of PyTerrier without a cut.

    Anything else is returned as it came.

    >>> as_model("demo").name
    'demo'
    """
    if isinstance(model, str | Path):
        return load(model)
    if type(model).__module__ == "matchlens.pyterrier":
        if model.cut.directions:
            raise InputError(
                f"the model is a PyTerrier transformer with the cut {str(model.cut)!r:.60}, which "
                "would be lost; expected a model: give its .model, and the cut by itself"
            )
        return model.model
    return wrap(model) if hasattr(model, "predict") and hasattr(model, "tokenizer") else model


def _shown(module: Any, name: str | None) -> str:
    """What the model is called, without a path of this machine."""
    shown = name or str(getattr(module, "name_or_path", "")) or type(module).__name__
    return Path(shown).resolve().name if Path(shown).is_dir() else shown


def _facts(module: Any, name: str | None, head: Head | None = None) -> ModelFacts:
    """What the module's config says, once it is known to be one of the library's classes."""
    if inner := _inner(module):
        raise InputError(
            f"cannot wrap a {type(module).__name__}, which is itself a wrapper; expected the "
            f"transformers model inside: give {inner}"
        )
    config: Any = getattr(module, "config", None)
    if not isinstance(module, torch.nn.Module) or not hasattr(config, "to_dict"):
        raise InputError(
            f"cannot wrap a {type(module).__name__}; expected a loaded transformers sequence "
            "classifier with its tokenizer, or a sentence_transformers.CrossEncoder; a folder or "
            "a hub id goes to matchlens.load"
        )
    shown = _shown(module, name)
    check_config(config, shown, FAMILIES)
    facts = ModelFacts(name=shown, config=config, architecture=type(module).__name__)
    library: Any = library_of(class_of_family(facts.model_type), facts.classifies)
    if head is not None:
        check_body(facts.model_type, shown)
        config = copy.deepcopy(config)
        config.num_labels = head.labels
        library = cast(Any, MODEL_MAPPING[type(config)])
        facts = replace(facts, config=config, architecture="ForSequenceClassification")
    if not isinstance(module, library):
        raise InputError(
            f"model {shown!r} is a {type(module).__qualname__} of {type(module).__module__}; "
            f"expected transformers' own {library.__name__}"
        )
    _ = facts.shape
    _check_hooks(module, shown)
    with torch.device("meta"), quiet_library():
        plain = library(copy.deepcopy(config)).state_dict()
    if odd := sorted(plain.keys() ^ module.state_dict().keys()):
        raise InputError(
            f"model {shown!r} has other weights than a plain {library.__name__} of its config "
            f"({len(odd)} of them, {odd[0]} the first); expected the same: merge an adapter into "
            "the model, and correct its config where layers or the head were changed"
        )
    return facts


def _check_hooks(module: torch.nn.Module, shown: str) -> None:
    """Refuse forward hooks of a person: no digest covers them, and faster layers pass them by."""
    libraries = ("torch", "transformers", "accelerate", "sentence_transformers")
    for name, inner in module.named_modules():
        for hook in (*inner._forward_pre_hooks.values(), *inner._forward_hooks.values()):
            of = getattr(hook, "func", hook)  # that of a partial function
            module_of = getattr(of, "__module__", None) or type(of).__module__
            if not module_of.startswith(libraries):
                raise InputError(
                    f"model {shown!r} has a forward hook at {name or 'its top'!r}, which may "
                    "change what it computes and which no results folder could tell; expected "
                    "none: remove it (handle.remove()) before you wrap the model"
                )


def _inner(module: Any) -> str:
    """The expression for the model inside an adapter's, a compiled or a parallel module."""
    if hasattr(module, "merge_and_unload"):
        return "model.merge_and_unload()"
    if hasattr(module, "_orig_mod"):
        return "model._orig_mod"
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    return "model.module" if isinstance(module, parallel) else ""


def _twin(module: Any) -> Any:
    """A copy of the modules, in evaluation mode, that holds the very same tensors."""
    shared = itertools.chain(module.parameters(), module.buffers())
    twin = copy.deepcopy(module, {id(tensor): tensor for tensor in shared}).eval()
    if hasattr(twin, "config"):
        settled(twin.config)
    for inner in twin.modules():
        if hasattr(inner, "chunk_size_feed_forward"):
            inner.chunk_size_feed_forward = 0  # as settled does for a model that is loaded
    return twin


def _dtype(module: Any, name: str) -> str:
    """The one type of a module's weights, which lie on one device."""
    types = {str(parameter.dtype).removeprefix("torch.") for parameter in module.parameters()}
    places = {parameter.device for parameter in module.parameters()}
    known = [dtype for dtype in DTYPES if dtype != "auto"]
    if len(types) != 1 or not types <= set(known):
        raise InputError(
            f"model {name!r} has weights of type {', '.join(sorted(types))}; expected all of one "
            f"type, one of {', '.join(known)}"
        )
    if len(places) != 1 or next(iter(places)).type == "meta":
        raise InputError(
            f"model {name!r} lies on {', '.join(sorted(map(str, places)))}; expected one device"
        )
    return types.pop()


def _digest(module: Any, tokenizer: PreTrainedTokenizerFast, head: Head | None = None) -> str:
    """One digest over everything that decides what the object computes."""
    config = module.config.to_dict()
    kept = {key: value for key, value in config.items() if key not in _SAYS_NOTHING}
    total = hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode())
    if head is not None:
        total.update(json.dumps([head.pooling, head.behind], sort_keys=True, default=dict).encode())
    total.update(b"\0" + tokenizer.backend_tokenizer.to_str().encode("utf-8", "surrogatepass"))
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


# --- what a CrossEncoder does beside its model


def _limit(owner: Any) -> object:
    """The CrossEncoder's own length limit; it has had two names."""
    limit = getattr(owner, "max_seq_length", None)
    return getattr(owner, "max_length", None) if limit is None and owner is not None else limit


@contextmanager
def _modes_kept(*modules: Any) -> Iterator[None]:
    """Train and eval modes are afterwards as before."""
    before = {
        inner: inner.training
        for module in modules
        if isinstance(module, torch.nn.Module)
        for inner in module.modules()
    }
    try:
        yield
    finally:
        for inner, mode in before.items():
            inner.training = mode


def _predicted(owner: Any, module: Any) -> Tensor:
    """The logits that ``predict`` gives for the built-in pairs, without an activation."""
    known = inspect.signature(owner.predict).parameters
    activation = "activation_fct" if "activation_fct" in known else "activation_fn"
    texts = [[pair.query, pair.text] for pair in SHORT]
    try:
        plain: Any = {activation: torch.nn.Identity()}
        with _modes_kept(owner, module):
            logits = [  # one by one: padding on the left would move an encoder's positions
                owner.predict([text], show_progress_bar=False, convert_to_numpy=True, **plain)
                for text in texts
            ]
        return torch.cat([torch.as_tensor(each).reshape(1, -1) for each in logits])
    except Exception as error:  # another's code: whatever it raises, the object cannot be used
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"the {type(owner).__name__}'s predict fails on two built-in pairs: {reason}; expected "
            "an object that scores pairs of texts"
        ) from None


def _compare(reranker: Reranker, predicted: Tensor, kind: str) -> None:
    """Refuse a CrossEncoder whose predict is not its model's forward on query and passage."""
    encoded = reranker.encode(SHORT)
    (batch,) = batches(encoded, 10**6, pad_id=reranker.pad_id, device=reranker.device)
    with torch.inference_mode():
        own = reranker.family.library_score(batch).double().cpu()
    label = reranker.family.label
    has_labels = predicted.shape[1] in ((1, 2) if label is None else (label.count,))
    logits = (relevance(predicted, label) if has_labels else predicted.flatten()).double().cpu()
    worst = float((own - logits).abs().max()) if own.shape == logits.shape else float("inf")
    coarse = SCORES.get(str(predicted.dtype).removeprefix("torch."), 0.0)  # float32 of float64
    limit = max(SCORES[reranker.dtype], coarse) * max(1.0, float(own.abs().max()))
    if not worst <= limit:
        others, ours = (
            ", ".join(f"{value:.4f}" for value in values.tolist()) for values in (logits, own)
        )
        raise InputError(
            f"model {reranker.name!r}: the {kind}'s predict gives {others} for two built-in pairs, "
            f"its model and tokenizer alone give {ours}; it does something beside them (another "
            "module), which cuts would not know: wrap its model with its tokenizer to look at them "
            "without it"
        )
    item = Item("predict", worst, most=limit)
    reranker.checks = {**reranker.checks, item.name: item.record()}

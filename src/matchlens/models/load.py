"""Loading: from a folder to a reranker that has proved that its attention can be cut."""

from __future__ import annotations

import importlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as library_logging

from matchlens.arguments import typed
from matchlens.batching import Encoded, Spans, encode, spans
from matchlens.corpora.pairs import Pair
from matchlens.errors import InputError, MatchlensWarning
from matchlens.models import check
from matchlens.models.checks.passes import PAIRS
from matchlens.models.checks.scores import labels_differ
from matchlens.models.diagnosis import no_words, unread_tokenizer
from matchlens.models.family import Family
from matchlens.models.folder import FAMILIES, ModelFolder, check_dtype, find
from matchlens.models.packed import keep_memory, pack
from matchlens.models.prompted import answer, encode_prompted, prompted_spans
from matchlens.parts import Part
from matchlens.prompts import Prompt


@dataclass
class Reranker:
    """A cross-encoder, ready to be run under cuts; made by :func:`load`.

    Args:
        family: walks the model layer by layer.
        tokenizer: its fast tokenizer.
        name: what the person asked for.
        max_length: most tokens of a pair, special ones included.
        dtype: name of the weights' type, such as ``float32``.
        device: where it runs.
        identity: what the manifest says of the model: name, digest, shape, type.
        checks: what the check at load caused and saw.
        negate: whether a score is the negated logit (of two labels, z0 - z1).
        prompt: what stands around query and passage, for a decoder.

    >>> model = load("demo")
    >>> model.max_length, model.family.n_layers, model.family.n_heads
    (512, 12, 12)
    """

    family: Family
    tokenizer: PreTrainedTokenizerFast
    name: str
    max_length: int
    dtype: str
    device: torch.device
    identity: Mapping[str, object]
    checks: check.Checks = field(default_factory=dict)
    negate: bool = False
    prompt: Prompt | None = None

    def encode(self, pairs: Sequence[Pair]) -> Encoded:
        """Encode pairs as the model takes them, every token labelled with its part.

        Raises:
            InputError: if a pair cannot be encoded; it names the pair by its ids.
        """
        if self.prompt is None:
            return encode(self.tokenizer, pairs, self.max_length)
        return encode_prompted(self.tokenizer, pairs, self.max_length, self.prompt)

    def spans(self, pair: Pair) -> Spans:
        """The tokens of one pair as :meth:`encode` makes them, with their places in the texts.

        Raises:
            InputError: if the pair cannot be encoded.
        """
        if self.prompt is None:
            return spans(self.tokenizer, pair, self.max_length)
        return prompted_spans(self.tokenizer, pair, self.max_length, self.prompt)

    @property
    def notes(self) -> tuple[str, ...]:
        """What every study says of the model."""
        return (self.family.beside,) if self.family.beside else ()

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        return int(str(self.tokenizer.pad_token_id or 0))

    @property
    def batch_tokens(self) -> int:
        """Default budget of a layer call: about what a CPU's caches like, more on a GPU."""
        return 1024 if self.device.type == "cpu" else 32768

    @property
    def score_dtype(self) -> str:
        """NumPy type that scores are kept in."""
        return "float64" if self.dtype == "float64" else "float32"


@typed
def load(
    model: str | Path | ModelFolder = "demo",
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    max_length: int | None = None,
    prompt: Prompt | Path | None = None,
    negate: bool = False,
) -> Reranker:
    """Load a cross-encoder and check that cutting its attention bites.

    Args:
        model: ``demo``, a local folder, or a Hugging Face id (only then is the network used).
        revision: branch, tag or commit on the hub.
        device: a torch device such as ``cpu`` or ``cuda:0``; CUDA if present where None.
        dtype: ``float32``, ``float64``, ``bfloat16`` or ``float16``.
        max_length: most tokens of a pair; never more than the tokenizer and the position table
            allow.
        prompt: how a decoder is asked, or a JSON file that names what differs from its type's own
            prompt, such as ``{"instruction": "..."}``; the type's own where None.
        negate: take the negated relevance logit for the score (of two labels, z0 - z1), for a
            model whose lower logit means more relevant.

    Raises:
        InputError: if the model cannot be found, is no cross-encoder of a supported type, or
            fails the check.

    Warns:
        MatchlensWarning: if built-in pairs are all the wrong way round.

    >>> reranker = load("demo")
    >>> reranker.family.n_layers, reranker.family.n_heads, reranker.max_length
    (12, 12, 512)
    """
    folder = model if isinstance(model, ModelFolder) else find(str(model), revision)
    folder = folder.asked(prompt)
    folder.limit(max_length)
    check_dtype(dtype)
    folder.say_converted()
    place = _device(device)
    with quiet_library():
        tokenizer = _tokenizer(folder)
        family_class = walker(folder.model_type)
        if dtype == "float64" and family_class.rounded:
            raise InputError(
                f"--dtype float64: inside {folder.model_type} the library rounds to float32, "
                "whatever the type of the weights; expected float32, which is as exact"
            )
        library = _library(family_class, folder.architecture)
        module = _module(folder, library, getattr(torch, dtype)).to(place)
    if dtype == "float32" and place.type == "cpu":
        pack(module)
        keep_memory()
    family: Family = family_class(module)
    identity = folder.identity(dtype, max_length, negate)
    limit = folder.limit(max_length)
    reranker = Reranker(
        family,
        tokenizer,
        folder.name,
        limit,
        dtype,
        place,
        identity,
        negate=negate,
        prompt=folder.prompt,
    )
    return proved(reranker)


def proved(reranker: Reranker) -> Reranker:
    """The reranker, once its tokenizer and its attention have passed the check at load.

    Raises:
        InputError: if they do not pass.

    Warns:
        MatchlensWarning: if built-in pairs are all the wrong way round.
    """
    _check_tokenizer(reranker)
    reranker.checks = check.check(reranker)
    labels = reranker.family.module.config.id2label
    if said := check.reversed_order(reranker.checks, reranker.negate, labels):
        warnings.warn(f"model {reranker.name!r}: {said}", MatchlensWarning, stacklevel=3)
    return reranker


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"device {name!r} cannot be used ({reason}); expected, for example, 'cpu' or 'cuda'"
        ) from None
    return device


def _tokenizer(folder: ModelFolder) -> PreTrainedTokenizerFast:
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder.path), trust_remote_code=False)
    except Exception as error:  # the library raises anything here, and all of it is bad input
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise unread_tokenizer(folder.path, folder.name, reason) from None
    fast = unpadded(tokenizer, folder.name)
    if not _knows_words(fast):
        reads = [str(one) for one in type(tokenizer).vocab_files_names.values()]
        raise no_words(folder.path, folder.name, type(tokenizer).__name__, reads)
    return fast


def _knows_words(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether a tokenizer makes anything but unknown tokens of English and of its own words.

    The library builds one that knows its special tokens alone where a file is missing.
    """
    special = set(tokenizer.all_special_ids)
    own = [word for word, number in tokenizer.get_vocab().items() if number not in special]
    words = [re.sub(r"^(##|\u2581|\u0120)|</w>$", "", word) for word in sorted(own)[:1000]]
    texts = [one for pair in PAIRS for one in (pair.query, pair.text)] + words
    found = tokenizer(texts, add_special_tokens=False)["input_ids"] if own else []
    return any(number not in special for each in found for number in each)


def unpadded(tokenizer: Any, name: str) -> PreTrainedTokenizerFast:
    """The tokenizer, set to neither cut nor pad: batching does both.

    Raises:
        InputError: if it is a slow one.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"model {name!r} has a slow tokenizer ({type(tokenizer).__name__}), which the library "
            "cannot convert, and which keeps no record of which token comes from where; expected a "
            "fast one, as tokenizer.json holds it"
        )
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return tokenizer


def _module(folder: ModelFolder, library: Any, dtype: torch.dtype) -> Any:
    try:
        module, report = library.from_pretrained(
            str(folder.converted or folder.path),
            config=AutoConfig.from_pretrained(str(folder.path)),
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # it reports them, and they are refused below
        )
    except Exception as error:  # the library raises anything here, and all of it is bad input
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"model {folder.name!r}: cannot load its weights: {reason}") from None
    mismatched: Any = report.get("mismatched_keys") or ()
    for name, held, wanted in sorted(mismatched):
        if "classifier" in name and held[1:] == wanted[1:] and len(wanted) in (1, 2):
            said = labels_differ(wanted[0], held[0])
            raise InputError(f"model {folder.name!r}: its weights do not fit ({name}): {said}")
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if wrong := sorted(map(str, report.get(what) or ())):
            raise InputError(
                f"model {folder.name!r}: {len(wrong)} weights do not fit ({what}: {wrong[0]}), so "
                "its scores would be random; expected the weights of a fine-tuned cross-encoder"
            )
    return module.eval().requires_grad_(False)


def walker(model_type: str) -> Any:
    """The class that walks models of a type."""
    module, name = FAMILIES[model_type].walker.split(":")
    return getattr(importlib.import_module(module), name)


def _library(family: Any, architecture: str) -> Any:
    """The library's class that loads the weights: a causal model's or a classifier's."""
    classifier = getattr(family, "classifier", None)
    named = classifier is not None and classifier.__name__ == architecture
    return classifier if named else family.library


def _check_vocabulary(reranker: Reranker) -> None:
    """The weights must know every token of the tokenizer."""
    largest = max(reranker.tokenizer.get_vocab().values())
    known = reranker.family.module.config.vocab_size
    if largest >= known:
        raise InputError(
            f"model {reranker.name!r}: its tokenizer has token ids up to {largest}, its weights "
            f"know {known} tokens; expected the tokenizer that the model was trained with"
        )


def _check_prompt(reranker: Reranker, prompt: Prompt) -> None:
    """The tokenizer must make the prompt's parts, and one token of each answer."""
    family: Any = reranker.family
    reranker.encode([Pair("check", "check", "a", "a", 0)])
    if not family.classifies:
        family.yes, family.no = (
            None if word is None else answer(reranker.tokenizer, word, reranker.name)
            for word in (prompt.yes, prompt.no)
        )


def _check_tokenizer(reranker: Reranker) -> None:
    """The tokenizer must make the five parts, and mark the passage where the family knows how."""
    family = reranker.family
    _check_vocabulary(reranker)
    if reranker.prompt is not None:
        _check_prompt(reranker, reranker.prompt)
        return
    encoded = reranker.encode([Pair("check", "check", "a", "a", 0)])
    parts = {Part(int(part)) for part in encoded.parts[0]}
    if parts != {Part.CLS, Part.Q, Part.SEP1, Part.D, Part.SEP2}:
        found = ", ".join(str(part) for part in sorted(parts))
        raise InputError(
            f"model {reranker.name!r}: its tokenizer does not encode a pair as {family.template} "
            f"(it gives only {found}); expected a tokenizer with pair support"
        )
    added = {Part.CLS: 1, Part.SEP1: family.separators, Part.SEP2: 1}
    if any((encoded.parts[0] == part).sum() != number for part, number in added.items()):
        found = " ".join(str(Part(int(part))) for part in encoded.parts[0])
        raise InputError(
            f"model {reranker.name!r}: its tokenizer encodes a pair as {found}; expected "
            f"{family.template}, as the model was trained (for XLM-RoBERTa, transformers before "
            "5.3 leaves out one separator: use a later one)"
        )
    if not family.token_types:
        return
    segments = family.module.config.type_vocab_size
    if encoded.types[0].max() >= segments:
        raise InputError(
            f"model {reranker.name!r}: its tokenizer marks two segments, its weights know "
            f"{segments}; expected the tokenizer that the model was trained with"
        )
    types = encoded.types[0][encoded.parts[0] == Part.D]
    if family.token_types > 1 and segments > 1 and not (types == 1).all():
        raise InputError(
            f"model {reranker.name!r}: its tokenizer gives the passage token type 0, so the model "
            "would see one segment; expected token type 1 for the passage"
        )


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep the library's loading chatter off the terminal; what matters is checked here."""
    level, bar = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity(logging.ERROR)
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)
        if bar:
            library_logging.enable_progress_bar()

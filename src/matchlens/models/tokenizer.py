"""The tokenizer of a model folder: the library's fast one, which neither cuts nor pads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from matchlens.errors import InputError
from matchlens.models.checks.passes import PAIRS
from matchlens.models.config import quiet_library
from matchlens.models.diagnosis import no_words, unread_tokenizer
from matchlens.models.prompted import template_prompt
from matchlens.models.serving import Serving
from matchlens.prompts import Prompt
from matchlens.tokenizing import guarded


def tokenizer_of(path: Path, name: str, serving: Serving) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a folder, as its sentence-transformers files have it."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(path), trust_remote_code=False, **serving.loading
        )
    except Exception as error:  # the library raises anything here, and all of it is bad input
        reason = " ".join(str(error).split())[:240] or type(error).__name__
        raise unread_tokenizer(path, name, reason) from None
    fast = unpadded(tokenizer, name)
    serving.stated(fast, name)  # a limit that is none stops the tokenizer's call
    if not _knows_words(fast, name):
        reads = [str(file) for file in type(tokenizer).vocab_files_names.values()]
        raise no_words(path, name, type(tokenizer).__name__, reads)
    return serving.lowered(fast)


def stated_limit(path: Path, name: str, serving: Serving) -> tuple[int | None, str]:
    """The most tokens that a folder's files state (None: no limit), and what states it."""
    with quiet_library():
        return serving.stated(tokenizer_of(path, name, serving), name)


def template_of(path: Path, name: str, serving: Serving) -> Prompt | None:
    """The prompt that a folder's chat template writes; None where it writes none."""
    with quiet_library():
        return template_prompt(tokenizer_of(path, name, serving), serving)


def _knows_words(tokenizer: PreTrainedTokenizerFast, name: str) -> bool:
    """Whether a tokenizer makes anything but unknown tokens of English and of its own words."""
    # The library builds one that knows its special tokens alone where a file is missing.
    special = set(tokenizer.all_special_ids)
    own = [word for word, number in tokenizer.get_vocab().items() if number not in special]
    words = [re.sub(r"^(##|\u2581|\u0120)|</w>$", "", word) for word in sorted(own)[:1000]]
    texts = [text for pair in PAIRS for text in (pair.query, pair.text)] + words

    def call(_: slice) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"] if own else []

    try:
        encoded = guarded(tokenizer, call, ())
    except InputError as error:
        why = f"its tokenizer, a {type(tokenizer).__name__}, cannot be used: {error}"
        raise InputError(f"model {name!r}: {why}") from None
    return any(number not in special for each in encoded for number in each)


def unpadded(tokenizer: Any, name: str) -> PreTrainedTokenizerFast:
    """The tokenizer, set to neither cut nor pad: batching does both."""
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

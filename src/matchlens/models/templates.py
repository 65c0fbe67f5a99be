"""A folder's chat template as a prompt: what it writes around a query and a passage."""

from __future__ import annotations

import re
from typing import Any

from matchlens.errors import InputError
from matchlens.models.serving import Serving
from matchlens.prompts import TEXTS, Prompt

_MARKS = {text: f"zq{number}jx{number}kv" for number, text in enumerate(TEXTS, start=3)}
"""Words that stand for query and passage while the template writes; no template holds them."""


def messages(serving: Serving, query: str, passage: str) -> list[dict[str, Any]]:
    """The messages that sentence-transformers makes of a pair."""
    texts = {"system": serving.prompt, "query": query, "document": passage}
    return [
        {
            "role": role,
            "content": text if serving.chat == "flat" else [{"type": "text", "text": text}],
        }
        for role, text in texts.items()
        if text
    ]


def template_prompt(tokenizer: Any, serving: Serving) -> Prompt | None:
    """The prompt that a chat template writes, or None where it is no prompt around two texts.

    The template writes marked texts once. Since added tokens split a text before anything else
    does, the pieces between them are turned into tokens as they are in the whole; whether they
    are is asked by the check at load.
    """
    words = [f" {mark} " for mark in _MARKS.values()]
    try:
        text = tokenizer.apply_chat_template(
            messages(serving, *words), tokenize=False, **serving.template
        )
    except Exception:  # a stranger's template: the check says what the library makes of it
        return None
    whole = [text.count(word) for word in words]
    bare = [text.count(mark) for mark in _MARKS.values()]
    if bare != [1, 1] or whole not in ([1, 1], [0, 0]):
        return None
    strip = whole == [0, 0]
    yes, no = _answers(tokenizer, serving)
    try:
        return Prompt(_pieces(tokenizer, text, strip), yes, no, strip=strip)
    except InputError:
        return None


def _pieces(tokenizer: Any, text: str, strip: bool) -> tuple[str, ...]:
    """The text in pieces: those with a query or passage, and what stands between them."""
    added = sorted(map(str, tokenizer.get_added_vocab()), key=len, reverse=True)
    pieces = [""]
    for part in re.split(f"({'|'.join(map(re.escape, added))})", text) if added else [text]:
        marked = part
        for place, mark in _MARKS.items():
            marked = marked.replace(mark if strip else f" {mark} ", place)
        if marked != part:
            pieces += [marked, ""]
        else:
            pieces[-1] += part
    return tuple(piece for piece in pieces if piece)


def _answers(tokenizer: Any, serving: Serving) -> tuple[str, str | None]:
    """The answers in words, where the score is made of their logits."""
    if serving.answers is None:
        return "yes", None
    yes, no = (None if token is None else tokenizer.decode([token]) for token in serving.answers)
    return str(yes), no


def template_suffix(tokenizer: Any, serving: Serving) -> list[int]:
    """The tokens behind the texts, which sentence-transformers keeps when it cuts a pair."""
    first, second = (
        tokenizer.apply_chat_template(
            messages(serving, filler, filler),
            tokenize=True,
            return_dict=True,
            **serving.template,
        )["input_ids"]
        for filler in ("0", "1 2 3 4")
    )
    same = 0
    while same < min(len(first), len(second)) and first[-1 - same] == second[-1 - same]:
        same += 1
    return list(first[len(first) - same :]) if same < min(len(first), len(second)) else []

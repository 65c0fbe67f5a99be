"""Pairs inside a prompt: each piece by itself, every token labelled; chat templates as prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizerFast

from matchlens.batching import PLAIN, Pairing, Row, fit, read_last
from matchlens.corpora.pair import Pair
from matchlens.errors import InputError
from matchlens.models.serving import Serving
from matchlens.parts import Part
from matchlens.prompts import TEXTS, Prompt
from matchlens.tokenizing import Piece, guarded, named, usable

Labelled = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Token ids, parts, and first and last characters in the query or the passage, -1 elsewhere."""


def prompted_rows(
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    max_length: int,
    prompt: Prompt,
    start: int | None = None,
    pairing: Pairing = PLAIN,
) -> Iterator[Row]:
    """Put pairs into a prompt and label every token with its part.

    A token that holds characters of the query is Q, of the passage D, whatever else it holds (BPE
    joins a word with the space before it); the prompt's own are ``OTHER``. CLS is the token whose
    state the score reads: the last where the pairing says so; ``DEC`` is the decoder's first
    (``start``), which does not count for the limit. The passage is cut first, from its end; what
    follows it stays.
    """
    used: list[tuple[Piece, Piece]] = []
    for pair in pairs:
        with named(pair):
            query, passage = (
                usable(tokenizer, text, max_length, options={"split_special_tokens": True})
                for text in (_stripped(pair.query, prompt), _stripped(pair.text, prompt))
            )
        used.append((query, passage))
    filled = [list(prompt.filled(query.text, passage.text)) for query, passage in used]
    pieces = [
        _piece(tokenizer, [pair_pieces[place] for pair_pieces in filled], prompt, pairs)
        for place in range(len(prompt.pieces))
    ]
    begin: list[Labelled] = []
    if prompt.begin and tokenizer.bos_token_id not in (None, tokenizer.pad_token_id):
        bos, nowhere = np.array([tokenizer.bos_token_id]), np.array([-1])
        begin = [(bos, np.array([int(Part.OTHER)]), nowhere, nowhere)]
    for number, pair in enumerate(pairs):
        with named(pair):
            row = [*begin, *(_labelled(piece[number]) for piece in pieces)]
            ids, labels, starts, ends = (np.concatenate(each) for each in zip(*row, strict=True))
            for part, name in ((Part.Q, "query"), (Part.D, "passage")):
                if not (labels == part).any():
                    raise InputError(
                        f"the {name} has no tokens; expected at least one; give it some text"
                    )
                places, piece = labels == part, used[number][part == Part.D]
                text = pair.query if part == Part.Q else pair.text
                lost = len(text) - len(text.lstrip()) if prompt.strip else 0
                starts[places], ends[places] = (
                    piece.places(starts[places]) + lost,
                    piece.places(ends[places]) + lost,
                )
            if start is not None:
                decoder = (start, int(Part.DEC), -1, -1)
                ids, labels, starts, ends = (
                    np.concatenate([[own], each])
                    for own, each in zip(decoder, (ids, labels, starts, ends), strict=True)
                )
            keep = fit(labels, max_length + (start is not None))  # the decoder's does not count
            if pairing.last:
                labels, keep = read_last(tokenizer, ids, labels, keep, pairing)
                ids, starts, ends = (each[: len(labels)] for each in (ids, starts, ends))
        yield Row(ids, np.zeros(len(ids)), labels, keep, starts, ends)


def _stripped(text: str, prompt: Prompt) -> str:
    return text.strip() if prompt.strip else text


Texts = Mapping[Part, tuple[int, int]]
Tokens = tuple[list[int], list[tuple[int, int]], list[int], Texts]


def _piece(
    tokenizer: PreTrainedTokenizerFast,
    filled: Sequence[tuple[str, Texts]],
    prompt: Prompt,
    pairs: Sequence[Pair],
) -> list[Tokens]:
    """Tokens, their characters, which of them the tokenizer added, and the texts' places."""
    if not filled:
        return []
    texts = any(spans for _, spans in filled)
    # A piece without a text is the same for all pairs: it is tokenized once.
    written = [text for text, _ in filled] if texts else [filled[0][0]]
    as_text: dict[str, Any] = {"split_special_tokens": True} if texts else {}

    def call(some: slice) -> BatchEncoding:
        return tokenizer(
            written[some] or written,
            add_special_tokens=texts and prompt.added,
            **as_text,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            truncation=False,
            padding=False,
            verbose=False,
        )

    encoding = guarded(tokenizer, call, pairs)
    columns = ("input_ids", "offset_mapping", "special_tokens_mask")
    rows = list(zip(*(encoding[column] for column in columns), strict=True))
    rows = rows if texts else rows * len(filled)
    return [(*row, spans) for row, (_, spans) in zip(rows, filled, strict=True)]


def _labelled(piece: Tokens) -> Labelled:
    """A piece's tokens and their parts, by the characters that they hold."""
    ids, offsets, added, texts = piece
    labels = np.full(len(ids), int(Part.OTHER))
    starts, ends = np.full(len(ids), -1), np.full(len(ids), -1)
    for place, (first, end) in enumerate(offsets):
        if added[place] and first == end:
            continue
        inside = [part for part, span in texts.items() if _meets(first, end, span)]
        if len(inside) > 1:
            raise InputError(
                "one token holds the end of the query and the start of the passage; expected a "
                "prompt with words between them"
            )
        if inside:
            labels[place] = inside[0]
            begin, close = texts[inside[0]]
            starts[place], ends[place] = max(first, begin) - begin, min(end, close) - begin
    return np.array(ids, dtype=np.int64), labels, starts, ends


def _meets(first: int, end: int, span: tuple[int, int]) -> bool:
    """Whether a token's characters are among a text's; some hold none, as trimmed spaces do."""
    if first == end:
        return span[0] <= first < span[1]
    return first < span[1] and end > span[0]


def answer(tokenizer: PreTrainedTokenizerFast, word: str, name: str) -> int:
    """The one token that an answer is."""
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise InputError(
            f"model {name!r}: the answer {word!r} is {len(ids)} tokens {ids} of its tokenizer, a "
            f"{type(tokenizer).__name__}; expected one known token; set the prompt's answers "
            "(--prompt) to what the model was trained with, or give it the tokenizer of its "
            "training (tokenizer_class in tokenizer_config.json, its vocabulary)"
        )
    return int(ids[0])


_MARKS = {text: f"zq{number}jx{number}kv" for number, text in enumerate(TEXTS, start=3)}
"""Words that stand for query and passage while the template writes; no template holds them."""


_STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "message.content[")
"""Signs in a template that it reads contents as lists, by which sentence-transformers goes."""


def messages(tokenizer: Any, serving: Serving, query: str, passage: str) -> list[dict[str, Any]]:
    """The messages that sentence-transformers makes of a pair."""
    chat, template = serving.chat, getattr(tokenizer, "chat_template", None)
    if chat == "auto" and isinstance(template, str) and template:
        chat = "structured" if any(sign in template for sign in _STRUCTURED) else "flat"
    texts = {"system": serving.prompt, "query": query, "document": passage}
    return [
        {
            "role": role,
            "content": text if chat == "flat" else [{"type": "text", "text": text}],
        }
        for role, text in texts.items()
        if text
    ]


def template_prompt(tokenizer: Any, serving: Serving) -> Prompt | None:
    """The prompt that a chat template writes, or None where it is no prompt around two texts.

    Added tokens split a text before anything else does, so that the pieces between them become
    the tokens that they are in the whole; the check at load asks whether they do.
    """
    words = [f" {mark} " for mark in _MARKS.values()]
    try:
        text = tokenizer.apply_chat_template(
            messages(tokenizer, serving, *words), tokenize=False, **serving.template
        )
    except Exception:  # a stranger's template: the check says what the library makes of it
        return None
    spaced = [text.count(word) for word in words]
    bare = [text.count(mark) for mark in _MARKS.values()]
    if bare != [1, 1] or spaced not in ([1, 1], [0, 0]):
        return None
    strip = spaced == [0, 0]
    yes, no = shown_answers(tokenizer, serving.answers)
    try:
        return Prompt(_pieces(tokenizer, text, strip), yes, no, strip=strip)
    except InputError:
        return None


def check_written(
    tokenizer: Any, serving: Serving, prompt: Prompt, pairs: Sequence[Pair]
) -> str | None:
    """Refuse a pair of which a chat template writes another text than its prompt.

    The check at load asks this of a few texts only, and a template may replace words of any.

    Returns:
        A control token that some text holds: the library obeys it, and it is text here.
    """

    def write(some: slice) -> list[str]:
        asked = (messages(tokenizer, serving, pair.query, pair.text) for pair in pairs[some])
        return [
            tokenizer.apply_chat_template(each, tokenize=False, **serving.template)
            for each in asked
        ]

    control: str | None = None
    added = tokenizer.added_tokens_decoder.values()
    special = [token.content for token in added if token.special]
    for pair, written in zip(pairs, guarded(tokenizer, write, pairs), strict=True):
        query, passage = _stripped(pair.query, prompt), _stripped(pair.text, prompt)
        own = "".join(text for text, _ in prompt.filled(query, passage))
        if own != written:
            with named(pair):
                raise InputError(
                    "the model's chat template writes another text than its prompt with query and "
                    "passage filled in (it replaces words, or a date in it has changed); expected "
                    "a template that leaves both as they are: give a prompt (--prompt)"
                )
        inside = (token for token in special if token in pair.query or token in pair.text)
        control = control or next(inside, None)
    return control


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


def shown_answers(tokenizer: Any, ids: tuple[int, int | None] | None) -> tuple[str, str | None]:
    """The answers in words, where the score is made of the logits of tokens; "yes" where not."""
    if ids is None:
        return "yes", None
    yes, no = (
        None
        if token is None
        else tokenizer.decode([token]) or tokenizer.convert_ids_to_tokens(token)
        for token in ids
    )
    return str(yes), no


def template_suffix(tokenizer: Any, serving: Serving) -> list[int]:
    """The tokens behind the texts, which sentence-transformers keeps when it cuts a pair."""
    first, second = (
        tokenizer.apply_chat_template(
            messages(tokenizer, serving, filler, filler),
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

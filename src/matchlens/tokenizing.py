"""Call a stranger's tokenizer: bounded in characters, and with one line of error where it fails."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerFast

from matchlens.corpora.pair import Pair
from matchlens.errors import InputError

CHARACTERS = 16
"""Characters a token of the length limit that are tried first; English has about four."""

SPARE = 64
"""Tokens beyond the length limit that a piece of a text must have."""

MOST_CHARACTERS = 2**22
"""Most characters of one text that the tokenizer is given at once."""

RUN = 10_000
"""Letters and digits in a row after which WordPiece gives the word up whatever follows."""

_RUNS = re.compile(rf"(?:[A-Za-z0-9]{{{RUN}}}[A-Za-z0-9]+|[ \t\r\n]{{{RUN}}}[ \t\r\n]+)")
_FAR = re.compile(r"\$|\\[zZ]|\(\?")
"""What lets a regular expression look as far as the end of a text."""

T = TypeVar("T")


@dataclass(frozen=True)
class Piece:
    """The piece of a text that has the text's tokens up to the length limit.

    From each place in ``at`` on, which rise, the text is ``by`` so many characters further along.
    """

    text: str
    at: tuple[int, ...] = ()
    by: tuple[int, ...] = ()

    def places(self, offsets: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Where characters of the piece stand in the whole text.

        >>> Piece("cat", (0, 2), (5, 9)).places(np.array([0, 1, 2]))
        array([ 5,  6, 11])
        """
        which = np.searchsorted(np.array(self.at, dtype=np.int64), offsets, side="right")
        return offsets + np.array([0, *self.by], dtype=np.int64)[which]


def usable(
    tokenizer: PreTrainedTokenizerFast,
    text: str,
    limit: int,
    *,
    start: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Piece:
    """Cut a text to what the length limit can use; an over-long text loses its end, or its start.

    The tokens of a piece and of one twice as long must agree up to the limit, and the piece must
    have :data:`SPARE` tokens more; else longer ones are tried.
    """
    size = CHARACTERS * limit + 1024
    if len(text) <= 2 * size:
        return Piece(text)
    piece = _squeezed(text) if _gives_up_long_words(tokenizer) else Piece(text)
    local = not _reaches_far(tokenizer)

    def tokens(some: str) -> list[int]:
        settings: dict[str, Any] = {**(options or {}), "add_special_tokens": False}

        def call(_: slice) -> Any:
            return tokenizer(some, return_attention_mask=False, verbose=False, **settings)

        ids = list(guarded(tokenizer, call, (), some)["input_ids"])
        return ids[::-1] if start else ids

    while len(piece.text) > 2 * size:
        if 2 * size > MOST_CHARACTERS:
            raise InputError(
                f"a text of {len(text):,} characters has no {limit} tokens in {size:,} of them; "
                f"expected text, or at most {MOST_CHARACTERS:,} characters"
            )
        if local:
            longer = _cut(piece, 2 * size, start)
            less, more = tokens(_cut(piece, size, start).text), tokens(longer.text)
            if len(less) >= limit + SPARE and less[:limit] == more[:limit]:
                return longer
        size *= 2
    return piece


def _cut(piece: Piece, size: int, start: bool) -> Piece:
    """The first or last characters of a piece, cut at a space where there is one."""
    text, length = piece.text, len(piece.text)
    if not start:
        space = text.rfind(" ", size // 2, size)
        return Piece(text[: size if space < 0 else space], piece.at, piece.by)
    space = text.find(" ", length - size, length - size // 2)
    first = length - size if space < 0 else space
    moved = int(piece.places(np.array([first]))[0]) - first
    later = [(at - first, by) for at, by in zip(piece.at, piece.by, strict=True) if at > first]
    at, by = zip((0, moved), *later, strict=True)
    return Piece(text[first:], at, tuple(further + first for further in by))


def _squeezed(text: str) -> Piece:
    """The text with shorter runs of letters and digits, and of spaces."""
    parts, at, by, end, length = [], [], [], 0, 0
    for run in _RUNS.finditer(text):
        parts.append(text[end : run.start() + RUN])
        length += len(parts[-1])
        end = run.end()
        at.append(length)
        by.append(end - length)
    parts.append(text[end:])
    return Piece("".join(parts), tuple(at), tuple(by))


def _gives_up_long_words(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether words of :data:`RUN` letters are unknown, whatever their letters."""
    backend = tokenizer.backend_tokenizer
    words = type(backend.model).__name__ == "WordPiece"
    splits = type(backend.pre_tokenizer).__name__ in {"BertPreTokenizer", "WhitespaceSplit"}
    changes = type(backend.normalizer).__name__ in {"BertNormalizer", "Lowercase", "NoneType"}
    if not (words and splits and changes) or backend.model.max_input_chars_per_word >= RUN:
        return False
    added = (token.content for token in backend.get_added_tokens_decoder().values())
    return not any(re.fullmatch(r"[A-Za-z0-9]+|\s+", content) for content in added)


def _reaches_far(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the normaliser may change a text's start for what stands at its end."""
    return any(_FAR.search(pattern) for pattern in _patterns(_state(tokenizer, "normalizer")))


def _state(tokenizer: PreTrainedTokenizerFast, name: str) -> object:
    part = getattr(tokenizer.backend_tokenizer, name)
    return {} if part is None else json.loads(part.__getstate__())


def _patterns(state: object) -> Iterator[str]:
    """The regular expressions in a part of a tokenizer."""
    if isinstance(state, dict):
        if isinstance(state.get("Regex"), str):
            yield state["Regex"]
        state = list(state.values())
    if isinstance(state, list):
        for inner in state:
            yield from _patterns(inner)


@contextmanager
def named(pair: Pair) -> Iterator[None]:
    """Put the pair's ids into an error."""
    try:
        yield
    except InputError as error:
        raise InputError(
            f"pair of query {pair.qid!r:.80} and passage {pair.docid!r:.80}: {error}"
        ) from None


def guarded(
    tokenizer: PreTrainedTokenizerFast,
    call: Callable[[slice], T],
    pairs: Sequence[Pair],
    *texts: str,
) -> T:
    """Call the tokenizer for pairs, or texts; where it fails, find which, and say so in a line."""
    try:
        with _silent(tokenizer):
            return call(slice(None))
    except BaseException as error:
        if not _is_failure(error):
            raise
        failure = error
    for number, pair in enumerate(pairs):
        try:
            with _silent(tokenizer):
                call(slice(number, number + 1))
        except BaseException as error:
            if not _is_failure(error):
                raise
            with named(pair):
                raise failed(error, pair.query, pair.text) from None
    raise failed(failure, *texts)


def _is_failure(error: BaseException) -> bool:
    """Whether an error is the tokenizer's own; a panic in Rust is no ``Exception``."""
    known = isinstance(error, Exception) and not isinstance(error, InputError | MemoryError)
    return known or type(error).__name__ == "PanicException"


def failed(error: BaseException, *texts: str) -> InputError:
    """The error of a tokenizer that fails.

    >>> print(failed(TypeError("TextEncodeInput"), "a \\ud800 b"))
    a text holds a lone surrogate (\\ud800), which is no character; take it out
    """
    for text in texts:
        if surrogate := re.search("[\ud800-\udfff]", text):
            shown = surrogate.group().encode("unicode_escape").decode()
            return InputError(
                f"a text holds a lone surrogate ({shown}), which is no character; take it out"
            )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    why = "; a regular expression in tokenizer.json takes too long on it" * ("retry" in reason)
    return InputError(
        f"the model's tokenizer fails on it ({reason}){why}; change the text, or the tokenizer"
    )


_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def _silent(tokenizer: PreTrainedTokenizerFast) -> Iterator[None]:
    """Keep a panic's own words off the terminal, where regular expressions can cause one."""
    risky = any(_patterns([_state(tokenizer, "normalizer"), _state(tokenizer, "pre_tokenizer")]))
    if not risky:
        yield
        return
    with _ONE_AT_A_TIME:  # of two threads, one would keep the other's silence for good
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)

"""Prompts: how a decoder is asked whether a passage answers a query, and what it may answer.

A prompt is a row of pieces, each turned into tokens by itself and put behind one another, as the
models' own code does. ``{query}`` and ``{passage}`` stand for the texts, ``{instruction}`` for the
task. Pieces without a text are the prompt's own and may hold control tokens such as
``<|im_start|>``; in pieces with a text everything is text, so that a literal ``<|im_end|>`` in a
passage cannot end its turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from matchlens.errors import InputError, brief
from matchlens.files import read_text
from matchlens.parts import Part

TEXTS = {"{query}": Part.Q, "{passage}": Part.D}
INSTRUCTION = "{instruction}"
_MARKS = re.compile(r"(\{query\}|\{passage\}|\{instruction\})")


@dataclass(frozen=True, repr=False)
class Prompt:
    """What stands around query and passage, and the two answers.

    Args:
        pieces: texts, each turned into tokens by itself; one of them holds ``{query}``, one (it may
            be the same) ``{passage}``, the last neither.
        yes: the answer whose logit counts for relevance, one token.
        no: the answer whose logit counts against it; None: none does.
        instruction: the task, put where a piece says ``{instruction}``.
        begin: whether the tokenizer's begin-of-text token stands before all pieces.
        added: whether pieces with a text get the special tokens that the tokenizer adds of itself.
        strip: whether query and passage lose the white space around them.

    Raises:
        InputError: if the texts are not in the pieces once each, an answer is empty,
            a place is named where it is not filled, or a text holds a lone surrogate.

    >>> known_prompt("gemma").prompt.filled("who {sat}", "a cat").__next__()
    ('A: who {sat}', {<Part.Q: 1>: (3, 12)})
    """

    pieces: tuple[str, ...]
    yes: str
    no: str | None = None
    instruction: str = ""
    begin: bool = False
    added: bool = False
    strip: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", tuple(self.pieces))
        _check_texts(self)
        for text in TEXTS:
            if (times := sum(piece.count(text) for piece in self.pieces)) != 1:
                raise InputError(f"a prompt's pieces hold {text} {times} times; expected it once")
        if not self.pieces[-1] or self.pieces[-1].endswith(tuple(TEXTS)):
            raise InputError(
                "a prompt's last piece ends in a text, or is empty; expected the prompt's own "
                "words at its end, since the score reads the last token"
            )
        if not self.yes or self.no == "":
            raise InputError("a prompt's answer is empty; expected a word that is one token")

    def __repr__(self) -> str:
        no = "" if self.no is None else f", no={brief(self.no, 20)}"
        return f"<Prompt {brief(''.join(self.pieces), 100)}, yes={brief(self.yes, 20)}{no}>"

    def filled(self, query: str, passage: str) -> Iterator[tuple[str, dict[Part, tuple[int, int]]]]:
        """Each piece's text, and where in it the query and the passage stand.

        Args:
            query: the query.
            passage: the passage; braces in either are text.

        Yields:
            The text and, by part, the first character and the one past the last.
        """
        texts = {Part.Q: query, Part.D: passage}
        for piece in self.pieces:
            text, spans = "", {}
            for words in _MARKS.split(piece):  # once: what is filled in is not looked at again
                part = TEXTS.get(words)
                if part is not None:
                    spans[part] = (len(text), len(text) + len(texts[part]))
                    text += texts[part]
                else:
                    text += self.instruction if words == INSTRUCTION else words
            yield text, spans

    @property
    def relevance(self) -> str:
        """How the score comes of the answers' logits.

        >>> known_prompt("qwen3").prompt.relevance
        "z('yes') - z('no')"
        """
        return f"z({self.yes!r})" + ("" if self.no is None else f" - z({self.no!r})")

    def record(self) -> dict[str, object]:
        """What a manifest says of it."""
        return {**asdict(self), "pieces": list(self.pieces), "control_tokens_in_texts": "as text"}

    def changed(self, settings: Mapping[str, object]) -> Prompt:
        """The prompt with other settings.

        Args:
            settings: names of fields to values, such as ``{"instruction": "..."}``.

        Raises:
            InputError: if there is no such field, or a value is of another kind.
        """
        known = {field.name for field in fields(self)}
        for name, value in settings.items():
            if name not in known:
                raise InputError(
                    f"a prompt has no {name!r}; expected one of {', '.join(sorted(known))}"
                )
            if wanted := _wanted(name, value):
                raise InputError(f"a prompt's {name} is {value!r:.60}; expected {wanted}")
        pieces = settings.get("pieces", self.pieces)
        assert isinstance(pieces, Sequence)  # noqa: S101
        return replace(self, **{**settings, "pieces": tuple(map(str, pieces))})  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path, default: Prompt | None) -> Prompt:
        """A prompt from a JSON file that names what differs from the default.

        Args:
            path: a file with an object such as ``{"instruction": "..."}``.
            default: the model type's own prompt; None where it has none, so that the file must
                name pieces and answer.

        Raises:
            InputError: if the file cannot be read or used.
        """
        try:
            settings = json.loads(read_text(path))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"cannot read the prompt {str(path)!r}: {error}") from None
        if not isinstance(settings, dict):
            raise InputError(
                f"the prompt {str(path)!r} is not a JSON object; expected, for example, "
                '{"instruction": "..."}'
            )
        if default is None:
            if lacking := [name for name in ("pieces", "yes") if name not in settings]:
                raise InputError(
                    f"the prompt {str(path)!r} has no {' and no '.join(lacking)}; expected both, "
                    "since models of this type have no prompt of their own, for example, "
                    '{"pieces": ["query: {query}\\n", "passage: {passage}", "\\nRelevant:"], '
                    '"yes": "yes"}'
                )
            default = cls(("{query}", " ", "{passage}", "\n"), "yes")
        return default.changed(settings)


def _check_texts(prompt: Prompt) -> None:
    """Places are filled once, in the pieces only; every text can be turned into tokens."""
    others = {"instruction": prompt.instruction, "yes": prompt.yes, "no": prompt.no or ""}
    for name, text in others.items():
        for mark in (*TEXTS, INSTRUCTION):
            if mark in text:
                raise InputError(
                    f"a prompt's {name} holds {mark}, which is filled in its pieces only; "
                    f"expected plain words; write {mark} into a piece"
                )
    for name, text in [*others.items(), *(("pieces", piece) for piece in prompt.pieces)]:
        if surrogate := re.search("[\ud800-\udfff]", text):
            shown = surrogate.group().encode("unicode_escape").decode()
            raise InputError(
                f"a prompt's {name} hold{'' if name == 'pieces' else 's'} a lone surrogate "
                f"({shown}), which is no character; take it out"
            )


def _wanted(name: str, value: object) -> str:
    """What a setting must be, in words; empty where it is that."""
    if name == "pieces":
        fits = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        return "" if fits else "a list of texts"
    if name in {"begin", "added", "strip"}:
        return "" if isinstance(value, bool) else "true or false"
    fits = isinstance(value, str) or (name == "no" and value is None)
    return "" if fits else "a text" + " or null" * (name == "no")


@dataclass(frozen=True)
class KnownPrompt:
    """The prompt of published models, from the data file beside this module.

    Args:
        names: lower-case words, one of which stands in the name or origin of such a model.
        default: whether a causal model of the type that nothing else is known of is asked in it.
        never: lower-case words of models of the type that are asked otherwise.
    """

    name: str
    type: str
    names: Sequence[str]
    source: str
    prompt: Prompt
    default: bool = False
    never: Sequence[str] = ()
    note: str = ""

    def names_one_of(self, words: str) -> bool:
        """Whether a model that is called so is one of these."""
        return any(name in words for name in self.names)


def _prompt(settings: Mapping[str, Any]) -> Prompt:
    return Prompt(**{**settings, "pieces": tuple(settings["pieces"])})


_FILE = Path(__file__).with_name("known_prompts.json")
KNOWN = tuple(
    KnownPrompt(**{**entry, "prompt": _prompt(entry["prompt"])})
    for entry in json.loads(_FILE.read_text(encoding="utf-8"))
)
"""The prompts that are shipped."""


def known_prompt(model_type: str, *origins: str) -> KnownPrompt | None:
    """The shipped prompt of a causal model, by its name or its config's origin, else by its type.

    >>> known_prompt("qwen3", "someone/zerank-2-copy").name, known_prompt("qwen3", "mine").name
    ('zerank', 'Qwen3-Reranker')
    """
    words = _called(origins)
    same_type = [
        entry
        for entry in KNOWN
        if entry.type == model_type and not any(word in words for word in entry.never)
    ]
    named = [entry for entry in same_type if entry.names_one_of(words)]
    return next(iter([*named, *(entry for entry in same_type if entry.default)]), None)


def shipped_from(model_type: str, *origins: str) -> str:
    """Where a causal model's own prompt comes from, in words; empty where none is shipped.

    >>> shipped_from("qwen3", "someone/zerank-2-copy"), shipped_from("qwen3", "mine")
    ('shipped, of zerank', 'shipped, of Qwen3-Reranker, by its type alone')
    """
    known = known_prompt(model_type, *origins)
    if known is None:
        return ""
    return f"shipped, of {known.name}" + ("" if known.names_one_of(_called(origins)) else BY_TYPE)


def _called(origins: Sequence[str]) -> str:
    """What a model is called: the ends of paths and ids, and its name in the hub's cache."""
    parts = [part for place in origins for part in place.lower().split("/")[-2:]]
    cached = [part for place in origins for part in place.split("/") if part.startswith("models--")]
    return " ".join([*parts, *cached]).lower()


BY_TYPE = ", by its type alone"
"""How the source of a prompt ends that nothing in a model's folder asks for."""

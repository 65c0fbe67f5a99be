"""What can be said of every supported model type, and of published models by their names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from matchlens.models.folder import FAMILIES, class_of_family
from matchlens.prompts import BY_TYPE

TYPES = ("none", "one, the same for all tokens", "two, the passage has type 1")
"""A family's ``token_types`` in words."""


@dataclass(frozen=True)
class About:
    """A model type in words."""

    type: str
    library: str
    template: str
    reads: str
    relevance: str
    token_types: str
    attention: str


def about(model_type: str) -> About:
    """What a supported type's family says of itself.

    >>> about("roberta").template
    '<s> query </s></s> passage </s>'
    """
    family = class_of_family(model_type)
    asks = getattr(family.library, "_supports_attention_backend", False)
    attention = (
        "ours, called by the library's layers through its attention interface"
        if asks
        else "ours, called between the library's modules, which know no such interface"
    )
    words = (family.template, family.reads, family.relevance, TYPES[family.token_types], attention)
    return About(model_type, family.library.__name__, *words)


def supported() -> list[About]:
    """Every supported type."""
    return [about(name) for name in FAMILIES]


@dataclass(frozen=True)
class KnownModel:
    """A published reranker, from the data file that the command, the docs and the tests share.

    Args:
        how: how its score is read.
        prompt: where the shipped prompt comes from, for one that is asked in words.
        refused: why it is refused, with a supported one in ``nearest``; empty for a supported one.
        prefixes: what its makers put before each query and each passage; empty for nothing.
    """

    name: str
    type: str
    how: str = ""
    note: str = ""
    prompt: str = ""
    refused: str = ""
    nearest: str = ""
    prefixes: Sequence[str] = ()

    @property
    def real(self) -> bool:
        """Whether weights of it were run here."""
        return "run on real weights" in self.note

    @property
    def cells(self) -> tuple[str, ...]:
        """The model in a table: name, type, whether and how, the prompt's source, weights, note."""
        if self.refused:
            return self.name, self.type, f"refused: {self.refused}", "-", "-", f"use {self.nearest}"
        real = "real weights (demo)" if self.real else "never real weights"
        return self.name, self.type, self.how, self.prompt or "-", real, self.note or "-"


CHECKED = (
    "Each supported type is exact against transformers (5.17 and newer) on tiny models that the "
    "tests build from a config and a tokenizer in code: scores to 1e-5 in float32, every way of "
    "cutting against a slow reference; modules against CrossEncoder.predict of "
    "sentence-transformers; adapters against what peft merges."
)
"""How the list was checked."""


@cache  # every load asks
def known_models() -> tuple[KnownModel, ...]:
    """The published rerankers that are known by name.

    >>> len(known_models()) >= 30, known_models()[0].real
    (True, True)
    """
    text = (Path(__file__).parents[1] / "known_models.json").read_text(encoding="utf-8")
    return tuple(KnownModel(**entry) for entry in json.loads(text))


def prefixed(model_type: str, name: str) -> KnownModel | None:
    """The known model whose makers put words before the texts, where a model is called like it.

    >>> prefixed("llama", "someone/rankllama-13b").prefixes, prefixed("llama", "someone/mine")
    (['query: ', 'document: '], None)
    """
    for model in known_models():
        word = model.name.rpartition("/")[2].partition("-")[0].lower()
        if model.prefixes and model.type == model_type and word in name.lower():
            return model
    return None


def known_as_text() -> Iterator[str]:
    """The list for a terminal."""
    for model in known_models():
        name, kind, how, prompt, real, note = model.cells
        yield f"{name} ({kind})"
        yield f"  {how}" + ("" if model.refused else f"; {real}")
        yield from (f"  {line}" for line in (f"prompt {prompt}", note) if not line.endswith("-"))


def unsure_texts(model_type: str, name: str, source: str, *, prompted: bool) -> Iterator[str]:
    """Warn where nothing in the folder says which text belongs around query and passage.

    Args:
        model_type: the type in the config.
        name: the model's name.
        source: where its prompt comes from; empty where it has none.
        prompted: whether it is asked in a prompt.
    """
    if source.endswith(BY_TYPE):
        known = source.removesuffix(BY_TYPE).removeprefix("shipped, of ")
        yield (
            f"its files name no prompt; matchlens takes the prompt of {known}: if the model was "
            "trained with another one, give that (--prompt)"
        )
    model = prefixed(model_type, name)
    if not prompted and model is not None:
        query, passage = model.prefixes
        yield (
            f"its authors put {query!r} before each query and {passage!r} before each passage, "
            f"the title first: give --query-prefix {query!r} and --passage-prefix {passage!r}"
        )

"""Whole words: which tokens belong to one, their stems, stop words, and what words are near."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matchlens.batching import Spans, own_tokens
from matchlens.corpora.pair import Pair
from matchlens.errors import InputError
from matchlens.models.load import Reranker
from matchlens.parts import Part

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(
    rf"[{_IDEOGRAPH}]|(?:(?![{_IDEOGRAPH}])[^\W_])"
    rf"(?:(?![{_IDEOGRAPH}])[^\W_]|[\u0300-\u036f]|['\u2019](?=[^\W_]))*"
)
"""A word: letters and digits, with apostrophes inside; an ideograph is a word of its own."""
LONGEST = 64
"""Characters beyond which a word keeps its form: the stemmer's time grows with them."""
NEAR, DRAWS = 0.01, 100_000
"""Share of random word pairs that count as near, and how many pairs are drawn to find it."""
MARKED = 0.02
"""Share of a vocabulary that begins with a mark where that marks the beginning of words."""
_STOP = """
a about above after again against all am an and any are aren't as at be because been before being
below between both but by can't cannot could couldn't did didn't do does doesn't doing don't down
during each few for from further had hadn't has hasn't have haven't having he he'd he'll he's her
here here's hers herself him himself his how how's i i'd i'll i'm i've if in into is isn't it it's
its itself let's me more most mustn't my myself no nor not of off on once only or other ought our
ours ourselves out over own same shan't she she'd she'll she's should shouldn't so some such than
that that's the their theirs them themselves then there there's these they they'd they'll they're
they've this those through to too under until up very was wasn't we we'd we'll we're we've were
weren't what what's when when's where where's which while who who's whom why why's will with won't
would wouldn't you you'd you'll you're you've your yours yourself yourselves
"""
STOP = frozenset(_STOP.split())
"""Snowball's list of English stop words, with "will"."""


@dataclass(frozen=True)
class Words:
    """For each token of a pair the number of its word (-1: none), of its stem (0: none), and
    whether the word is no stop word; stems have the same numbers in query and passage.
    """

    word: Int[np.ndarray, " place"]
    stem: Int[np.ndarray, " place"]
    content: Bool[np.ndarray, " place"]


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The stem of an English word, by Snowball's English stemmer (Porter 2), in lower case.

    >>> stem("Cities"), stem("city"), stem("running")
    ('citi', 'citi', 'run')
    """
    import snowballstemmer

    plain = word.casefold().replace("\u2019", "'")
    if len(plain) > LONGEST:
        return plain
    return snowballstemmer.stemmer("english").stemWord(plain)


def words_of(model: Reranker, pair: Pair) -> Words:
    """The words of a pair as the model encodes it, whatever its tokenizer makes of them.

    Words are looked for in the texts; a token belongs to the first word of which it holds a
    character, so that WordPiece, byte-level BPE and SentencePiece agree.

    >>> import matchlens
    >>> found = words_of(matchlens.load("demo"), Pair("q", "d", "the tokenizers", "tokenizer!", 0))
    >>> found.word.tolist(), found.content.tolist()[:4]
    ([-1, 0, 1, 1, 1, -1, 2, 2, -1, -1], [False, False, True, True])
    """
    return split(model.spans(pair), pair)


def split(spans: Spans, pair: Pair) -> Words:
    """The words of a pair whose tokens' places in the texts are known."""
    count = len(spans.parts)
    word = np.full(count, -1, dtype=np.int64)
    stems = np.zeros(count, dtype=np.int64)
    content = np.zeros(count, dtype=bool)
    numbers: dict[str, int] = {}
    first = 0
    for part, text in ((Part.Q, pair.query), (Part.D, pair.text)):
        places = np.flatnonzero(spans.parts == part)
        if not len(places):
            continue
        matches = list(WORD.finditer(text, 0, int(spans.ends[places].max()) + LONGEST))
        if not matches:
            continue
        starts = np.array([match.start() for match in matches])
        ends = np.array([match.end() for match in matches])
        at = np.searchsorted(ends, spans.starts[places], side="right")
        # Of a token over several words (SentencePiece joins a space to the next) the first counts.
        inside = at < len(matches)
        at = np.minimum(at, len(matches) - 1)
        inside &= starts[at] < spans.ends[places]
        names = [stem(match.group()) for match in matches]
        ids = np.array([numbers.setdefault(name, len(numbers) + 1) for name in names])
        carries = np.array(
            [match.group().casefold().replace("\u2019", "'") not in STOP for match in matches]
        )
        of_words = places[inside]
        word[of_words], stems[of_words] = first + at[inside], ids[at[inside]]
        content[of_words] = carries[at[inside]]
        first += len(matches)
    return Words(word, stems, content)


@dataclass(frozen=True)
class Stretch:
    """Tokens ``start`` to ``stop`` that are shown as one: a word, a punctuation mark, a special.

    Its text begins at ``character`` of the query or the passage; -1 where it is in neither.
    """

    part: int
    text: str
    start: int
    stop: int
    own: str = ""
    character: int = -1


def stretches(model: Reranker, pair: Pair) -> list[Stretch]:
    """The whole words of a pair in reading order, with what stands between them; every token once.

    Tokens outside query and passage are one stretch a part, and so are tokens that share a
    character, such as the bytes of an emoji. A word is split where an own part ends in it.

    >>> import matchlens
    >>> pair = Pair("q", "d", "the tokenizers", "a tokenizer!", 0)
    >>> found = stretches(matchlens.load("demo"), pair)
    >>> [one.text for one in found]
    ['[CLS]', 'the', 'tokenizers', '[SEP]', 'a', 'tokenizer', '!', '[SEP]']
    """
    spans = model.spans(pair)
    word = split(spans, pair).word
    own = np.full(len(word), "", dtype=object)
    for name, places in own_tokens(pair, spans.parts, spans.starts, spans.ends).items():
        own[places] = name
    texts = {Part.Q: pair.query, Part.D: pair.text}
    starts = [0]
    for at in range(1, len(word)):
        if spans.parts[at] == spans.parts[at - 1] and own[at] == own[at - 1]:
            if spans.parts[at] not in texts or word[at] == word[at - 1] >= 0:
                continue
            if word[at] == word[at - 1] and spans.starts[at] < spans.ends[at - 1]:
                continue
        starts.append(at)
    out = []
    for start, stop in zip(starts, [*starts[1:], len(word)], strict=True):
        part, character = Part(int(spans.parts[start])), -1
        if part in texts:
            given = texts[part][spans.starts[start] : spans.ends[stop - 1]]
            text = given.strip()
            if text:
                character = int(spans.starts[start]) + len(given) - len(given.lstrip())
        else:
            text = model.tokenizer.convert_tokens_to_string(spans.tokens[start:stop]).strip()
        text = text or spans.tokens[start]
        out.append(Stretch(int(part), text, start, stop, own[start], character))
    return out


@dataclass(frozen=True, eq=False)
class Static:
    """The word embeddings without context, and when two words count as near.

    They are centred on the mean of the vocabulary's words: a word of several tokens is the mean of
    theirs, and would be near every word by what all embeddings share. ``near`` is the cosine that
    the top 1% of random word pairs reach.
    """

    table: Float[Tensor, "id d"]
    centre: Float[Tensor, " d"]
    near: float

    @classmethod
    def of(cls, model: Reranker, seed: int = 0) -> Static:
        """Those of a model."""
        table = model.family.module.get_input_embeddings().weight.detach()
        ids = _whole(_trained(model, len(table)))
        if len(ids) < 2:
            raise InputError(
                f"the vocabulary of model {model.name!r} has fewer than two words, so that no "
                "words are near each other; leave out the meter same_stem"
            )
        vectors = table[torch.tensor(ids, device=table.device)].float()
        centre = vectors.mean(0)
        unit = torch.nn.functional.normalize(vectors - centre, dim=-1)
        draw = np.random.default_rng([7, int(seed < 0), abs(seed)])
        first = draw.integers(len(ids), size=DRAWS)
        second = (first + draw.integers(1, len(ids), size=DRAWS)) % len(ids)
        cosines = []
        for start in range(0, DRAWS, 8192):
            some = slice(start, start + 8192)
            drawn = (torch.from_numpy(side[some]).to(unit.device) for side in (first, second))
            left, right = (unit[side] for side in drawn)
            cosines.append((left * right).sum(-1).cpu().numpy())
        near = float(np.quantile(np.concatenate(cosines), 1 - NEAR))
        # In a small vocabulary the threshold is a pair's own cosine, which must count as near.
        return cls(table, centre, near - 1e-6)

    def of_words(
        self, ids: Int[Tensor, "pair token"], word: Int[Tensor, "pair token"]
    ) -> Float[Tensor, "pair token d"]:
        """For each token the vector of its whole word, of length 1; 0 where there is no word."""
        pairs, places = ids.shape
        vectors = self.table[ids].float() - self.centre
        width = int(word.max()) + 2
        row = torch.arange(pairs, device=ids.device)[:, None] * width
        cell = (row + word + 1).flatten()
        sums = vectors.new_zeros((pairs * width, vectors.shape[-1]))
        sums.index_add_(0, cell, vectors.flatten(0, 1))
        unit = torch.nn.functional.normalize(sums, dim=-1)[cell].view(pairs, places, -1)
        return unit * (word >= 0)[..., None]


def _trained(model: Reranker, embedded: int) -> dict[int, str]:
    """The vocabulary without special and unused tokens, and without those that have no embedding:
    added tokens may have numbers beyond the ``embedded`` ones.
    """
    special = set(model.tokenizer.all_special_ids)
    return {
        number: token
        for token, number in sorted(model.tokenizer.get_vocab().items(), key=lambda each: each[1])
        if number not in special and number < embedded and not UNUSED.fullmatch(token)
    }


def _whole(vocabulary: Mapping[int, str]) -> list[int]:
    """The tokens that are whole words, by how the vocabulary marks where words begin.

    A few tokens of a WordPiece vocabulary may begin with another vocabulary's mark: it is a letter.
    """
    count = {mark: sum(t.startswith(mark) for t in vocabulary.values()) for mark in "\u2581\u0120"}
    most = max(count, key=lambda mark: count[mark])
    begins = most if count[most] > MARKED * len(vocabulary) else ""
    whole_words = []
    for number, token in sorted(vocabulary.items()):
        text = token.removesuffix("</w>").removeprefix(begins)
        if token.startswith(begins) and len(text) > 1 and WORD.fullmatch(text):
            whole_words.append(number)
    return whole_words


UNUSED = re.compile(r"[\[<]unused_?\d+[\]>]")
"""Places that a vocabulary keeps free; their vectors were never trained."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens that stand for words, with their static vectors as tokens of query and passage.

    The two differ where there are token types; ``left_out`` counts the tokens that are special,
    unused or without an embedding.
    """

    tokens: tuple[str, ...]
    ids: Int[Tensor, " token"]
    query: Float[Tensor, "token d"]
    document: Float[Tensor, "token d"]
    left_out: int


def vocabulary(model: Reranker) -> Vocabulary:
    """The static vectors of a model's vocabulary: what layer 0 would read without the positions.

    Word embedding + mean position embedding + token type embedding (the query's or the passage's,
    where the family has types), through the embeddings' normalisation, and widened where the
    family widens. In layers above 0 they stand in for inputs that the context has changed.

    >>> import matchlens
    >>> found = vocabulary(matchlens.load("demo"))
    >>> found.query.shape, found.left_out, found.tokens.index("in")
    (torch.Size([29523, 384]), 999, 1000)
    """
    kept = _trained(model, len(model.family.module.get_input_embeddings().weight))
    ids = torch.tensor(list(kept), dtype=torch.long)
    types = model.family.token_types
    return Vocabulary(
        tokens=tuple(kept.values()),
        ids=ids,
        query=_vectors(model, ids, 0),
        document=_vectors(model, ids, 1 if types > 1 else 0),
        left_out=len(model.tokenizer.get_vocab()) - len(kept),
    )


@torch.inference_mode()
def _vectors(model: Reranker, ids: Tensor, kind: int) -> Tensor:
    family: Any = model.family
    embeddings = family.module.base_model.embeddings
    positions = embeddings.position_embeddings
    vectors = embeddings.word_embeddings.weight[ids.to(model.device)]
    if positions is not None:  # DeBERTa may have distances only
        first = 0 if positions.padding_idx is None else positions.padding_idx + 1
        vectors = vectors + positions.weight[first:].mean(0)
    if model.family.token_types:
        vectors = vectors + embeddings.token_type_embeddings.weight[kind]
    project = getattr(embeddings, "embed_proj", None)  # DeBERTa's, before it normalises
    vectors = embeddings.LayerNorm(vectors if project is None else project(vectors))
    return family.widen(vectors).float().cpu()

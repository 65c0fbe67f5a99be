"""What the check asks of tokens: they are those of the folder's own library, called as it calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from matchlens.corpora.pairs import Pair
from matchlens.models.checks.item import Item
from matchlens.models.checks.passes import PAIRS
from matchlens.models.templates import messages, template_suffix
from matchlens.parts import Part
from matchlens.tokenizing import guarded

_DECIDES = {
    *("add_special_tokens", "max_length", "return_token_type_ids", "split_special_tokens"),
    "truncation",
}
"""Arguments of the tokenizer's call that decide on more than padding."""

NO_LIMIT = 10**9
LONGEST = 4096
"""Most tokens of the over-long pair; a longer limit is held to at this one."""

Tokens = tuple[list[int], list[int]]
"""Token ids and token types of a pair."""


def tokens(reranker: Any) -> Iterator[Item]:
    """Ids, token types, length and cut of built-in pairs are the folder's own library's.

    A prompt that a person chose is not held to the folder, and transformers has no way of its own
    to put a pair into a prompt.
    """
    stated, source = reranker.serving.stated(reranker.tokenizer, reranker.name)
    limits = {**reranker.limits, **({} if stated is None else {source: stated})}
    smallest = min(limits, key=lambda name: limits[name])
    text = f"a pair may have {reranker.max_length} tokens; {smallest} says {limits[smallest]}"
    yield Item("limit", reranker.max_length, exactly=limits[smallest], said=text)
    if reranker.family.token_types > 1 and reranker.prompt is None:
        encoded = reranker.encode(PAIRS[:1])
        yield Item("marked", int(encoded.types[0][encoded.parts[0] == Part.D].min()))
    library = reranker.serving.library
    *short, long = pairs(reranker)
    if reranker.chosen or (reranker.prompt is not None and library == "transformers"):
        ours = _ours(replace(reranker, max_length=NO_LIMIT), short)
        apart = [n for n, pair in enumerate(short) if ours[n][0] != _piecewise(reranker, pair)]
        said = f"{len(apart)} of {len(short)} texts are not encoded in the prompt, piece by piece"
        yield Item("prompt", len(apart), exactly=0, said=said)
        return
    ours = _ours(replace(reranker, max_length=NO_LIMIT), short)
    own = [_own(reranker, pair, None) for pair in short]
    for place, (name, what) in enumerate({"tokens": "token ids", "types": "token types"}.items()):
        apart = [n for n in range(len(short)) if ours[n][place] != own[n][place]]
        text = ""
        if apart:
            lengths = f"{len(own[apart[0]][0])} and {len(ours[apart[0]][0])} tokens"
            text = (
                f"{library} gives {what} for {len(apart)} of {len(short)} texts that are not ours "
                f"({lengths}){_way_out(reranker)}"
            )
        yield Item(name, len(apart), exactly=0, said=text)
    at = min(reranker.max_length, LONGEST)
    encoded = replace(reranker, max_length=at).encode([long])
    queries, passages = ((encoded.parts[0] == part).sum() for part in (Part.Q, Part.D))
    if passages < queries:  # transformers cuts the longer text, which would be the query
        return
    cut, kept = (encoded.ids[0].tolist(), encoded.types[0].tolist()), _own(reranker, long, at)
    apart = sum(a != b for a, b in zip(cut[0], kept[0], strict=False))
    apart += abs(len(cut[0]) - len(kept[0]))
    text = (
        f"{library} cuts an over-long passage to {len(kept[0])} tokens of which {apart} are not "
        f"ours (max_length, truncation, truncation_side){_way_out(reranker)}"
    )
    yield Item("cut", apart, exactly=0, said=text)


def pairs(reranker: Any) -> list[Pair]:
    """The check's pairs; texts with the tokenizer's own words, capitals, accents and spaces; last
    a pair whose passage is longer than the limit.
    """
    tokenizer, known = reranker.tokenizer, reranker.family.module.config.vocab_size
    words = dict.fromkeys(tokenizer.all_special_tokens)
    special = " ".join(one for one in words if tokenizer.convert_tokens_to_ids(one) < known)
    if reranker.prompt is not None:  # there they are text
        special = ""
    texts = [f"A tea {special} is cold.", "  La TH\u00c9I\u00c8RE,\tit\u2019s  2 \u00bd cups. "]
    odd = [
        Pair("check", name, " What's hot? ", text, 0)
        for name, text in zip("cd", texts, strict=True)
    ]
    words = [f"tea {number} ship" for number in range(min(reranker.max_length, LONGEST))]
    return [*PAIRS, *odd, Pair("check", "long", "a", " ".join(words), 0)]


def _way_out(reranker: Any) -> str:
    """What to do where a decoder is served in another way than ours."""
    if reranker.serving.chat:
        files = ", ".join(reranker.serving.files) or "the object"
        return f": it writes pairs by the chat template ({files}); give that as a prompt (--prompt)"
    if reranker.prompt is not None:
        files = ", ".join(reranker.serving.files) or "the object"
        return f": it pairs texts without a prompt ({files}); give the model's prompt (--prompt)"
    return ""


def _ours(reranker: Any, some: Sequence[Pair]) -> list[Tokens]:
    encoded = reranker.encode(some)
    both = zip(encoded.ids, encoded.types, strict=True)
    return [(ids.tolist(), types.tolist()) for ids, types in both]


def _piecewise(reranker: Any, pair: Pair) -> list[int]:
    """The tokens of a pair in its prompt: each piece by a call of its own, put together."""
    tokenizer, prompt = reranker.tokenizer, reranker.prompt
    texts = {"{query}": pair.query, "{passage}": pair.text, "{instruction}": prompt.instruction}
    begins = prompt.begin and tokenizer.bos_token_id not in (None, tokenizer.pad_token_id)
    ids: list[int] = [int(str(tokenizer.bos_token_id))] if begins else []
    if reranker.family.start is not None:
        ids = [reranker.family.start, *ids]
    for piece in prompt.pieces:
        holds_text = "{query}" in piece or "{passage}" in piece
        as_text = {"split_special_tokens": True} if holds_text else {}
        filled = piece
        for place, text in texts.items():
            own = text.strip() if prompt.strip and place != "{instruction}" else text
            filled = filled.replace(place, own)
        added = prompt.added and holds_text
        ids += tokenizer(filled, add_special_tokens=added, **as_text)["input_ids"]
    return ids


def _own(reranker: Any, pair: Pair, most: int | None) -> Tokens:
    """Call the tokenizer as the folder's own library does; its own limit cuts where it can."""
    tokenizer, serving = reranker.tokenizer, reranker.serving
    settings: dict[str, Any] = {"truncation": True, **serving.call}
    settings = {key: value for key, value in settings.items() if key in _DECIDES}
    stated, _ = serving.stated(tokenizer, reranker.name)
    if most is None:
        settings |= {"truncation": False, "max_length": None, "verbose": False}
    elif stated is None or most < stated:
        settings["max_length"] = most

    def call(_: slice) -> Any:
        if not serving.chat:
            return tokenizer(serving.prompt + pair.query, pair.text, **settings)
        return tokenizer.apply_chat_template(
            messages(serving, pair.query, pair.text),
            tokenize=True,
            return_dict=True,
            **settings,
            **serving.template,
        )

    encoding = guarded(tokenizer, call, [pair])
    ids = list(encoding["input_ids"])
    limit = settings.get("max_length") or stated
    if serving.chat and most is not None and limit is not None and len(ids) >= limit:
        suffix = template_suffix(tokenizer, serving)  # the library puts it back over the cut end
        ids = ids[: len(ids) - len(suffix)] + suffix[-len(ids) :]
    return ids, list(encoding.get("token_type_ids", [0] * len(ids)))

"""What the check asks of tokens: they are those of the folder's own library, called as it calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from matchlens.corpora.pair import Pair
from matchlens.errors import InputError
from matchlens.models.checks.item import Item
from matchlens.models.checks.passes import PAIRS
from matchlens.models.config import refusing
from matchlens.models.folder import smallest
from matchlens.models.prompted import answer, messages, shown_answers, template_suffix
from matchlens.parts import Part
from matchlens.prompts import Prompt
from matchlens.tokenizing import guarded

_DECIDES = ("add_special_tokens", "max_length", "return_token_type_ids", "split_special_tokens")
_DECIDES += ("truncation",)
"""Arguments of the tokenizer's call that decide on more than padding."""

NO_LIMIT = 10**9
LONGEST = 4096
"""Most tokens of the over-long pair; a longer limit is held to at this one."""

Tokens = tuple[list[int], list[int]]
"""Token ids and token types of a pair."""


def tokens(reranker: Any) -> Iterator[Item]:
    """Ids, token types, length and cut of built-in pairs are the folder's own library's."""
    stated, source = reranker.serving.stated(reranker.tokenizer, reranker.name)
    limits = {**reranker.limits, **({} if stated is None else {source: stated})}
    smallest = min(limits, key=lambda name: limits[name])
    text = f"a pair may have {reranker.max_length} tokens; {smallest} says {limits[smallest]}"
    yield Item("limit", reranker.max_length, exactly=limits[smallest], problem=text)
    if reranker.family.token_types > 1 and reranker.prompt is None:
        encoded = reranker.encode(PAIRS[:1])
        yield Item("marked", int(encoded.types[0][encoded.parts[0] == Part.D].min()))
    library = reranker.serving.library
    *short, long = pairs(reranker)
    # A person's own prompt need not be the folder's, and transformers puts no pair into a prompt.
    if reranker.chosen or (reranker.prompt is not None and library == "transformers"):
        ours = _ours(replace(reranker, max_length=NO_LIMIT), short)
        whole = [_read(reranker, _piecewise(reranker, pair)) for pair in short]
        apart = [n for n in range(len(short)) if ours[n][0] != whole[n]]
        text = f"{len(apart)} of {len(short)} texts are not encoded in the prompt, piece by piece"
        yield Item("prompt", len(apart), exactly=0, problem=text)
        return
    ours = _ours(replace(reranker, max_length=NO_LIMIT), short)
    own = [_own_read(reranker, pair, None) for pair in short]
    for place, (name, what) in enumerate({"tokens": "token ids", "types": "token types"}.items()):
        apart = [n for n in range(len(short)) if ours[n][place] != own[n][place]]
        text = ""
        if apart:
            lengths = f"{len(own[apart[0]][0])} and {len(ours[apart[0]][0])} tokens"
            text = (
                f"{library} gives {what} for {len(apart)} of {len(short)} texts that are not ours "
                f"({lengths}){_way_out(reranker)}"
            )
        yield Item(name, len(apart), exactly=0, problem=text)
    at = min(reranker.max_length, LONGEST)
    encoded = replace(reranker, max_length=at).encode([long])
    queries, passages = ((encoded.parts[0] == part).sum() for part in (Part.Q, Part.D))
    if passages < queries:  # transformers cuts the longer text, which would be the query
        return
    cut, kept = (encoded.ids[0].tolist(), encoded.types[0].tolist()), _own_read(reranker, long, at)
    apart = sum(a != b for a, b in zip(cut[0], kept[0], strict=False))
    apart += abs(len(cut[0]) - len(kept[0]))
    text = (
        f"{library} cuts an over-long passage to {len(kept[0])} tokens of which {apart} are not "
        f"ours (max_length, truncation, truncation_side){_way_out(reranker)}"
    )
    yield Item("cut", apart, exactly=0, problem=text)


def pairs(reranker: Any) -> list[Pair]:
    """The check's pairs; texts with the tokenizer's own words, capitals, accents and spaces; last
    a pair whose passage is longer than the limit.
    """
    tokenizer, known = reranker.tokenizer, reranker.family.module.config.vocab_size
    words = dict.fromkeys(tokenizer.all_special_tokens)
    special = " ".join(word for word in words if tokenizer.convert_tokens_to_ids(word) < known)
    if reranker.prompt is not None:  # there they are text
        special = ""
    texts = {
        "c": f"A tea {special} is cold.",
        "d": "  La TH\u00c9I\u00c8RE,\tit\u2019s  2 \u00bd cups. ",
    }
    odd = [Pair("check", name, " What's hot? ", text, 0) for name, text in texts.items()]
    words = [f"tea {number} ship" for number in range(min(reranker.max_length, LONGEST))]
    return [*PAIRS, *odd, Pair("check", "long", "a", " ".join(words), 0)]


def _way_out(reranker: Any) -> str:
    """What to do where a decoder is served in another way than ours."""
    files = ", ".join(reranker.serving.files) or "the object"
    if reranker.serving.chat:
        return f": it writes pairs by the chat template ({files}); give that as a prompt (--prompt)"
    if reranker.prompt is not None:
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


def _read(reranker: Any, ids: list[int]) -> list[int]:
    """The tokens up to the one that the library's classifier takes for the last."""
    pairing, end = reranker.pairing, len(ids)
    while pairing.causal and end > 1 and ids[end - 1] == pairing.pad:
        end -= 1
    return ids[:end]


def _own_read(reranker: Any, pair: Pair, length: int | None) -> Tokens:
    """What the folder's own library feeds, up to the token that it reads."""
    ids, types = _own(reranker, pair, length)
    ids = _read(reranker, ids)
    return ids, types[: len(ids)]


def _own(reranker: Any, pair: Pair, length: int | None) -> Tokens:
    """Call the tokenizer as the folder's own library does; its own limit cuts where it can."""
    tokenizer, serving = reranker.tokenizer, reranker.serving
    settings: dict[str, Any] = {"truncation": True, **serving.call}
    settings = {key: value for key, value in settings.items() if key in _DECIDES}
    stated, _ = serving.stated(tokenizer, reranker.name)
    if length is None:
        settings |= {"truncation": False, "max_length": None, "verbose": False}
    elif stated is None or length < stated:
        settings["max_length"] = length

    def call(_: slice) -> Any:
        if not serving.chat:
            return tokenizer(serving.prompt + pair.query, pair.text, **settings)
        quietly = {"verbose": settings.pop("verbose", True)}
        return tokenizer.apply_chat_template(
            messages(tokenizer, serving, pair.query, pair.text),
            tokenize=True,
            return_dict=True,
            tokenizer_kwargs=quietly,
            **settings,
            **serving.template,
        )

    if serving.chat:
        does = "its chat template writes no pair (correct it, or give the prompt with --prompt)"
        with refusing(reranker.name, does):
            encoding = call(slice(None))
    else:
        encoding = guarded(tokenizer, call, [pair])
    ids = list(encoding["input_ids"])
    limit = settings.get("max_length") or stated
    if serving.chat and length is not None and limit is not None and len(ids) >= limit:
        suffix = template_suffix(tokenizer, serving)  # the library puts it back over the cut end
        ids = ids[: len(ids) - len(suffix)] + suffix[-len(ids) :]
    return ids, list(encoding.get("token_type_ids", [0] * len(ids)))


def check_tokenizer(reranker: Any) -> None:
    """The tokenizer must make a query, a passage and what the score reads, in known types."""
    family = reranker.family
    _check_vocabulary(reranker)
    if reranker.prompt is not None:
        _check_prompt(reranker, reranker.prompt)
    try:
        encoded = reranker.encode([Pair("check", "check", "a", "a b", 0), *pairs(reranker)])
    except InputError as error:
        raise InputError(
            f"model {reranker.name!r}: its tokenizer, a {type(reranker.tokenizer).__name__}, "
            f"cannot be used for pairs of {reranker.max_length} tokens "
            f"({smallest(reranker.limits)[1]}): {error}"
        ) from None
    parts = encoded.parts[0]
    if Part.CLS not in parts and family.score_parts == (Part.CLS,):
        shown = " ".join(str(Part(int(part))) for part in parts)
        raise InputError(
            f"model {reranker.name!r}: its tokenizer encodes a pair as {shown}, and the score is "
            f"read off a token before the query; expected, for example, {family.template}; save "
            "the tokenizer that the model was trained with"
        )
    unused = reranker.serving.files and not reranker.serving.used
    if unused and not reranker.chosen and getattr(reranker.tokenizer, "chat_template", None):
        raise InputError(
            f"model {reranker.name!r}: its tokenizer has a chat_template, by which "
            "sentence-transformers would write a pair and transformers would not, and "
            f"{', '.join(reranker.serving.files)} does not say which; take chat_template or that "
            "file out, or give a decoder's prompt (--prompt)"
        )
    template = str(reranker.serving.template.get("chat_template", reranker.tokenizer.chat_template))
    if reranker.serving.chat and not reranker.chosen and "strftime_now" in template:
        reranker.said += (
            "its chat template writes the day's date (strftime_now), so that scores may differ "
            "from day to day: give the prompt with a fixed date to keep them (--prompt)",
        )
    plain = reranker.prompt is None and reranker.pairing.last and not reranker.serving.chat
    if plain and getattr(reranker.tokenizer, "chat_template", None):
        reranker.said += (
            f"its tokenizer has a chat template, which {reranker.serving.library} does not use "
            "here: query and passage are paired without a prompt; if it was trained in one, give "
            "that (--prompt)",
        )
    _say_padding(reranker)
    if reranker.tokenizer.padding_side == "left" and not reranker.reads_last:
        reranker.said += (
            "its tokenizer pads on the left, so that in the library's batches positions move; "
            "scores here are those of each pair alone",
        )
    if not family.token_types or reranker.prompt is not None:
        return
    segments = family.module.config.type_vocab_size
    if encoded.types[0].max() >= segments > 0:
        raise InputError(
            f"model {reranker.name!r}: its tokenizer marks two segments, its weights know "
            f"{segments}; expected the tokenizer that the model was trained with"
        )
    types = encoded.types[0][parts == Part.D]
    if family.token_types > 1 and segments > 1 and not (types == 1).all():
        reranker.said += (
            "its tokenizer does not mark the passage: all tokens have token type 0, as the "
            f"library that serves it ({reranker.serving.library}) has it; if it was trained with "
            "two types, add token_type_ids to model_input_names in tokenizer_config.json",
        )


def _say_padding(reranker: Any) -> None:
    """Say where pairs end in the token of padding, which the library does not read there."""
    pad = reranker.pairing.pad if reranker.pairing.causal else None
    if pad is None:
        return
    plain = reranker.prompt is None
    ids = _own(reranker, PAIRS[0], None)[0] if plain else _piecewise(reranker, PAIRS[0])
    if ids[-1] == pad:
        token = reranker.tokenizer.convert_ids_to_tokens(pad)
        reranker.said += (
            f"pairs end in {token!r:.40}, its token of padding (pad_token_id in config.json): the "
            "library reads the token before it, and so does matchlens",
        )


def _check_vocabulary(reranker: Any) -> None:
    """The weights must know every token of the tokenizer but those that were added to it."""
    tokenizer, known = reranker.tokenizer, reranker.family.module.config.vocab_size
    unknown = {word: n for word, n in tokenizer.get_vocab().items() if n >= known}
    if not unknown:
        return
    shown = ", ".join(f"{word!r:.30}" for word in sorted(unknown)[:3])
    if not unknown.keys() <= tokenizer.get_added_vocab().keys():
        raise InputError(
            f"model {reranker.name!r}: its tokenizer, a {type(tokenizer).__name__}, has token ids "
            f"up to {max(unknown.values())}, its weights know {known} tokens; expected the "
            "tokenizer that the model was trained with, tokenizer_config.json included"
        )
    reranker.said += (
        f"its tokenizer has {len(unknown)} added tokens that its weights do not know ({shown}): a "
        "text that makes one is refused",
    )


def _check_prompt(reranker: Any, prompt: Prompt) -> None:
    """The tokenizer must make one token of each answer, the ones that the folder names."""
    family: Any = reranker.family
    if reranker.tokenizer.truncation_side == "left":
        raise InputError(
            f"model {reranker.name!r}: truncation_side of its tokenizer is 'left', which would cut "
            "a prompt's own words; expected 'right'; correct it in tokenizer_config.json"
        )
    if family.classifies or reranker.serving.head is not None:  # no answer is read
        return
    ids, known = reranker.serving.answers, family.module.config.vocab_size
    if ids is not None and max(ids[0], ids[1] or 0) >= known:
        raise InputError(
            f"model {reranker.name!r}: its LogitScore reads the tokens {ids[0]} and {ids[1]}, "
            f"its weights know {known} tokens; expected the ids of its answers' tokens: correct "
            "true_token_id and false_token_id in the LogitScore's config.json"
        )
    words, shown = (prompt.yes, prompt.no), shown_answers(reranker.tokenizer, ids)
    if ids is None:
        family.yes, family.no = (
            None if word is None else answer(reranker.tokenizer, word, reranker.name)
            for word in words
        )
        return
    # A word need not become its token: a SentencePiece tokenizer puts "\u2581" before it.
    family.yes, family.no = ids
    made = [
        [] if word is None else reranker.tokenizer(word, add_special_tokens=False)["input_ids"]
        for word in words
    ]
    if words != shown and made != [[] if one is None else [one] for one in ids]:
        answers = json.dumps(dict(zip(("yes", "no"), shown, strict=True)))
        raise InputError(
            f"model {reranker.name!r}: its LogitScore reads the tokens {ids[0]} and {ids[1]}, "
            f"the prompt's answers are {made!r:.60}; expected the same; give the prompt the "
            f"answers {answers:.120} (--prompt)"
        )

"""Whole words: the same under every kind of tokenizer; stems, stop words, near words."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import tiny
from matchlens.batching import spans
from matchlens.corpora import Pair
from matchlens.models.words import LONGEST, STOP, WORD, Static, _whole, split, stem

PAIR = Pair(
    "q", "d", "Do the runners' sleeping-bags help?",
    "A runner slept; she didn\u2019t need 2 bags, caf\u00e9s or \u732b\u732b.", 0,
)  # fmt: skip
WORDS = ["Do", "the", "runners", "sleeping", "bags", "help"]
PASSAGE = ["A", "runner", "slept", "she", "didn\u2019t", "need", "2", "bags", "caf\u00e9s", "or"]


def trained(kind: str) -> PreTrainedTokenizerFast:
    """A small tokenizer of a kind that cuts most words into pieces."""
    texts = [PAIR.query, PAIR.text, "some other words that runners need"] * 3
    if kind == "wordpiece":
        return tiny.tokenizer()
    if kind == "bpe":
        backend = Tokenizer(models.BPE(unk_token=None))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=290, special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=60, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>"
        )
    backend.train_from_iterator(texts, trainer)
    ends = [(name, backend.token_to_id(name)) for name in ("<s>", "</s>")]
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "sentencepiece"])
def test_words_are_whole_whatever_the_tokenizer(kind):
    given = spans(trained(kind), PAIR, 512)
    found = split(given, PAIR)
    assert len(given.tokens) > len(WORDS) + len(PASSAGE) + 5  # there are sub-tokens
    texts = {1: PAIR.query, 3: PAIR.text}
    words = []
    for number in range(found.word.max() + 1):
        places = np.flatnonzero(found.word == number)
        assert (np.diff(places) == 1).all()
        assert len(set(found.stem[places])) == len(set(found.content[places])) == 1
        text = texts[int(given.parts[places[0]])]
        words.append(text[given.starts[places[0]] : given.ends[places[-1]]].strip().strip("\u2581"))
    if kind != "sentencepiece":  # a piece may hold an ideograph and more
        assert words == [*WORDS, *PASSAGE, "\u732b", "\u732b"]
    assert [word for word in words if word in WORDS] == [*WORDS, "bags"]
    by = {word: number for number, word in enumerate(words)}
    stems = {word: found.stem[found.word == number][0] for word, number in by.items()}
    assert stems["runners"] == stems["runner"]
    assert stems["sleeping"] != stems["slept"]
    content = {word: found.content[found.word == number][0] for word, number in by.items()}
    assert not content["the"]
    assert not content["didn\u2019t"]
    assert content["need"]
    assert (found.stem[found.word < 0] == 0).all()


def test_a_cut_passage_keeps_the_words_it_had():
    whole, cut = (split(spans(tiny.tokenizer(), PAIR, most), PAIR) for most in (512, 45))
    number = len(cut.word) - 1  # the last place is the separator
    assert cut.word.tolist()[:number] == whole.word.tolist()[:number]
    assert cut.stem.tolist()[:number] == whole.stem.tolist()[:number]


def test_stems_are_the_stemmers_and_long_words_stay():
    assert [stem(word) for word in ("Running", "cities", "didn\u2019t")] == [
        "run",
        "citi",
        "didn't",
    ]
    long = "running" * LONGEST
    assert stem(long) == long
    assert {"the", "who", "don't"} < STOP
    assert all(WORD.fullmatch(word) for word in STOP)


def test_texts_without_words_have_none():
    pair = Pair("q", "d", "?!", "--", 0)
    found = split(spans(tiny.tokenizer(), pair, 64), pair)
    assert (found.word == -1).all()
    assert not found.content.any()


@pytest.mark.parametrize(
    ("tokens", "whole"),
    [
        (["cat", "##s", "a", "dog", "?"], ["cat", "dog"]),
        (["\u0120cat", "s", "\u0120dog", "\u0120a"], ["\u0120cat", "\u0120dog"]),
        (["\u2581cat", "ing", "\u2581", "\u2581dog"], ["\u2581cat", "\u2581dog"]),
        # a letter of Maltese, which a cased WordPiece vocabulary knows
        (["cat", "\u0120wann", "dog", *["##s"] * 97], ["cat", "\u0120wann", "dog"]),
    ],
)
def test_whole_words_of_a_vocabulary_are_marked(tokens, whole):
    kept = _whole(dict(enumerate(tokens)))
    assert [tokens[number] for number in kept] == whole


@pytest.mark.real
def test_one_in_a_hundred_word_pairs_is_near(demo_model):
    import torch

    static = Static.of(demo_model)
    table, vocabulary = static.table, demo_model.tokenizer.get_vocab()
    draw = np.random.default_rng(3)
    ids = [
        at for token, at in sorted(vocabulary.items()) if WORD.fullmatch(token) and len(token) > 1
    ]
    units = torch.nn.functional.normalize(table[torch.tensor(ids)] - static.centre, dim=-1)
    first, second = (torch.from_numpy(draw.integers(len(ids), size=20_000)) for _ in range(2))
    near = ((units[first] * units[second]).sum(-1) >= static.near) & (first != second)
    assert float(near.float().mean()) == pytest.approx(0.01, abs=0.003)
    car, vehicle, banana = (units[ids.index(vocabulary[w])] for w in ("car", "vehicle", "banana"))
    assert float(car @ vehicle) > static.near > float(car @ banana)

"""Tokenizers without tokenizer.json: converted by the library, else refused by their cause."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import matchlens
import tiny as tiny_models
import tiny_t5
from matchlens import InputError

pytestmark = pytest.mark.slow

PIECES = {
    "xlm-roberta": ("sentencepiece.bpe.model", {}),
    "camembert": ("sentencepiece.bpe.model", {}),
    "albert": (
        "spiece.model",
        {
            "pad_id": 0,
            "unk_id": 1,
            "bos_id": 2,
            "eos_id": 3,
            "pad_piece": "<pad>",
            "bos_piece": "[CLS]",
            "eos_piece": "[SEP]",
            "user_defined_symbols": ["[MASK]"],
        },
    ),
    "deberta-v2": (
        "spm.model",
        {
            "pad_id": 0,
            "bos_id": 1,
            "eos_id": 2,
            "unk_id": 3,
            "pad_piece": "[PAD]",
            "bos_piece": "[CLS]",
            "eos_piece": "[SEP]",
            "unk_piece": "[UNK]",
        },
    ),
}
"""Families with SentencePiece, their file, and how it is trained."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A real SentencePiece model of a few sentences, by family."""
    place = tmp_path_factory.mktemp("pieces")
    text = place / "text.txt"
    lines = [f"{pair.query} {pair.text}" for pair in tiny_models.pairs(300)]
    text.write_text("\n".join([*lines, *"abcdefghijklmnopqrstuvwxyz0123456789"]))

    def train(family: str) -> bytes:
        sentencepiece.SentencePieceTrainer.train(
            input=str(text),
            model_prefix=str(place / family),
            vocab_size=90,
            hard_vocab_limit=False,
            minloglevel=2,
            **PIECES[family][1],
        )
        return (place / f"{family}.model").read_bytes()

    return {family: train(family) for family in PIECES}


def slow(folder: Path, family: str, file: str, content: bytes | str) -> Path:
    """A model whose tokenizer is one file, in the form before tokenizer.json."""
    tiny_models.model(family=family, seed=2, vocab_size=200).save_pretrained(folder)
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    if family == "albert":  # the library's class gives none by itself
        names = ["input_ids", "token_type_ids", "attention_mask"]
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_input_names": names}))
    return folder


def library_scores(folder: Path, pairs) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    module = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        return [
            float(module(**tokenizer(one.query, one.text, return_tensors="pt")).logits[0, 0])
            for one in pairs
        ]


def same_scores(folder: Path, pairs) -> None:
    expected = library_scores(folder, pairs)
    model = matchlens.load(folder, dtype="float64", device="cpu")
    np.testing.assert_allclose(matchlens.score(model, pairs)[""], expected, atol=1e-10)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize("family", PIECES)
def test_a_sentencepiece_model_is_converted_and_scores_as_the_library(
    family, trained, tmp_path, tiny_pairs
):
    folder = slow(tmp_path / "model", family, PIECES[family][0], trained[family])
    same_scores(folder, tiny_pairs)
    before = matchlens.load(folder, device="cpu").identity["sha256"]
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert (folder / "tokenizer.json").exists()
    same_scores(folder, tiny_pairs)
    assert matchlens.load(folder, device="cpu").identity["sha256"] != before


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tiny_models.WORDS, "Cat", "café", "##s"]
LETTERS = [
    *"abcdefghijklmnopqrstuvwxyzTéABCD.,?",
    *(f"##{x}" for x in "abcdefghijklmnopqrstuvwxyz"),
]
SETTINGS = [
    {},
    {"do_lower_case": False},
    {"do_lower_case": True, "strip_accents": False},
    {"never_split": ["cat"], "tokenize_chinese_chars": False},
    {"tokenizer_class": "BertTokenizer", "model_max_length": 40},
    {"tokenizer_class": "BertTokenizerFast", "unk_token": "[UNK]"},
]


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_vocabulary_is_converted_and_scores_as_the_library(
    family, settings, tmp_path, tiny_pairs
):
    folder = slow(tmp_path / "model", family, "vocab.txt", "\n".join(WORDS + LETTERS))
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    upper = [matchlens.corpora.Pair("q", "d", "Cat CAFÉ", "The cats, café.", 1)]
    same_scores(folder, [*tiny_pairs, *upper])


def t5_pieces() -> bytes:
    """The tiny T5's vocabulary as a SentencePiece model."""
    from sentencepiece import sentencepiece_model_pb2

    made = sentencepiece_model_pb2.ModelProto()
    vocabulary = json.loads(tiny_t5.tokenizer().backend_tokenizer.to_str())["model"]["vocab"]
    kinds = {"<pad>": 3, "</s>": 3, "<unk>": 2}  # control, control, unknown
    for piece, score in vocabulary:
        made.pieces.add(piece=piece, score=score, type=kinds.get(piece, 1))
    made.trainer_spec.model_type = 1  # Unigram
    made.trainer_spec.unk_id, made.trainer_spec.pad_id = 2, 0
    made.trainer_spec.eos_id, made.trainer_spec.bos_id = 1, -1
    return made.SerializeToString()


@pytest.mark.filterwarnings("ignore::matchlens.MatchlensWarning")
@pytest.mark.parametrize(
    "settings",
    [None, {"extra_ids": 0}, {"tokenizer_class": "T5Tokenizer", "legacy": False, "extra_ids": 0}],
    ids=str,
)
@pytest.mark.parametrize(("kind", "yes", "no"), [("t5", "true", "false"), ("mt5", "yes", "no")])
def test_a_t5_with_its_sentencepiece_model_alone_scores_as_the_library(
    kind, yes, no, settings, tmp_path, tiny_pairs
):
    tiny_t5.model(kind, vocab_size=300).save_pretrained(tmp_path)
    (tmp_path / "spiece.model").write_bytes(t5_pieces())
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    module = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    answers = tokenizer([yes, no], add_special_tokens=False)["input_ids"]
    assert [len(answer) for answer in answers] == [1, 1]
    expected = []
    for pair in tiny_pairs:
        asked = tokenizer(
            f"Query: {pair.query} Document: {pair.text} Relevant:", return_tensors="pt"
        )
        with torch.no_grad():
            logits = module(**asked, decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
        expected.append(float(logits[answers[0][0]] - logits[answers[1][0]]))
    assert np.ptp(expected) > 0.01
    model = matchlens.load(tmp_path, device="cpu")
    np.testing.assert_allclose(matchlens.score(model, tiny_pairs)[""], expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore::matchlens.MatchlensWarning")
def test_a_class_of_tokenizers_that_the_library_has_no_more_is_named(tmp_path):
    tiny_t5.model("mt5", vocab_size=300).save_pretrained(tmp_path)
    (tmp_path / "spiece.model").write_bytes(t5_pieces())
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text('{"tokenizer_class": "MT5TokenizerOfOld"}')
    with pytest.raises(InputError, match=r"no 'MT5TokenizerOfOld', .*take tokenizer_class out"):
        matchlens.load(tmp_path, device="cpu")
    settings.write_text("{}")
    matchlens.load(tmp_path, device="cpu")


@pytest.mark.slow
def test_without_the_package_the_error_says_how_to_get_it(trained, tmp_path):
    """And with it, the same folder loads: the test above."""
    block = (
        "import sys\nfrom importlib.machinery import PathFinder\n"
        "real = PathFinder.find_spec\n"
        "def find(name, *given):\n"
        "    return None if name.split('.')[0] == 'sentencepiece' else real(name, *given)\n"
        "PathFinder.find_spec = staticmethod(find)\n"
        "import matchlens\n"
        "try:\n    matchlens.load(sys.argv[1])\n"
        "except matchlens.InputError as error:\n    print(error)\n"
    )
    for family, (file, _) in PIECES.items():
        folder = slow(tmp_path / family, family, file, trained[family])
        done = subprocess.run(
            [sys.executable, "-c", block, str(folder)], check=False, capture_output=True, text=True
        )
        assert f"SentencePiece model ({file})" in done.stdout, done.stderr
        assert done.stdout.endswith("pip install 'matchlens[sentencepiece]'\n")


def test_the_extra_brings_both_packages_that_the_library_needs():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    extra = project["project"]["optional-dependencies"]["sentencepiece"]
    assert [one.split(">")[0] for one in extra] == ["sentencepiece", "protobuf"]


@pytest.mark.parametrize("content", [b"x", b"\x00" * 100, os.urandom(500)])
def test_a_broken_sentencepiece_model_is_named(content, trained, tmp_path, tiny_pairs):
    for family, (file, _) in PIECES.items():
        folder = slow(tmp_path / family, family, file, content)
        with pytest.raises(InputError, match=f"{file} is no SentencePiece model, or damaged; copy"):
            matchlens.load(folder, device="cpu")
    (folder / file).write_bytes(trained[family])  # copied again
    same_scores(folder, tiny_pairs)


def test_a_vocabulary_under_a_name_that_the_class_does_not_read(trained, tmp_path, tiny_pairs):
    """The library builds a tokenizer of special tokens alone, without a word."""
    folder = slow(tmp_path / "model", "xlm-roberta", "spm.model", trained["xlm-roberta"])
    with pytest.raises(InputError, match="unknown token of every word") as error:
        matchlens.load(folder, device="cpu")
    assert "rename spm.model to sentencepiece.bpe.model" in str(error.value)
    (folder / "spm.model").rename(folder / "sentencepiece.bpe.model")
    same_scores(folder, tiny_pairs)


@pytest.mark.parametrize(
    ("family", "file", "content"),
    [
        ("xlm-roberta", "vocab.txt", "\n".join(WORDS + LETTERS)),
        ("bert", "vocab.txt", "\n".join(WORDS[:5])),
        ("bert", "vocab.txt", "\n".join([*WORDS[:5], "<html>", "{}"])),
        ("electra", "spiece.model", None),
    ],
)
def test_a_tokenizer_that_knows_no_words_is_refused(
    family, file, content, trained, tmp_path, tiny_pairs
):
    content = trained["albert"] if content is None else content
    folder = slow(tmp_path / "model", family, file, content)
    with pytest.raises(
        InputError, match=r"an unknown token of every word.*save the model's own tok"
    ):
        matchlens.load(folder, device="cpu")
    tiny_models.tokenizer(family).save_pretrained(folder)
    matchlens.load(folder, device="cpu")


def test_a_vocabulary_of_another_script_knows_words(tmp_path):
    words = [*WORDS[:5], *"猫狗船茶雨太阳的了在是我有和人", *"abcdefghijklmnopqrstuvwxyz"]
    folder = slow(tmp_path / "model", "bert", "vocab.txt", "\n".join(words))
    assert matchlens.load(folder, device="cpu").max_length == 64


def test_a_slow_tokenizer_that_cannot_be_converted_is_refused(tmp_path):
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    folder = slow(tmp_path / "model", "bert", "vocab.txt", "\n".join(WORDS + LETTERS))
    tokenizer = BertTokenizerLegacy(str(folder / "vocab.txt"))
    module = AutoModelForSequenceClassification.from_pretrained(folder)
    with pytest.raises(InputError, match=r"slow tokenizer \(BertTokenizerLegacy\), which the lib"):
        matchlens.wrap(module, tokenizer, name="mine")
    assert matchlens.wrap(module, AutoTokenizer.from_pretrained(folder), name="mine")

"""Which logit is relevance: one label, two labels, and an order that looks reversed."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import matchlens
import tiny as tiny_models
import tiny_decoders
from matchlens import InputError, MatchlensWarning, cli
from matchlens.corpora import Pair
from matchlens.models.check import CheckError, reversed_order
from matchlens.models.checks.scores import ASKED
from matchlens.models.convert import demo_folder
from matchlens.models.family import relevance
from matchlens.models.folder import find
from tiny import edit

CUTS = ["Q->D", "D->All@1~mask"]


def reheaded(source: Path, target: Path, rows: list[float], **config: object) -> Path:
    """A copy of a model whose logits are its one logit, times a number each."""
    shutil.copytree(source, target)
    weights = load_file(target / "model.safetensors")
    factors = torch.tensor(rows)
    weights["classifier.weight"] = (factors[:, None] * weights["classifier.weight"]).contiguous()
    weights["classifier.bias"] = factors * weights["classifier.bias"]
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    labels = {str(number): f"LABEL_{number}" for number in range(len(rows))}
    return edit(target, **{"id2label": labels, **config})


def score_of(logits: list[list[float]]) -> list[float]:
    return relevance(torch.tensor(logits)).tolist()


def test_one_logit_or_the_difference_of_two():
    assert score_of([[0.5], [-2.0]]) == [0.5, -2.0]
    assert score_of([[0.5, 2.0], [80.0, -80.0]]) == [1.5, -160.0]  # a softmax would say 0 there
    for wrong in ([[1.0, 2.0, 3.0]], [[]]):
        with pytest.raises(
            InputError, match=r"the model returns \d logits a pair; expected one or two"
        ):
            score_of(wrong)


@pytest.mark.parametrize(
    ("labels", "declared", "says"),
    [
        (1, 2, "its config declares 2 labels and it returns 1 logit a pair"),
        (2, 1, "its config declares 1 label and it returns 2 logits a pair"),
    ],
)
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_labels_that_are_not_the_logits(family, labels, declared, says, tmp_path):
    folder = tiny_models.save(tmp_path / "model", family, labels=labels, layers=1)
    edit(folder, id2label={str(number): "x" for number in range(declared)})
    with pytest.raises(InputError, match=rf"do not fit \(classifier\S+: {says}.*right id2label"):
        matchlens.load(folder, device="cpu")


def test_a_head_that_was_put_on_later(tmp_path, monkeypatch):
    """The weights fit the config, and the model returns something else all the same."""
    folder = tiny_models.save(tmp_path / "model", labels=2, layers=1)
    from matchlens.models.bert import Bert

    real = Bert.__init__

    def init(self, module):
        module.classifier = torch.nn.Linear(32, 1)
        real(self, module)

    monkeypatch.setattr(Bert, "__init__", init)
    with pytest.raises(CheckError, match="its config declares 2 labels and it returns 1 logit a"):
        matchlens.load(folder, device="cpu")


@pytest.mark.parametrize(("labels", "words"), [(1, ("z", "-z")), (2, ("z1 - z0", "z0 - z1"))])
def test_negated_scores(labels, words, tmp_path, tiny_pairs):
    folder = tiny_models.save(tmp_path / "model", labels=labels)
    plain, turned = (
        matchlens.load(folder, dtype="float64", device="cpu", negate=negate)
        for negate in (False, True)
    )
    assert (plain.identity["relevance"], turned.identity["relevance"]) == words
    assert dict(plain.identity) | {"relevance": words[1]} == turned.identity
    held, got = (matchlens.score(model, tiny_pairs, CUTS) for model in (plain, turned))
    for cut in ("", *CUTS):
        np.testing.assert_array_equal(got[cut], -held[cut])
        assert np.ptp(held[cut]) > 0
    negative = reheaded(folder, tmp_path / "turned", [-1.0]) if labels == 1 else None
    if negative is not None:
        expected = matchlens.score(matchlens.load(negative, dtype="float64"), tiny_pairs, CUTS)
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_the_two_labels_change_places(tmp_path, tiny_pairs):
    """z0 - z1 is what a model whose labels stand the other way round gives."""
    one = tiny_models.save(tmp_path / "one")
    ways = reheaded(one, tmp_path / "a", [0.25, 1.0]), reheaded(one, tmp_path / "b", [1.0, 0.25])
    right = matchlens.load(ways[0], dtype="float64", device="cpu")
    wrong = matchlens.load(ways[1], dtype="float64", device="cpu", negate=True)
    first, second = (matchlens.score(model, tiny_pairs, CUTS) for model in (right, wrong))
    np.testing.assert_allclose(first, second, atol=1e-12)


def test_the_pairs_are_balanced():
    """No liking for a passage or a query alone can turn all of them round."""
    assert len({query for query, _ in ASKED}) == len({text for _, text in ASKED}) == 8
    draw = np.random.default_rng(0)
    for _ in range(100):
        queries, passages = draw.normal(size=8), draw.normal(size=8)
        relevant, other = queries + passages, queries + np.roll(passages, -1)
        assert 0 < (relevant >= other).sum() < 8


def test_labels_decide_nothing_and_are_shown_as_they_are():
    checks = {"relevant_above": {"what": "", "seen": 0, "expected": "", "ok": True}}
    said = reversed_order(checks, False, {0: "relevant\x1b[31m", 1: "no\nt"})
    assert "in all 8 built-in pairs" in said
    assert "give negate=True (--negate)" in said
    assert said.isprintable()
    assert r"'relevant\x1b[31m', 'no\nt'" in said
    assert "leave out negate=True (--negate)" in reversed_order(checks, True, {})
    for seen in (1, 8, None):
        checks["relevant_above"]["seen"] = seen
        assert reversed_order(checks, False, {}) == ""
    assert reversed_order({}, False, {}) == ""


# --- the real model, turned round


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(
    ("rows", "labels"),
    [([-1.0], ["score"]), ([1.0, 0.0], ["first", "relevant"])],
    ids=["one label", "two labels"],
)
def test_an_order_that_looks_reversed_is_told(demo_model, rows, labels, tmp_path):
    names = {str(number): name for number, name in enumerate(labels)}
    folder = reheaded(demo_folder(), tmp_path / "turned", rows, id2label=names)
    with pytest.warns(MatchlensWarning) as told:
        model = matchlens.load(folder, device="cpu")
    (line,) = [str(one.message) for one in told]
    assert line.startswith(f"model {str(folder)!r}: the relevant one of two passages scores lower")
    assert "give negate=True (--negate), which negates the score" in line
    assert line.endswith(f"(the model calls its labels {', '.join(map(repr, labels))})")
    assert model.checks["relevant_above"]["seen"] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = matchlens.load(folder, device="cpu", negate=True)
    assert right.checks["relevant_above"]["seen"] == 8
    pairs = [Pair("q", "d", query, text, 0) for query, text in ASKED]
    expected = matchlens.score(demo_model, pairs, ["Q->D"])
    np.testing.assert_allclose(matchlens.score(right, pairs, ["Q->D"]), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.real
def test_a_right_order_that_is_negated_is_told(demo_model):
    assert demo_model.checks["relevant_above"]["seen"] == 8
    with pytest.warns(MatchlensWarning, match=r"leave out negate=True \(--negate\)"):
        matchlens.load("demo", device="cpu", negate=True)
    assert find("demo").identity("float32", None)["relevance"] == "z"


@pytest.mark.real
def test_pairs_that_do_not_fit_are_not_judged(demo_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = matchlens.load("demo", device="cpu", negate=True, max_length=8)
    assert model.checks["relevant_above"]["seen"] is None


# --- a label that is chosen


def labelled(folder: Path, names: list[str], **config: object) -> Path:
    """A model with labels of these names."""
    tiny_models.save(folder, labels=len(names), seed=2)
    called = {str(number): name for number, name in enumerate(names)}
    return edit(folder, **{"id2label": called, **config})


def logits_of(folder: Path, pairs) -> np.ndarray:
    module = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return np.array(
            [
                module(**tokenizer(one.query, one.text, return_tensors="pt")).logits[0].numpy()
                for one in pairs
            ]
        )


MULTI, SINGLE = "multi_label_classification", "single_label_classification"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "problem", "label", "expected", "text"),
    [
        (["toxic", "relevant"], MULTI, "relevant", lambda z: z[:, 1], "z1 (label 'relevant')"),
        (["relevant", "toxic"], MULTI, 0, lambda z: z[:, 0], "z0 (label 'relevant')"),
        (["a", "b", "c"], "regression", "2", lambda z: z[:, 2], "z2 (label 'c')"),
        (
            ["no", "maybe", "yes"],
            None,
            "yes",
            lambda z: z[:, 2] - np.logaddexp(z[:, 0], z[:, 1]),
            "z2 - logsumexp(the other 2) (label 'yes')",
        ),
        (
            ["relevant", "irrelevant"],
            SINGLE,
            "relevant",
            lambda z: z[:, 0] - z[:, 1],
            "z0 - z1 (label 'relevant')",
        ),
        (["x", "y"], None, "y", lambda z: z[:, 1] - z[:, 0], "z1 - z0 (label 'y')"),
        (["score"], "regression", "score", lambda z: z[:, 0], "z"),
    ],
)
def test_the_chosen_label_is_the_score(names, problem, label, expected, text, tmp_path, tiny_pairs):
    folder = labelled(tmp_path / "model", names, **({"problem_type": problem} if problem else {}))
    right = expected(logits_of(folder, tiny_pairs[:6]))
    module = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for negate in (False, True):
        made = [
            matchlens.load(folder, device="cpu", label=label, negate=negate),
            matchlens.wrap(module, tokenizer, label=label, negate=negate),
        ]
        for model in made:
            got = matchlens.score(model, tiny_pairs[:6], ["Q->D"])
            np.testing.assert_allclose(got[""], -right if negate else right, atol=1e-5)
            assert np.ptp(got["Q->D"]) > 0
            told = f"-({text})" if negate else text
            assert model.identity["relevance"] == told
        assert find(folder).labelled(label, negate=negate).relevance(negate) == told


def plainly(first: str, second: str) -> dict[str, object]:
    """Names that say nothing, beside a label2id that does."""
    return {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {first: 0, second: 1}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "config", "says"),
    [
        (["a", "b", "c"], {}, "name the label that means relevance"),
        (["a", "b"], {"problem_type": MULTI}, "two labels that are no opposites"),
        (["a", "b"], {"problem_type": "regression"}, "two labels that are no opposites"),
        (["relevant", "irrelevant"], {}, "a high score would mean less relevant"),
        (["duplicate", "not_duplicate"], {}, "a high score would mean less relevant"),
        (["Positive", "NEGATIVE"], {}, "a high score would mean less relevant"),
        (["entailment", "not_entailment"], {}, "a high score would mean less relevant"),
        (["not_relevant"], {}, "a high score would mean less relevant"),
        (["relevant", "irrelevant"], plainly("relevant", "irrelevant"), "mean less relevant"),
        (["yes", "no"], plainly("yes", "no"), "mean less relevant"),
        (["1", "0"], {}, "mean less relevant"),
        (["LABEL_1", "LABEL_0"], {}, "mean less relevant"),
        (["no", "yes"], {"label2id": {"yes": 0, "no": 1}}, "label2id gives them other numbers"),
    ],
)
def test_labels_that_need_a_choice(names, config, says, tmp_path, tiny_pairs, capsys):
    folder = labelled(tmp_path / "model", names, **config)
    module, tokenizer = (
        auto.from_pretrained(folder) for auto in (AutoModelForSequenceClassification, AutoTokenizer)
    )
    for load in (
        lambda **more: matchlens.load(folder, device="cpu", **more),
        lambda **more: matchlens.wrap(module, tokenizer, **more),
    ):
        with pytest.raises(InputError, match=says) as said:
            load()
        assert f"(--label, one of 0: {names[0]!r}" in str(said.value)
        assert load(label=names[0]).family.label.number == 0  # as the message says
    assert cli.main(["check", "--model", str(folder), "--device", "cpu"]) == 2
    assert says in capsys.readouterr().err
    words = ["check", "--model", str(folder), "--device", "cpu", "--label", names[-1]]
    assert cli.main(words) == 0
    assert f"(label {names[-1]!r})" in capsys.readouterr().out or len(names) == 1


@pytest.mark.parametrize("label", ["c", "2", 2, -1, "-1", "", "a\x1b[2J"])
def test_a_label_that_is_not_there(label, tmp_path):
    folder = labelled(tmp_path / "model", ["a", "b"])
    with pytest.raises(InputError, match=r"names none of its labels, .* one of 0: 'a', 1: 'b'"):
        matchlens.load(folder, device="cpu", label=label)


def test_names_that_say_nothing_of_relevance_are_told(tmp_path):
    def told(names):
        folder = labelled(tmp_path / "-".join(names), names)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            notes = matchlens.load(folder, device="cpu").notes
        said = [str(one.message) for one in seen if "its labels are called" in str(one.message)]
        assert bool(said) == bool(notes)
        return bool(said)

    assert told(["ham", "spam"])
    assert not told(["LABEL_0", "LABEL_1"])
    assert not told(["irrelevant", "relevant"])
    assert not told(["not_duplicate", "duplicate"])
    assert not told(["0", "1"])


def test_a_decoder_asked_in_words_has_no_labels(tmp_path):
    folder = tiny_decoders.save(tmp_path, "qwen3")
    with pytest.raises(InputError, match=r"has no labels: .*leave the label out"):
        matchlens.load(folder, device="cpu", label="yes")
    matchlens.load(folder, device="cpu")

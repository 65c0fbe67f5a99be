"""Random settings of configs, tokenizers and saved files: the library's scores, or a refusal.

The default suite tries 300 combinations, in which every setting has each of its values once;
``make fuzz`` tries 5,000 (``MATCHLENS_FUZZ_COMBINATIONS``), and each setting alone.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoConfig, PreTrainedTokenizerFast

import matchlens
from combinations import (
    FAMILIES,
    SETTINGS,
    Combination,
    alone,
    dealt,
    prompted,
    refusable,
    words_of,
)
from combined import PAIRS, Impossible, build, expected
from matchlens import InputError
from matchlens.corpora import Pair
from matchlens.errors import MOST
from matchlens.models import folder as model_folder
from matchlens.prompts import Prompt
from tiny_decoders import PROMPTS

COMBINATIONS = int(os.environ.get("MATCHLENS_FUZZ_COMBINATIONS", "300"))
TOLERANCE = 1e-5
LEAST_SCORED = 0.6
"""The least share, of the combinations that the library scores, that matchlens scores as well."""
MOST_SHOWN = 20
WINDOWS = ["sliding_attention", "sliding_attention"]
FAULTS = {
    "crash": "something else than an InputError came out",
    "accepted": "matchlens scores what the library refuses",
    "differs": "the scores are not the library's",
    "unreadable": "the refusal is no short, printable line",
    "unnamed": "the refusal does not name the setting",
    "needless": "matchlens refuses what the library scores",
}


def outcome(combination: Combination) -> tuple[str, str]:
    """What became of a combination, and a sentence on it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "model")
        try:
            build(folder, combination)
        except Impossible as error:
            return "impossible", str(error)
        ours, refusal = None, ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                asked = PROMPTS[combination["family"]] if prompted(combination) else None
                ours = scores(folder, asked)
        except InputError as error:
            refusal = str(error)
        except Exception as error:
            return "crash", f"{type(error).__name__}: {error}"
        theirs = expected(folder, combination)
    if ours is None:
        return _refusal(refusal, combination, theirs.refused)
    if theirs.refused:
        return "accepted", f"the library: {theirs.refused}"
    known = np.isfinite(theirs.scores)
    far = np.abs(ours - theirs.scores)[known].max()
    if not far <= TOLERANCE * max(1.0, np.abs(theirs.scores[known]).max()):
        return "differs", f"{ours} instead of {theirs.scores}"
    return "equal", ""


def scores(folder: Path, prompt: Prompt | None = None) -> np.ndarray:
    """The scores of all pairs by matchlens."""
    model = matchlens.load(folder, device="cpu", prompt=prompt)
    pairs = [Pair(f"q{n}", f"d{n}", *texts, 0) for n, texts in enumerate(PAIRS)]
    return matchlens.score(model, pairs)[""].to_numpy()


def _refusal(line: str, combination: Combination, library: str) -> tuple[str, str]:
    if not (line.isprintable() and len(line) <= MOST):
        return "unreadable", line
    named = any(word.lower() in line.lower() for word in words_of(combination))
    if library:
        named = named or library.split(": ", 1)[-1][:30] in line
        return ("both refuse" if named else "unnamed"), f"{line} (the library: {library})"
    if not refusable(combination):
        return "needless", line
    return ("refused" if named else "unnamed"), line


def smallest(combination: Combination, kind: str) -> Combination:
    """The fewest of its settings that go wrong in the same way."""
    for name in [one for one in combination if one != "family"]:
        fewer = {key: value for key, value in combination.items() if key != name}
        if outcome(fewer)[0] == kind:
            combination = fewer
    return combination


def tried(combinations: Iterable[Combination]) -> tuple[Counter[str], Counter[str], list[str]]:
    """Outcomes, combinations by family that are scored as the library does, and faults."""
    tally, scored, faults = Counter(), Counter(), []
    for combination in combinations:
        kind, said = outcome(combination)
        tally[kind] += 1
        scored[combination["family"]] += kind == "equal"
        if kind in FAULTS and len(faults) < MOST_SHOWN:
            fewer = smallest(combination, kind)
            faults.append(f"{kind} ({FAULTS[kind]}): {fewer!r}: {outcome(fewer)[1] or said}")
    print(f"\n{tally.total()} combinations: {dict(tally.most_common())}; equal: {dict(scored)}")  # noqa: T201
    return tally, scored, faults


@pytest.mark.slow
def test_random_settings_are_scored_as_the_library_does_or_refused():
    tally, scored, faults = tried(islice(dealt(seed=0), COMBINATIONS))
    assert not faults, "\n".join(faults)
    assert tally.total() == COMBINATIONS
    assert all(scored[family] > 0 for family in FAMILIES)
    assert tally["equal"] >= LEAST_SCORED * (tally["equal"] + tally["refused"])


@pytest.mark.skipif(COMBINATIONS <= 300, reason="make fuzz tries each setting alone")
def test_each_setting_alone_is_scored_as_the_library_does_or_refused():
    _, _, faults = tried(alone())
    assert not faults, "\n".join(faults)


def test_the_default_combinations_hold_every_value_of_every_setting():
    drawn = list(islice(dealt(seed=0), 300))
    for setting in SETTINGS:
        for value in setting.values:
            assert any(
                one.get(setting.name) == value and one["family"] in setting.families
                for one in drawn
            ), (setting.name, value)


@pytest.mark.parametrize(
    "combination",
    [
        {"family": "mpnet", "config:relative_attention_num_buckets": 8},
        {"family": "deberta-v2", "config:pooler_hidden_size": 16},
        {"family": "deberta-v2", "config:attention_head_size": 4},
        {"family": "qwen3", "config:sliding_window": None, "config:layer_types": WINDOWS},
    ],
)
def test_a_model_that_the_library_cannot_run_is_refused_with_its_reason(combination):
    kind, said = outcome(combination)
    assert kind == "both refuse", said
    assert "transformers cannot run this model" in said


@pytest.mark.parametrize(
    "combination",
    [
        {"family": "modernbert", "config:layer_types": WINDOWS},
        {
            "family": "modernbert",
            "config:layer_types": WINDOWS,
            "config:classifier_pooling": "mean",
        },
        {"family": "gemma2", "config:layer_types": WINDOWS},
    ],
)
def test_windows_that_hide_the_passage_from_the_score_are_no_reason_to_refuse(combination):
    kind, words = outcome(combination)
    # Where nothing of the texts is in reach, some processors' rounding alone tells them apart.
    unread = combination["family"] == "gemma2" and "two different texts have one score" in words
    assert (kind, words) == ("equal", "") or (kind == "refused" and unread)


BUILT = {"hidden_size", "d_model", "dim", "intermediate_size", "hidden_dim"} | {
    "transformers_version"
}
"""Sizes of the tiny models, and what ``save_pretrained`` writes by itself."""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_of_a_config_class_is_drawn(family):
    known = {field.name for field in fields(type(AutoConfig.for_model(family)))}
    aliases = {"n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
    aliases |= {"num_layers": "num_hidden_layers", "num_heads": "num_attention_heads"}
    drawn = {setting.key for setting in SETTINGS if family in setting.families}
    assert {aliases.get(name, name) for name in known - BUILT} - drawn == set()


def test_every_setting_of_a_tokenizer_is_drawn():
    saved = set(PreTrainedTokenizerFast(tokenizer_object=_empty()).init_kwargs)
    named = set(PreTrainedTokenizerFast.SPECIAL_TOKENS_ATTRIBUTES)
    asked = {"model_max_length", "padding_side", "truncation_side", "model_input_names"}
    asked |= {"clean_up_tokenization_spaces", "split_special_tokens", "chat_template"}
    drawn = {setting.key for setting in SETTINGS}
    assert (saved | asked | named) - {"bos_token", "eos_token"} - drawn == set()


def _empty():
    from tokenizers import Tokenizer, models

    return Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))


@pytest.mark.parametrize(
    ("result", "combination", "kind"),
    [
        (None, {}, "equal"),
        (1.0, {}, "differs"),
        (ValueError("odd"), {}, "crash"),
        (InputError("this model cannot be used"), {}, "needless"),
        (InputError("its config cannot be used"), {"tokenizer:template": "flat"}, "unnamed"),
        (InputError("it does not encode a pair"), {"tokenizer:template": "flat"}, "refused"),
        (InputError("its weight extra.weight"), {"saving:names": "extra"}, "both refuse"),
        (1.0, {"saving:names": "extra"}, "accepted"),
    ],
)
def test_the_harness_tells_faults_from_agreement(result, combination, kind, monkeypatch):
    def wrong(folder: Path, _: Prompt | None) -> np.ndarray:
        if isinstance(result, Exception):
            raise result
        return expected(folder, {"family": "bert"}).scores + (result or 0.0)

    monkeypatch.setattr("test_fuzz_models.scores", wrong)
    assert outcome({"family": "bert", **combination})[0] == kind


def test_the_smallest_combination_is_found(monkeypatch):
    monkeypatch.setattr(
        "test_fuzz_models.outcome", lambda one: ("crash" if "a" in one else "equal", "")
    )
    assert smallest({"family": "bert", "b": 1, "a": 2, "c": 3}, "crash") == {
        "family": "bert",
        "a": 2,
    }


def test_the_families_are_those_that_matchlens_knows():
    assert set(FAMILIES) == set(model_folder.FAMILIES)

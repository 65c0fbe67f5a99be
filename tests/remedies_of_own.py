"""The errors of own parts and of several measures, and what their messages say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import matchlens
from matchlens import Pair, PairSet
from matchlens.corpora import frame
from matchlens.corpora.own import own_parts, read_parts, spans_by_id
from matchlens.live.experiment import Experiment, KnownParts
from matchlens.options import StudySettings
from matchlens.parts import OwnPart, PartSpan
from remedies import C, after

LABELLED, SPANS = (f"corpora/own.py:{name}" for name in ("labelled", "field_spans.spans"))
CHECKED = "corpora/pair.py:checked_spans"
READ = "corpora/own.py:read_parts"
START = [(0, 3)]


def with_parts(w, value: dict) -> PairSet:
    return w.pairs.with_parts(value)


def again(w, name: str) -> PairSet:
    first = w.pairs.with_parts({"TITLE": lambda pair: [(0, 1)]})
    return first.with_parts({name: lambda pair: [(1, 2)]})


def pair_of(w, parts: tuple) -> Pair:
    return replace(w.pairs.pairs[0], text="warm tea", parts=parts)


def both(w, names: tuple[str, str]) -> object:
    pair = w.pairs.pairs[0]
    return own_parts(
        [replace(pair, parts=((name, of, 0, 2),)) for name, of in zip(names, "QD", strict=True)]
    )


def titled(name: str = "tea") -> frame.FrameCollection:
    passages = {"d1": {"title": "Tea", "text": "It is hot."}, "d2": "A red dog."}
    return frame.load({"q1": "tea"}, {"q1": {"d1": 1, "d2": 0}}, passages, name=name)


def fields(w, names: list[str]) -> PairSet:
    return matchlens.choose(titled()).with_fields(titled(), names)


def from_which(w, prefixed: bool) -> PairSet:
    chosen = matchlens.choose(titled(), passage_prefix="so: " if prefixed else "")
    given = replace(chosen, sampling={}) if prefixed else chosen
    return given.with_fields(titled(), ["title"])


class Plain(matchlens.trec.Collection):
    """A collection that knows no fields."""

    def texts(self, docids):
        return dict.fromkeys(docids, "tea")

    def random_docids(self, n, seed):
        return []


def collection_with(w, has: bool) -> PairSet:
    made = titled() if has else Plain("tea", {"q1": "tea"}, {"q1": {"d1": 1}}, None, {}, {})
    return matchlens.choose(made).with_fields(made, ["title"])


def file_of(w, content: str) -> object:
    path = Path(f"parts{next(w.outs)}.json")
    path.write_text(content)
    return read_parts(path)


def cut_of(w, cut: str) -> object:
    return matchlens.score(w.model, with_parts(w, {"TITLE": lambda pair: START}), [cut])


def limited(w, most: int) -> object:
    model = replace(w.model, max_length=most)
    text = " ".join(["cat"] * 30)
    pair = Pair("q", "d", "dog", text, 1, parts=(("LATE", "D", len(text) - 3, len(text)),))
    return matchlens.score(model, [pair], ["Q->LATE"])


def measured(w, measures: list[str]) -> object:
    return matchlens.ablation(w.model, w.pairs, cuts=["Q->D"], measure=measures)


def ranked(w, value: dict) -> object:
    return matchlens.rank(w.model, "tea", **{"passages": ["warm tea"], **value})


def explained(w, change: dict) -> object:
    """Two pairs, the second one changed."""
    texts = ["warm tea", "red dog"]
    first, second = (Pair("q", text, "tea", text, 0) for text in texts)
    few = [first, replace(second, **change)]
    return matchlens.explain(w.model, "tea", few, points=1, swap=False)


def by_ids(w, spans: dict) -> PairSet:
    """Two collections, each with a passage d1 of its own."""
    made = [matchlens.choose(titled(name)) for name in ("tea", "dogs")]
    pairs = PairSet.join([made[0], replace(made[1], pairs=tuple(
        replace(pair, text=f"no {pair.text}") for pair in made[1].pairs
    ))])  # fmt: skip
    return pairs.with_parts({"TITLE": spans_by_id(pairs.pairs, "D", spans, "")})


def known(w, cuts: list[str]) -> object:
    pair = Pair("q", "d", "tea", "warm tea", 0, parts=(PartSpan("TITLE", "D", 0, 4),))
    made = tuple(matchlens.Cut.parse(cut) for cut in cuts)
    passage = "warm tea" if cuts != ["Q->TITLE@0"] else "edited"
    return KnownParts([pair]).on(Experiment(0, "tea", (passage,), made))


def json_of(message: str) -> list[str]:
    return [message.rpartition("such as ")[2]]


def lists(w, count: int) -> PairSet:
    return with_parts(w, {"TITLE": [START] * (count or len(w.pairs))})


OWN = [
    C("corpora/collection.py:Collection.field_texts", "", collection_with, False, [True]),
    C("corpora/own.py:own_parts", "", both, ("NAME", "NAME"),
      lambda m: [tuple(re.findall("call it ([A-Z]+).* and ([A-Z]+) in", m)[0])]),
    C(LABELLED, "no part came", with_parts, {}, [{"TITLE": lambda pair: START}]),
    C(LABELLED, "have a part", again, "TITLE", lambda m: after("call the new one ", m)[:1]),
    C(LABELLED, "has spans for", lists, 1, [0]),
    C(LABELLED, "no pair has a character", with_parts, {"TITLE": lambda pair: []},
      [{"TITLE": lambda pair: START}]),
    C(CHECKED, "a part's characters are", pair_of, ((0, 3),), [(("TITLE", "D", 0, 3),)]),
    C(CHECKED, "expected 'Q' or 'D'", pair_of, (("TITLE", "X", 0, 3),),
      [(("TITLE", of, 0, 1),) for of in "QD"]),
    C(CHECKED, "start first", pair_of, (("TITLE", "D", 5, 3),), [(("TITLE", "D", 3, 5),)]),
    C(CHECKED, "overlap", pair_of, (("TITLE", "D", 0, 5), ("BODY", "D", 4, 8)),
      [(("TITLE", "D", 0, 4), ("BODY", "D", 4, 8)),
       (("TITLE", "D", 0, 4), ("MIDDLE", "D", 4, 5), ("BODY", "D", 5, 8))]),
    C("corpora/own.py:_spans_of", "", with_parts, {"TITLE": lambda pair: 3},
      [{"TITLE": lambda pair: START}]),
    C(SPANS, "has no field", fields, ["abstract"],
      lambda m: [[name.strip("' ")] for name in
                 re.findall(r"some of '([^']*)'", m)[0].split(",")]),
    C(SPANS, "is not that of", from_which, True, [False]),
    C("corpora/own.py:spans_by_id", "the id of two texts", by_ids, {"d1": [[0, 2]]},
      lambda m: [json.loads(m[m.index("{") : m.rindex("}") + 1].replace("12", "2"))]),
    C("corpora/own.py:spans_by_id", "for collection", by_ids, {"cats": {"d1": [[0, 2]]}},
      lambda m: [{name.strip("' "): {"d1": [[0, 2]]}} for name in
                 re.findall(r"some of ('.*'):", m)[0].split(",")]),
    C("files.py:read_json", "", file_of, "[", json_of),
    C(READ, "holds no object", file_of, "[]", json_of),
    C(READ, "'spans' alone", file_of, json.dumps({"TITLE": []}), json_of),
    C("parts.py:OwnPart.__post_init__", "", lambda w, name: OwnPart(name), "title",
      lambda m: re.findall("write ([A-Z]+),", m)),
    C("studies/explaining.py:_pairs", "is a pair of", explained, {"query": "dog"},
      [{"query": "tea"}]),
    C("studies/explaining.py:_pairs", "different characters", explained,
      {"parts": (PartSpan("ASKED", "Q", 0, 3),)}, [{"parts": ()}]),
    C("live/experiment.py:KnownParts.on", "", known, ["Q->TITLE@0"], [["Q->TITLE"], []]),
    C("plan.py:bound.known", "", cut_of, "Q->TITEL", ["Q->TITLE", "Q->D"]),
    C("runners/runner.py:_Tokenized.check", "", limited, 12, [64]),
    C("options.py:StudySettings.only_measure", "",
      lambda w, given: StudySettings(measure=given).only_measure, ["RR@10", "nDCG@10"],
      [["RR@10"], None]),
    C("studies/scoring.py:rank", "top is", ranked, {"top": 0}, [{"top": 1}, {"top": None}]),
    C("studies/scoring.py:rank", "no passage", ranked, {"passages": []}, [{"passages": ["tea"]}]),
    C("studies/cuts/cut_study.py:_rankings", "no measure came", measured, [],
      lambda m: [re.findall("give '([^']+)'", m)]),
    C("studies/cuts/cut_study.py:_rankings", "given twice", measured, ["RR@10", "RR@10"],
      [["RR@10"]]),
    C("results.py:Result.array", "has no direction",
      lambda w, direction: matchlens.attention(
          w.model, w.pairs, meters=["mass"], causal=False, contrasts=["relevant-hard"]
      ).array("mass", direction), "Q->X", ["Q->D"]),
]  # fmt: skip

ELSEWHERE = {
    ("studies/scoring.py:score", "cuts nothing"): (
        "test_own_parts.py:test_a_part_without_a_token_is_told_by_score_and_explain"
    ),
    ("pyterrier.py:Reranker.explain", "has no column"): (
        "test_pyterrier.py:test_two_candidates_of_a_frame_are_explained"
    ),
    ("pyterrier.py:Reranker.explain", "expected two of them"): (
        "test_pyterrier.py:test_two_candidates_of_a_frame_are_explained"
    ),
}

"""The interface in Python: short texts of objects, what stands for what."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice

import ir_measures
import pandas as pd
import pytest

import matchlens
from matchlens import Cut, Direction, InputError, Pair, PairSet, Part
from matchlens.batching import Pairing
from matchlens.live.server import LivePage
from matchlens.models.serving import Serving
from matchlens.studies.attention.contrasts import Thresholds
from test_corpora_irds import NAME, QRELS, QUERIES, ROWS, Docs, Qrels, Queries, register
from test_frames import beir_folder
from test_looking import graded
from test_wrap import CrossEncoder
from tiny_decoders import BGE, QWEN3

__all__ = ["register"]  # a fixture

LONG = "long words " * 500


def functions() -> set[str]:
    """The public functions, and the methods of what they return, by name."""
    found = {n for n in matchlens.__all__ if inspect.isfunction(getattr(matchlens, n))}
    found |= {f"{module}.load" for module in ("beir", "demo", "frame", "irds", "trec")}
    for kind in (PairSet, matchlens.Result, matchlens.Study, matchlens.Reranker):
        members = inspect.getmembers(kind, callable)
        found |= {f"{kind.__name__}.{name}" for name, _ in members if name[0] != "_"}
    return found


def returned(model, folder) -> dict[str, Callable[[], object]]:
    """A call of every public function and method."""
    pairs, few = graded(queries=6, each=1), {"directions": ["Q->D"]}
    (demo := matchlens.demo.load()).random_docids(1, 0)
    loose = Thresholds(length=1.0)
    ablation = matchlens.ablation(model, pairs, cuts=["Q->D", "D->Q"])
    attention = matchlens.attention(model, pairs, causal=False, thresholds=loose, meters=["mass"])
    whole = matchlens.study(model, pairs, studies=["ablation"])
    out = [ablation.save(folder / "a"), whole.save(folder / "b")]
    rows = [{"query": LONG, "text": LONG, "grade": 1}]
    return {
        "ablation": lambda: ablation,
        "attention": lambda: attention,
        "beir.load": lambda: matchlens.beir.load(beir_folder(folder)),
        "choose": lambda: matchlens.choose(demo, queries=2),
        "circuits": lambda: matchlens.circuits(model, pairs, top=0),
        "claims": lambda: matchlens.claims({"ablation": ablation}),
        "compare": lambda: matchlens.compare(out),
        "compare_heads": lambda: matchlens.compare_heads(attention, attention),
        "controls": lambda: matchlens.controls(model, pairs, ["Q->D"], draws=1),
        "demo.load": lambda: demo,
        "explain": lambda: matchlens.explain(model, LONG[:99], [LONG[:99], "cat"], swap=False),
        "frame.load": lambda: matchlens.frame.load({"q": LONG}, {"q": {"d": 1}}, {"d": LONG}),
        "head_sets": lambda: matchlens.head_sets(model, pairs, {"top": "0.1"}, **few),
        "irds.load": lambda: matchlens.irds.load(NAME),
        "load": lambda: model,
        "look": lambda: matchlens.look(model, pairs, looks=2, cuts=["Q->D"]),
        "rank": lambda: matchlens.rank(model, LONG[:99], ["cat", LONG[:99]]),
        "score": lambda: matchlens.score(model, pairs),
        "screen": lambda: matchlens.screen(model, pairs, others=4),
        "serve": lambda: matchlens.serve(model, pairs),
        "study": lambda: whole,
        "sweep": lambda: matchlens.sweep(model, pairs, **few),
        "sweep_points": lambda: matchlens.sweep_points("heads", ["{Q,D}->D"], layers=9, heads=9),
        "table1": matchlens.table1,
        "table_latex": lambda: matchlens.table_latex(ablation),
        "table_text": lambda: matchlens.table_text(ablation),
        "thin": lambda: matchlens.thin(pairs, 3),
        "trec.load": lambda: demo,
        "wrap": lambda: matchlens.wrap(model.family.module, model.tokenizer),
        "write_report": lambda: matchlens.write_report(out[0]),
        "PairSet.filter": lambda: pairs.filter(lambda pair: pair.grade > 0),
        "PairSet.from_frame": lambda: PairSet.from_frame(rows, name="x" * 300),
        "PairSet.join": lambda: PairSet.join([pairs]),
        "PairSet.with_fields": lambda: pairs,
        "PairSet.with_parts": lambda: pairs.with_parts({"X" * 40: lambda _: [(0, 3)]}),
        "Result.array": lambda: attention.array("mass", "Q->D"),
        "Result.axes": lambda: attention.axes("mass"),
        "Result.load": lambda: matchlens.Result.load(out[0], "ablation"),
        "Result.load_all": lambda: matchlens.Result.load_all(out[1]),
        "Result.plot": ablation.plot,
        "Result.save": lambda: out,
        "Result.to_frame": ablation.to_frame,
        "Result.to_latex": ablation.to_latex,
        "Study.claims": whole.claims,
        "Study.plot": lambda: whole.plot("ablation"),
        "Study.save": lambda: out,
        "Study.to_frame": lambda: whole.to_frame("ablation"),
        "Study.to_latex": lambda: whole.to_latex("ablation"),
        "Reranker.check_unchanged": model.check_unchanged,
        "Reranker.encode": lambda: model.encode(pairs.pairs),
        "Reranker.spans": lambda: model.spans(pairs[0]),
        "Reranker.template": lambda: model.template,
    }


def ours(value: object) -> bool:
    return type(value).__module__.startswith("matchlens")


def within(value: object, seen: dict[int, object]) -> Iterator[object]:
    """Every object of matchlens in a value: the items of containers, the public attributes."""
    if id(value) in seen or isinstance(value, type):
        return
    seen[id(value)] = value  # kept, so that no other object gets its id
    inner: Iterable = ()
    if ours(value):
        yield value
        names = (name for name in dir(value) if not name.startswith("_"))
        inner = (getattr(value, name, None) for name in names)
    elif isinstance(value, Mapping):
        inner = chain.from_iterable(islice(value.items(), 99))
    elif isinstance(value, list | tuple | set | frozenset):
        inner = islice(value, 99)
    for one in inner:
        yield from within(one, seen)


def test_everything_that_functions_return_has_a_short_repr(tiny32, tmp_path, register):
    """A type is refused whose repr grows with its fields, as a dataclass has it by default."""
    register(Docs(ROWS), Queries(QUERIES), Qrels(QRELS))
    calls, seen, kinds = returned(tiny32, tmp_path), {}, set()
    assert functions() - set(calls) == set()
    more = [BGE, QWEN3, Cut.parse("{Q,D}->D@0:8~mask"), Part.Q]
    for name, value in [*((name, call()) for name, call in calls.items()), ("more", more)]:
        if isinstance(value, LivePage):
            value.stop()
        for one in within(value, seen):
            kinds.add(type(one).__name__)
            assert len(repr(one)) <= 200, (name, type(one))
            assert repr(one).isprintable(), (name, type(one))
            grows = getattr(getattr(one, "__dataclass_params__", None), "repr", False)
            assert not grows, f"{type(one)} of {name} prints its fields whole: let it be a Brief"
    public = {n for n in matchlens.__all__ if isinstance(getattr(matchlens, n), type)}
    assert public - kinds == {"InputError", "MatchlensWarning"}
    assert {"LivePage", "Encoded", "Spans", "Point", "Serving", "FrameCollection"} <= kinds


def test_the_repr_of_an_object_with_much_in_it_is_a_short_line():
    empty = pd.DataFrame()
    result = matchlens.Result(LONG, {}, {}, (), empty, empty, {LONG: empty})
    many = "Q->D#" + ",".join(f"{layer}.0" for layer in range(500))
    heads = Pairing(LONG, {"a" * 999: LONG}), Serving(prompt=LONG, files=(LONG,) * 99)
    for one in (
        *heads,
        Pair(LONG, LONG, LONG, LONG, 1, collection=LONG),
        Pair(*["\N{RIGHT-TO-LEFT OVERRIDE}" * 999] * 4, 1),
        Cut.parse(many),
        Cut.parse("+".join(f"Q->D{'+D->Q' * 20}" for _ in range(9))),
        Direction.parse("{CLS," + ",".join(f"PART_{'X' * 30}{n}" for n in range(9)) + "}->Q"),
        result,
        matchlens.Study({LONG: result}, {}),
    ):
        assert len(repr(one)) <= 200, repr(one)
        assert repr(one).isprintable()
    for text in ("Q->D", "Q->D+{Q,D}->D@0:8~mask", ""):
        assert eval(repr(Cut.parse(text)), {"Cut": Cut}) == Cut.parse(text)


# --- what stands for a model, a measure, an arrow


def test_a_folder_and_a_cross_encoder_stand_for_a_model(tiny_folder, tiny32):
    pairs = graded()
    expected = matchlens.score(tiny32, pairs, ["Q->D"])
    for model in (str(tiny_folder), tiny_folder, CrossEncoder(tiny_folder)):
        found = matchlens.score(model, pairs, ["Q->D"])
        assert found.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-5)
    with pytest.raises(InputError, match="no-such-model"):
        matchlens.score("no-such-model", pairs)


MEASURES = [  # no dict: two of them are equal to their library
    (ir_measures.nDCG @ 10, "nDCG@10"),
    (ir_measures.P(rel=1) @ 3, "P(rel=1)@3"),
    (ir_measures.P @ 3, "P(rel=2)@3"),
    (ir_measures.nDCG(dcg="exp-log2") @ 5, "nDCG(dcg='exp-log2')@5"),
    (ir_measures.AP(rel=3), "AP(rel=3)"),
]


@pytest.mark.parametrize(("measure", "name"), MEASURES, ids=[name for _, name in MEASURES])
def test_a_measure_may_be_an_object_of_ir_measures(tiny, measure, name):
    """Its rel=1 is kept, which the library's own text leaves out."""
    pairs = graded()
    by_object = matchlens.ablation(tiny, pairs, cuts=["Q->D"], measure=measure)
    assert by_object.options["measure"] == name
    by_text = matchlens.ablation(tiny, pairs, cuts=["Q->D"], measure=name)
    assert by_object.to_frame().equals(by_text.to_frame())


def test_judgements_of_0_and_1_count_1_as_relevant_where_nothing_is_said(tiny):
    rows = [("q", "warm tea", f"{'cat ' * (n + 1)}", n % 3 == 0) for n in range(9)]
    frame = pd.DataFrame(rows, columns=["qid", "query", "text", "label"])
    result = matchlens.ablation(tiny, frame, cuts=["Q->D"], measure="RR@10")
    assert result.options["measure"] == "RR(rel=1)@10"


def test_an_arrow_is_read_as_the_grammar_s():
    assert Cut.parse("Q\N{RIGHTWARDS ARROW}D @0:3") == Cut.parse("Q->D@0:3")
    assert str(Cut.parse("{Q,D}\N{RIGHTWARDS ARROW}All")) == "{Q,D}->All"
    with pytest.raises(InputError, match="at character 3, 'X'"):
        Cut.parse("Q\N{RIGHTWARDS ARROW}X")

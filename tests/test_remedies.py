"""Every error of the package is provoked once, and then what its message says is done."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path

import ir_datasets
import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from ir_datasets.formats import GenericQuery
from matplotlib.figure import Figure

import circuits_reference as reference
import matchlens
import matchlens.cli
import remedies_of_collections
import remedies_of_explain
import remedies_of_gates
import remedies_of_models
import remedies_of_own
import remedies_of_results
import remedies_of_serve
import test_figures as curves
import test_figures_attention as scatters
import test_figures_sets as sets
import tiny as tiny_models
import tiny_decoders
from matchlens import (
    Cut,
    Direction,
    InputError,
    Part,
    arguments,
    circuits,
    figures,
    ranking,
)
from matchlens.files import Folder
from matchlens.meters.attention import AttentionMeter, Reading
from matchlens.models.words import Static
from matchlens.plan import Control, Plan
from matchlens.ranking import Candidates, evaluate, parse_measure
from matchlens.report import page
from matchlens.studies.attention.contrasts import Thresholds
from matchlens.studies.claims.evidence import evidence
from matchlens.studies.compare_runs import check_new
from matchlens.studies.sizes import chosen_studies, size
from matchlens.studies.study import Shared
from matchlens.studies.wexir25 import beside_the_paper
from remedies import C, after, example, found, least, listed, numbers, provoke, sites, warned
from test_cli import listing, write_collection
from test_corpora_irds import Doc, Docs, Qrels, Queries
from test_looking import graded, pair_set


def averaged_weights(model):
    """The first layer's weights, averaged over the distances of two pairs."""
    parts = model.encode([matchlens.Pair("q", "d", "cat sat", "sun rain cold", 0)]).parts
    longest = len(parts[0]) - 1
    turns = matchlens.qk.Turns.of(*model.family.turns(0, longest))
    shares = matchlens.qk.distances(parts, longest)["QD"]
    return matchlens.qk.averaged(model.family.qk(0), turns, shares)


class World:
    """What a person has: models, pairs, a collection in files, a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model_folder = tiny_models.save(folder / "model")
        self.model = matchlens.load(self.model_folder, device="cpu")
        self.pairs = graded()
        write_collection(folder, 1)
        names = {"--topics": "topics.tsv", "--qrels": "qrels.txt", "--passages": "passages.jsonl"}
        self.files = {option: folder / name for option, name in names.items()}
        self.outs = count()

    @cached_property
    def decoder(self):
        return matchlens.load(tiny_decoders.save(self.folder / "qwen3", "qwen3"), device="cpu")

    @cached_property
    def modernbert(self):
        return matchlens.load(tiny_models.save(self.folder / "modern", "modernbert"), device="cpu")

    def load(self, tokenizer=None, dtype: str = "float32"):
        """The model, saved anew with something else in its folder."""
        folder = tiny_models.save(self.folder / f"model{next(self.outs)}")
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        return matchlens.load(folder, dtype=dtype, device="cpu")

    def scaled(self, dtype: str):
        """The model, one weight of which is beyond the numbers that float16 knows."""
        model = matchlens.load(self.model_folder, dtype="float32", device="cpu")
        named = dict(model.family.module.named_parameters())
        (weight,) = (
            one for name, one in named.items() if name.endswith("0.attention.self.query.weight")
        )
        weight.data = (weight.data * 1e6).to(getattr(torch, dtype)).float()
        return replace(model, seen=None)  # as if it had been loaded so

    def base(self, **settings):
        """Another model of this shape or another."""
        return matchlens.load(self.saved(**settings), device="cpu")

    def saved(self, **settings) -> Path:
        return tiny_models.save(self.folder / f"model{next(self.outs)}", **settings)

    def with_tmpdir(self, where: str, folder: str, function):
        """Do it with another TMPDIR, which has no room if it is called full."""
        real = importlib.import_module(where.rpartition(".")[0]).__dict__[where.rpartition(".")[2]]

        opened = real.__init__

        def init(array: object, path: Path, *shape: object) -> None:
            if "full" in path.parts:
                raise OSError(28, "No space left on device")
            opened(array, path, *shape)

        Path(folder).mkdir()
        self.patch.setattr(real, "__init__", init)
        self.patch.setenv("TMPDIR", folder)
        self.patch.setattr(tempfile, "tempdir", None)
        return function()

    @staticmethod
    def overflows(dtype: str) -> float:
        """A number that float16 cannot hold, and float32 can."""
        return float(torch.tensor(1e6).to(getattr(torch, dtype)))

    def run_file(self) -> Path:
        """A TREC run of the first passages."""
        rows = (f"q{q} Q0 1-p{4 * n + q} {n + 1} {9 - n} x\n" for q in range(4) for n in range(3))
        path = Path(f"run{next(self.outs)}.txt")
        path.write_text("".join(rows))
        return path

    def copy_of(self, option: str, at: int, same: str = "") -> Path:
        """A file of the collection once more, in another folder or under another name."""
        path = Path(f"{at}{self.files[option].name}")
        if same:
            path = Path(f"{at}" if option == "--qrels" else "x", same + ".tsv")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.files[option].read_bytes())
        return path

    @property
    def words(self) -> list[str]:
        return [str(word) for couple in self.files.items() for word in couple]

    def command(self, capfd, words: list[str], leaves: bool = False) -> str:
        """Run a command; one that is refused in one line with status 2 is an InputError."""
        here = listing(Path())
        status = matchlens.cli.main(words)
        out, err = capfd.readouterr()
        if status == 0:
            return out
        assert status == 2, err
        assert leaves or listing(Path()) == here
        asked, name, line = err.splitlines()[-1].partition("matchlens: ")
        assert name
        assert not asked or "[y/N]" in asked
        raise InputError(line)

    def results(self, study: str = "ablation") -> Path:
        """A results folder with a study."""
        folder = self.folder / f"results-{study}"
        if not folder.exists():
            if study == "attention":
                matchlens.attention(self.model, self.pairs, **Q_A).save(folder)
            elif study == "comparison":
                matchlens.compare([self.results(), self.results("second")]).save(folder)
            else:
                matchlens.ablation(self.model, self.pairs, cuts=["Q->D"]).save(folder)
        return folder


def beir_study(world: World, changed: dict) -> str:
    """What a study of a folder in BEIR's form would cost."""
    remedies_of_collections.beirs(world, "right")
    none = dict.fromkeys(world.files)
    return ABLATION(world, {**none, "--dataset": "right", "--explain": True, **changed})


def cli(name: str, *more: str, **fixed):
    """A command on the tiny model and the files; a case's value changes its options."""

    def call(world: World, changed: Mapping[str, object] | tuple) -> str:
        options: dict[str, object] = {"-m": world.model_folder, **world.files, **fixed}
        if name != "score":
            options["--out"] = f"out{next(world.outs)}"
        extra: tuple = ()
        if isinstance(changed, tuple):
            changed, *extra = changed
        options.update(changed)
        words = [name, *more]
        for option, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                words += [] if one is None else [option] if one is True else [option, str(one)]
        return world.command(world.capfd, [*words, *extra, *(["-q"] if name != "score" else [])])

    return call


def of(function, name: str | None = None, *given, **fixed):
    """A call whose one argument is the case's value; of the last name where none is given."""

    def call(_: World, value: object) -> object:
        return function(*given, value, **fixed) if name is None else function(
            *given, **{name: value}, **fixed
        )  # fmt: skip

    return call


def study(function, *given, **fixed):
    """A study of the tiny model on a few pairs; the case's value is its options."""
    return lambda world, value: function(world.model, world.pairs, *given, **fixed, **value)


def written(m: str) -> list[list[str]]:
    """What a message says to write instead."""
    return [ast.literal_eval(m.rpartition("write ")[2])]


Q_D = Direction.parse("Q->D")
MANY = ("Q->D@0,x", "Q->D@1:0", "Q->D@1 2")


def parses(*wrong: str, where: str, words: str = "") -> list[C]:
    """Texts that are no cuts; the message shows one that is."""
    return [
        C(f"directions.py:_Parser.{where}", words, of(Cut.parse), text, example) for text in wrong
    ]


def wholes(m: str) -> list[str]:
    """Directions in the layers that a message names, and in the ways of cutting."""
    at = re.search(r"'(@[\d,]+)'", m)
    hows = [f"Q->D~{how}" for how in listed(m)[1:]]
    return [*hows, *([f"Q->D{at[1]}~sink"] if at else [])]


PARTS_AND_CUTS = [
    C("parts.py:Part.parse", "is no part", of(Part.parse), "X", listed),
    C(
        "parts.py:label",
        "gives no token",
        lambda w, v: matchlens.score(w.model, [("a cat", v)]),
        "\u200b",
        ["it sat"],
    ),
    C(
        "parts.py:label",
        "puts the passage before the query",
        lambda w, v: w.load(tokenizer=tiny_models.tokenizer(template=v)),
        "[CLS] $B [SEP] $A:1 [SEP]:1",
        lambda m: [
            re.search(r"'(\[.*?)'", m)[1]
            .replace("query", "$A")
            .replace("passage [SEP]", "$B:1 [SEP]:1")
        ],
    ),
    C("directions.py:Direction.parse", "", of(Direction.parse), "Q->D+D->Q", example),
    C(
        "directions.py:Cut.__post_init__",
        "how {",
        lambda _, v: Cut((Q_D,), how=v),
        "gone",
        listed,
    ),
    C(
        "directions.py:Cut.__post_init__",
        "only one of them",
        lambda _, v: Cut((Q_D,), **v),
        {"layers": (1,), "heads": ((1, 0),)},
        [{"heads": ((1, 0),)}, {"layers": (1,)}],
    ),
    C(
        "directions.py:Cut.__post_init__",
        "and no direction",
        lambda _, v: Cut(v, layers=(1,)),
        (),
        lambda m: [(Direction.parse(text),) for text in example(m)],
    ),
    C(
        "directions.py:Cut.__post_init__",
        "moves the removed mass to SEP2",
        of(Cut.parse),
        "Q->{D,SEP2}~sink",
        lambda m: ["Q->D~sink", *(f"Q->{{D,SEP2}}~{how}" for how in after("another how: ", m))],
    ),
    C(
        "directions.py:Cut.check",
        "layer {value} is",
        lambda _, v: Cut.parse(f"Q->D@{v}").check(3, 4),
        3,
        numbers,
    ),
    C(
        "directions.py:Cut.check",
        "head {value}.",
        lambda _, v: Cut.parse(f"Q->D#1.{v}").check(3, 4),
        4,
        numbers,
    ),
    C(
        "directions.py:_side",
        "a side",
        lambda _, v: Direction((v,), None),
        Part.OTHER,
        lambda m: [Part.parse(name) for name in re.search(r"parts (.*), as", m)[1].split(", ")],
    ),
    C(
        "directions.py:_not_negative",
        "",
        lambda _, v: Cut((Q_D,), layers=(v,)),
        -1,
        least,
    ),
    *parses("Q->D@1#0.1", "Q->D#0.1@1", where="cut", words="exclude each other"),
    *parses("Q->D;", "Q->D@0:8Q->Q", where="cut", words="} or the end"),
    *parses("Q>D", "Q-", where="direction", words="'->'"),
    *parses("CLS->DEC", where="direction", words="another part"),
    *parses("{Q}->D", where="side", words="braces hold two"),
    *parses("{Q,D->D", where="side", words="or '}'"),
    *parses("Q->X", "", where="part")[:1],
    *parses("Q->D@2:1", where="layers"),
    *parses("Q->D#1", where="heads"),
    *parses("Q->D~gone", where="how"),
    *parses("Q->D@1 2", where="number", words="no space"),
    *parses("Q->D@x", "Q->D@99999", where="number", words="{value}"),
]


def planned(_: World, conditions: Mapping[str, list[object]]) -> object:
    return Plan.build(conditions, layers=3, heads=4)


def control(_: World, given: tuple[str, str]) -> Control:
    return Control(Cut.parse(given[0]), given[1], 0)


def scored_as(w: World, given: tuple[str, str]) -> object:
    return matchlens.score(getattr(w, given[0]), w.pairs.pairs, [given[1]])


ENGINE = [
    C(
        "plan.py:Control.__post_init__",
        "is not known",
        control,
        ("Q->D", "luck"),
        lambda m: [("Q->D", kind) for kind in listed(m)],
    ),
    C(
        "plan.py:Control.__post_init__",
        "cannot be controlled",
        control,
        ("Q->D~mean", "mass"),
        lambda m: [(f"Q->D~{how}", "mass") for how in after("expected how ", m, " or ")],
    ),
    C(
        "plan.py:Control.__post_init__",
        "no row loses any",
        control,
        ("Q->D~mask", "rows"),
        [("Q->D~zero", "rows"), ("Q->D~mask", "edges"), ("Q->D~mask", "mass")],
    ),
    C(
        "plan.py:LayerCut.of",
        "a condition of their own",
        planned,
        {"x": [Control(Cut.parse("Q->D"), "mass", 0), Cut.parse("D->D")]},
        [{"x": [Control(Cut.parse("Q->D"), "mass", 0)], "y": [Cut.parse("D->D")]}],
    ),
    C(
        "plan.py:LayerCut.of",
        "is cut in two ways",
        planned,
        {"x": [Cut.parse("Q->D"), Cut.parse("Q->{Q,D}~mask")]},
        [{"x": [Cut.parse("Q->D~mask"), Cut.parse("Q->{Q,D}~mask")]}],
    ),
    C(
        "plan.py:Plan.build",
        "",
        planned,
        {},
        lambda m: [ast.literal_eval(m.partition("for example ")[2])],
    ),
    C(
        "engine.py:checked_budget",
        "",
        lambda w, v: matchlens.score(w.model, w.pairs.pairs, batch_tokens=v),
        0,
        lambda m: [*least(m), *map(int, example(m))],
    ),
    C(
        "engine.py:_check_sink",
        "is a prompt",
        scored_as,
        ("decoder", "Q->Q~sink"),
        lambda m: [("decoder", f"Q->Q~{how}") for how in after("another how: ", m)],
    ),
    C(
        "engine.py:_check_sink",
        "not every token may read",
        scored_as,
        ("modernbert", "Q->D~sink"),
        lambda m: [
            *(("modernbert", f"Q->D~{how}") for how in after("another how: ", m)),
            ("modernbert", f"Q->D{m.rpartition(': ')[2].strip(chr(39))}~sink"),
        ],
    ),
    C(
        "engine.py:other_pairs",
        "",
        lambda w, v: matchlens.score(w.model, v[0], [f"Q->D~{v[1]}"]),
        ([("cat", "a cat sat")], "resample"),
        lambda m: [
            ([("cat", "a cat sat"), ("cat", "tea")], "resample"),
            *(([("cat", "a cat sat")], how) for how in after("another how: ", m)),
        ],
    ),
]

QK = reference.random_qk
STATES = np.ones((2, 10))


def mean_states(_: World, given: tuple) -> object:
    """Mean states of 2 layers of a query's pair: the layers observed, and what they hold."""
    layers, factor = given
    states, parts = reference.batch(pairs=1)
    meter = circuits.MeanStates(2, 10)
    for layer in layers:
        meter.observe(layer, ["a"], ["hard"], states * factor, parts)
    return meter.result()


def observed(_: World, given: tuple) -> object:
    queries, classes, part = given
    states, parts = reference.batch(pairs=1)
    parts = parts if part is None else torch.full_like(parts, part)
    return circuits.MeanStates(1, 10).observe(0, queries, classes, states, parts)


def hypothesis(*factors: float) -> circuits.Hypothesis:
    meter = circuits.Hypothesis([QK()], STATES[:1], STATES[:1])
    for factor in factors:
        states, parts = reference.batch()
        meter.observe(0, states * factor, parts)
    return meter


NUMBERS = np.random.default_rng(0).normal(size=(3, 4))

CIRCUITS = [
    C(
        "qk/algebra.py:Triplets.alignment",
        "",
        lambda _, v: circuits.triplets(QK()).alignment(v),
        "some",
        listed,
    ),
    C(
        "qk/algebra.py:check_head",
        "",
        lambda _, v: circuits.strongest_matches(QK(), v, *[torch.ones(2, 10)] * 2),
        3,
        numbers,
    ),
    C(
        "qk/association.py:_check",
        "has shape",
        lambda _, v: circuits.spearman(NUMBERS, v, permutations=9, resamples=9),
        NUMBERS[:2],
        lambda m: [np.ones(ast.literal_eval(re.search(r"expected (\(.*?\))", m)[1]))],
    ),
    C(
        "qk/association.py:_check",
        "to correlate over",
        lambda _, v: circuits.spearman(
            *2 * [np.arange(1.0 * v)[None]], permutations=9, resamples=9
        ),
        2,
        numbers,
    ),
    C(
        "qk/association.py:_check",
        "NaN or infinite",
        lambda _, v: circuits.spearman(v, v, permutations=9, resamples=9),
        np.where(np.arange(3)[:, None] == 1, np.nan, NUMBERS),
        [NUMBERS[[0, 2]]],
    ),
    C(
        "qk/association.py:_check",
        "permutations is",
        lambda _, v: circuits.spearman(NUMBERS, NUMBERS, permutations=v[0], resamples=v[1]),
        (0, 0),
        lambda m: [(1, 1), tuple(map(int, re.search(r"example (\d+) and (\d+)", m).groups()))],
    ),
    C(
        "qk/controls.py:gaussian_null",
        "",
        lambda _, v: circuits.gaussian_null(QK(), draws=v),
        0,
        lambda m: [*least(m), *map(int, example(m))],
    ),
    C(
        "qk/controls.py:crossed",
        "",
        lambda _, v: v[0](QK(heads=2, keys=v[1])),
        (circuits.crossed, 1),
        lambda m: [
            (circuits.crossed, least(m)[0]),
            (circuits.gaussian_null, 1),
            (lambda qk: circuits.rotation_null(circuits.triplets(qk)), 1),
        ],
    ),
    C(
        "qk/algebra.py:factors",
        "",
        lambda w, v: circuits.alignment(w.scaled(v).family.qk(0)),
        "float16",
        ["float32"],
    ),
    C(
        "qk/algebra.py:refuse_rope",
        "",
        lambda w, v: v(w),
        lambda w: matchlens.qk.alignment(w.modernbert.family.qk(0)),
        [
            lambda w: matchlens.circuits(w.modernbert, w.pairs),
            lambda w: matchlens.qk.alignment(averaged_weights(w.modernbert)),
        ],
    ),
    C(
        "qk/hypothesis.py:Hypothesis.result",
        "no token pair",
        lambda _, v: hypothesis(*v).result(),
        (),
        [(1,)],
    ),
    C(
        "qk/hypothesis.py:Hypothesis.result",
        "NaN or infinite",
        lambda w, v: hypothesis(w.overflows(v)).result(),
        "float16",
        lambda m: [m.rpartition("dtype ")[2]],
    ),
    C(
        "qk/mean_logits.py:MeanLogits.contrast",
        "",
        lambda _, v: circuits.mean_logits([QK(), QK()], STATES, STATES).contrast(v),
        "DD-QD",
        listed,
    ),
    C(
        "qk/mean_logits.py:check_means",
        "is empty",
        lambda _, v: circuits.mean_logits(v * [QK()], STATES[:1], STATES[:1]),
        0,
        least,
    ),
    C(
        "qk/mean_logits.py:check_means",
        "have shape",
        lambda _, v: circuits.mean_logits([QK()], np.ones(v), np.ones(v)),
        (1, 9),
        lambda m: [ast.literal_eval(re.search(r"expected (\(.*?\))", m)[1])],
    ),
    C(
        "qk/mean_logits.py:check_means",
        "NaN or infinite",
        lambda w, v: circuits.mean_logits([QK()], STATES[:1] * w.overflows(v), STATES[:1]),
        "float16",
        lambda m: [m.rpartition("in ")[2]],
    ),
    C(
        "qk/mean_states.py:MeanStates.observe",
        "",
        observed,
        (["a"], [], None),
        [(["a"], ["hard"], None)],
    ),
    C(
        "qk/mean_states.py:MeanStates.result",
        "by layer",
        mean_states,
        ([0], 1),
        [([0, 1], 1)],
    ),
    C("qk/mean_states.py:MeanStates.result", "no pair", mean_states, ([], 1), [([0, 1], 1)]),
    C(
        "qk/mean_states.py:MeanStates.result",
        "NaN or infinite",
        lambda w, v: mean_states(w, ([0, 1], w.overflows(v))),
        "float16",
        lambda m: [m.rpartition("dtype ")[2]],
    ),
    C(
        "qk/mean_states.py:part_means",
        "",
        observed,
        (["a"], ["hard"], int(Part.D)),
        [(["a"], ["hard"], None)],
    ),
    C(
        "qk/vocabulary.py:_check",
        "top is",
        lambda _, v: circuits.strongest_matches(QK(), 0, *[torch.ones(2, 10)] * 2, top=v),
        0,
        lambda m: [*least(m), *map(int, example(m))],
    ),
    C(
        "qk/vocabulary.py:_check",
        "have shape",
        lambda _, v: circuits.strongest_matches(QK(), 0, *[torch.ones(v)] * 2),
        (2, 9),
        lambda m: [ast.literal_eval(re.search(r"expected (\(.*?\))", m)[1])],
    ),
    C(
        "qk/vocabulary.py:_check",
        "NaN or infinite",
        lambda w, v: circuits.strongest_matches(QK(), 0, *[torch.ones(2, 10) * w.overflows(v)] * 2),
        "float16",
        lambda m: [m.rpartition("in ")[2]],
    ),
]


def query(*grades: int) -> Candidates:
    return Candidates("dl19", "1", np.arange(len(grades)), *2 * [np.array(grades)])


def measure(_: World, text: str) -> object:
    return parse_measure(text)


def evaluated(_: World, given: tuple) -> object:
    text, grades, options = given
    return evaluate(parse_measure(text), [query(*grades)], np.zeros(len(grades)), **options)


def compared(_: World, given: tuple[int, dict]) -> object:
    values = np.linspace(0, 1, given[0])
    return ranking.compare(values[None], values, ["a"] * len(values), **given[1])


def without_values(w: World, text: str) -> object:
    """The library has no value for some measures and queries; none of nDCG comes from it."""
    import ir_measures

    w.patch.setattr(ir_measures, "iter_calc", lambda *_: iter(()))
    return evaluated(w, (text, (1, 0), {}))


def not_installed(w: World, text: str) -> object:
    """A measure that nothing computes which is there."""
    import ir_measures

    w.patch.setattr(ir_measures.DefaultPipeline, "supports", lambda one: "SDCG" not in str(one))
    return parse_measure(text)


def instead(m: str) -> list[str]:
    """Other measures; what the message says to install is what ir_measures knows."""
    named = re.search(r"pip install ([\w-]+)", m)[1]
    assert any(one.startswith(named) for one in importlib.metadata.requires("ir_measures") or ())
    return another(m)


def without_ray(w: World, installed: str | None) -> str:
    """A cluster without Ray; then with what the message says to install, which holds Ray."""
    if installed is not None:
        name, extra = installed.rstrip("]").split("[")
        wanted = importlib.metadata.requires(name) or ()
        assert any(
            one.startswith("ray") and f"extra == '{extra}'" in one.replace('"', "'")
            for one in wanted
        )
    here = importlib.util.find_spec("ray")
    w.patch.setattr("matchlens.cli.job.find_spec", lambda _: here if installed else None)
    return cli("ablation", **{"--dry-run": True})(w, {"--runner": "ray"})


def another(m: str) -> list[str]:
    """The measures that a message gives as examples."""
    return m.rpartition("(e.g. ")[2][:-1].replace(" or ", ", ").split(", ")


MEASURES = "ranking/measures.py:"
SWEEP_POINTS, PLAIN = (
    "studies/cuts/sweeps.py:sweep_points",
    "studies/cuts/cut_modes.py:plain_directions",
)
RANKING = [
    C(
        MEASURES + "parse_measure",
        "rel is",
        lambda _, v: parse_measure("P@10", rel=v),
        0,
        lambda m: [*least(m), *map(int, example(m))],
    ),
    C(MEASURES + "parse_measure", "twice", measure, "P(cutoff=3)@10", ["P@10"]),
    C(
        MEASURES + "parse_measure",
        "has no option",
        measure,
        "P(gain=3)@10",
        lambda m: [
            *another(m),
            *(f"P({name}=1)" + "@10" * (name != "cutoff") for name in after("expected ", m)[:2]),
        ],
    ),
    C(MEASURES + "parse_measure", "judged_only", measure, "P(judged_only=True)@10", ["P@10"]),
    C(
        MEASURES + "parse_measure",
        "needs",
        measure,
        "P",
        lambda m: [re.search(r"write (\S+)", m)[1]],
    ),
    C(MEASURES + "_split", "cannot be read", measure, "P@@10", another),
    C(MEASURES + "_split", "twice", measure, "P(rel=1,rel=2)@10", ["P(rel=1)@10"]),
    C(
        MEASURES + "_kind",
        "is called",
        measure,
        "ndcg@10",
        lambda m: [f"{one}@10" for one in re.search("expected (.*), spelt", m)[1].split(" or ")],
    ),
    C(MEASURES + "_kind", "is refused", measure, "Bpref", another),
    C(MEASURES + "_checked", "", measure, "RBP(p=2)", lambda m: [f"RBP(p={example(m)[0]})"]),
    C(
        MEASURES + "_check_whole",
        "both gains",
        measure,
        "nDCG(gains={3:7}, dcg='exp-log2')",
        ["nDCG(gains={3:7})", "nDCG(dcg='exp-log2')"],
    ),
    C(
        MEASURES + "_check_whole",
        "min_rel is",
        not_installed,
        "INST(max_rel=0)",
        ["INST(max_rel=3)"],
    ),
    C(MEASURES + "_check_whole", "no installed", not_installed, "SDCG(max_rel=3)@10", instead),
    C("ranking/orders.py:_flush", "", without_values, "RR", example),
    C(
        "ranking/orders.py:_check_err",
        "",
        evaluated,
        ("ERR@10", (5, 0), {}),
        lambda m: [("ERR@10", (numbers(m)[0], 0), {}), (example(m)[0], (5, 0), {})],
    ),
    C("ranking/significance.py:compare", "no query", compared, (0, {}), [(3, {})]),
    C(
        "ranking/significance.py:compare",
        "alpha is",
        compared,
        (3, {"alpha": 5.0, "resamples": 0}),
        [(3, {"alpha": 0.05, "resamples": 1}), (3, {"alpha": 0.05, "resamples": 10000})],
    ),
    C(
        "ranking/ties.py:rank",
        "",
        lambda _, v: evaluate(parse_measure("AP"), [query(1, 0)], np.zeros(2), tie_tol=float(v)),
        "nan",
        lambda m: [*example(m), "0"],
    ),
    C(
        "ranking/ties.py:_scores_of",
        "",
        lambda w, v: evaluate(parse_measure("AP"), [query(1, 0)], np.ones(2) * w.overflows(v)),
        "float16",
        lambda m: [re.search(r"in (float\d+)", m)[1]],
    ),
]


PAGE = "figures/page.py:"
CURVE = curves.curve_table(["Q->D"])
AXES = Figure(figsize=(4, 4)).subplots()


def draws(function, **fixed):
    """A figure of a table; the case's value is the table, or a change of the options."""
    return lambda _, v: function(**{**fixed, **v}) if isinstance(v, dict) else function(v, **fixed)


FIGURES = [
    C(
        "figures/lines.py:layer_curves",
        "kind {",
        draws(curves.curves, table=CURVE),
        {"kind": "upto"},
        lambda m: [{"kind": kind} for kind in listed(m)],
    ),
    C(
        "figures/lines.py:layer_curves",
        "has several numbers",
        draws(curves.curves),
        CURVE.assign(original=np.arange(len(CURVE)) / 10),
        [CURVE],
    ),
    C(
        "figures/distributions.py:class_distributions",
        "",
        lambda _, v: sets.distributions(sets.bins_table(classes=v)),
        tuple("abcdefgh"),
        lambda m: [
            tuple(re.search("such as (.*)", m)[1].split(", ")),
            tuple("abcdefgh")[: numbers(m)[0]],
        ],
    ),
    C(
        "figures/distributions.py:_heads",
        "negative numbers",
        draws(sets.distributions),
        sets.bins_table().assign(count=-1),
        [sets.bins_table().assign(count=0)],
    ),
    C(
        "figures/distributions.py:_heads",
        "panels",
        lambda _, v: [sets.distributions(sets.bins_table(panels=n)) for n in v],
        [9],
        lambda m: [[numbers(m)[0], 9 - numbers(m)[0]]],
    ),
    C(
        "figures/distributions.py:_heads",
        "have gaps",
        draws(sets.distributions),
        sets.shifted(sets.bins_table()),
        [sets.bins_table()],
    ),
    C(
        "figures/files.py:save",
        "cannot name",
        lambda _, v: figures.save(curves.curves(CURVE), Path(), v),
        "../x",
        example,
    ),
    C(
        "figures/files.py:save",
        "cannot write",
        lambda _, v: (Path("file").touch(), figures.save(curves.curves(CURVE), Path(v), "x")),
        "file/in",
        ["in"],
    ),
    C(
        "figures/heads.py:head_map",
        "",
        lambda _, v: figures.head_map(curves.head_table(2, 2), **v),
        {},
        lambda m: [{name: words} for name, words in re.findall(r"(\w+)='([^']*)'", m)],
    ),
    C(
        PAGE + "Page.__init__",
        "matplotlib axes",
        draws(curves.curves, table=CURVE),
        {"ax": "axes"},
        [{"ax": AXES}],
    ),
    C(
        PAGE + "Page.grow",
        "",
        lambda _, v: curves.curves(CURVE, ax=Figure(figsize=(4, v)).subplots()),
        0.5,
        [4],
    ),
    C(
        "showing.py:Shows.plot",
        "",
        lambda w, v: matchlens.sweep(w.model, w.pairs, "up-to", directions=["Q->D"]).plot(**v),
        {"colour": "red"},
        [{"title": "a title"}, {"width": "page"}, {"caption": True}, {"ax": AXES}],
    ),
    C(
        PAGE + "Page.__init__",
        "width",
        draws(curves.curves, table=CURVE),
        {"width": "wide"},
        lambda m: [{"width": width} for width in listed(m)],
    ),
    C(
        PAGE + "required",
        "has no column",
        lambda _, v: curves.curves(CURVE[v]),
        ["direction"],
        lambda m: [after("expected ", m)],
    ),
    C(PAGE + "required", "has no rows", draws(curves.curves), CURVE[:0], [CURVE]),
    C(
        PAGE + "required",
        "has several rows",
        draws(curves.curves),
        pd.concat([CURVE, CURVE[:1]]),
        [CURVE],
    ),
    C(PAGE + "numbers", "holds no numbers", draws(curves.curves), CURVE.assign(mean="x"), [CURVE]),
    C(
        PAGE + "numbers",
        "has NaN",
        draws(curves.curves),
        CURVE.assign(mean=np.nan),
        [CURVE],
    ),
    C(PAGE + "integers", "", draws(curves.curves), CURVE.assign(n=CURVE["n"] - 1), [CURVE]),
    C(
        "figures/heads.py:_points",
        "",
        draws(scatters.scatter, **scatters.COLOUR),
        scatters.scatter_table().assign(same=np.inf),
        [scatters.scatter_table().assign(same=np.nan), scatters.scatter_table()],
    ),
    C(
        "figures/rows.py:_own",
        "",
        draws(sets.sets),
        sets.set_table().query("draw != -1"),
        [sets.set_table()],
    ),
    C(
        "figures/rows.py:shares",
        "",
        lambda _, v: [figures.shares(sets.share_table(bars=n)) for n in v],
        [99],
        lambda m: [[numbers(m)[0]]],
    ),
    C(
        "figures/rows.py:_bars",
        "",
        lambda _, v: figures.shares(v),
        sets.share_table()[1:],
        [sets.share_table()],
    ),
]
Q_A = {"most_pairs": None, "causal": False, "meters": ["mass"]}
SWEEPS = {"layers": 3, "heads": 4, "directions": ["Q->D"]}


def points(_: World, given: dict) -> object:
    return matchlens.sweep_points(**{"kind": "only", **SWEEPS, **given})


def sets_of(w: World, given: dict) -> object:
    given = {"sets": {"a": "0.1"}, "random": 100, "cuts": None, **given}
    return matchlens.head_sets(
        w.model, w.pairs, given["sets"], random=given["random"], directions=given["cuts"]
    )


def graded_as(w: World, *grades: int, **others: int):
    """The pairs, with other grades."""
    kept = [replace(pair, grade=others.get(str(pair.grade), pair.grade)) for pair in w.pairs.pairs]
    return pair_set([pair for pair in kept if not grades or pair.grade in grades])


def all_of_grade_1(w: World):
    """Candidates of grade 1 only; the queries' ideal rankings have more."""
    return replace(graded_as(w, **{"3": 1, "0": 1, "-1": 1}), ideals=w.pairs.ideals)


def attends(w: World, given: tuple) -> object:
    grades, options = given
    return matchlens.attention(w.model, graded_as(w, *grades), **{**Q_A, **options})


def attends_with_few_words(w: World, given: dict) -> object:
    """A model whose words are all spelt letter by letter."""
    w.patch.setattr("matchlens.models.words._whole", lambda _: [])
    return attends(w, ((), given))


def look(w: World, given: dict) -> object:
    given = {"cuts": ["Q->D"], "pairs": w.pairs, **given}
    return matchlens.look(w.model, **given)


def scores_of(w: World, **changed: object) -> pd.DataFrame:
    scores = matchlens.score(w.model, w.pairs.pairs, ["Q->D"]).melt(
        var_name="cut", value_name="score"
    )
    return scores.assign(**{"pair": np.tile(np.arange(len(w.pairs.pairs)), 2), **changed})


def halves(w: World, given: tuple) -> object:
    """Circuits on queries that all fall into one half, or into both."""
    from matchlens.studies.common import half

    which, seeds = given
    kept = [pair for pair in w.pairs.pairs if which is None or half(pair.qid, 0) == which]
    for seed in seeds:
        try:
            return matchlens.circuits(w.model, pair_set(kept), seed=seed, top=0)
        except InputError:
            if seed == seeds[-1]:
                raise
    return None


def announced(w: World, *cuts: str) -> None:
    """Two studies announce a condition each, both under one name."""
    shared = Shared()
    for cut in cuts:
        shared.announce(w.pairs.pairs, {cuts[0]: [Cut.parse(cut)]})


STUDIES = [
    C(
        "meters/attention.py:AttentionMeter.__init__",
        "",
        lambda w, v: AttentionMeter([v], {}, Reading(Static.of(w.model), lambda _: None)),
        "luck",
        listed,
    ),
    C(
        "meters/scores.py:Scores.observe",
        "",
        lambda w, v: matchlens.score(w.scaled(v), w.pairs.pairs),
        "float16",
        lambda m: [re.search(r"dtype (\w+)", m)[1]],
    ),
    C(
        "report/notebook.py:result_figure",
        "has no figure",
        lambda w, v: v(look(w, {"looks": 1})),
        lambda result: result.plot(),
        lambda m: [
            lambda result: [
                result.to_frame(name) for name in m.rpartition("one of ")[2].split(", ")
            ]
        ],
    ),
    C(
        "report/notebook.py:result_figure",
        "there is no figure",
        lambda w, v: matchlens.sweep(w.model, w.pairs, "up-to", directions=["Q->D"]).plot(v),
        "seven",
        lambda m: m.rpartition("one of: ")[2].split(", "),
    ),
    C(
        "studies/claims/claims.py:_check_alike",
        "for a result of",
        lambda w, v: matchlens.claims({v: matchlens.ablation(w.model, w.pairs, cuts=["Q->D"])}),
        "Ablation",
        lambda m: [re.search(r"the study '([^']+)'", m)[1]],
    ),
    C(
        "studies/claims/claims.py:_check_alike",
        "other pairs than",
        lambda w, v: matchlens.claims(
            {
                "ablation": matchlens.ablation(w.model, w.pairs[: v[0]], cuts=["Q->D"]),
                "sweep-only": matchlens.sweep(
                    w.model, w.pairs[: v[1]], "only", directions=["Q->D"]
                ),
            }
        ),
        (24, 12),
        [(12, 12)],
    ),
    C(
        "ranking/effects.py:check_margin",
        "",
        lambda w, v: matchlens.write_report(w.results(), margin=float(v)),
        "-1",
        example,
    ),
    C(
        "studies/attention/contrasts.py:Thresholds.__post_init__",
        "from 0 to 1",
        lambda _, v: Thresholds(q=v),
        2.0,
        lambda m: list(map(float, numbers(m))),
    ),
    C(
        "studies/attention/contrasts.py:Thresholds.__post_init__",
        "from 1 on",
        lambda _, v: Thresholds(lexical=v),
        0.5,
        lambda m: list(map(float, least(m))),
    ),
    C(
        "studies/comparing.py:compare_heads",
        "cannot be compared",
        lambda w, v: matchlens.compare_heads(
            *2 * [v(matchlens.attention(w.model, graded(8), **Q_A))]
        ),
        lambda result: replace(
            result, tables={k: one for k, one in result.tables.items() if k != "conditions"}
        ),
        [lambda result: result],
    ),
    C(
        "studies/claims/evidence.py:evidence",
        "",
        lambda w, v: evidence(w.model, w.pairs, **v),
        {"redraws": [graded(2)], "rank_easy": True},
        [{"redraws": [graded(2)]}, {"rank_easy": True}],
    ),
    C(
        "models/words.py:Static.of",
        "",
        attends_with_few_words,
        {"meters": ["same_stem"]},
        [{"meters": ["mass"]}],
    ),
    C(
        "studies/attention/contrasts.py:checked_names",
        "is not known",
        attends,
        ((), {"meters": ["luck"]}),
        lambda m: [((), {"meters": listed(m)}), *(((), {"meters": [name]}) for name in listed(m))],
    ),
    C(
        "studies/attention/contrasts.py:checked_directions",
        "",
        attends,
        ((), {"directions": []}),
        lambda m: [((), {"directions": example(m)})],
    ),
    C(
        "studies/attention/contrasts.py:places",
        "",
        attends,
        ((), {"directions": ["Q->All"]}),
        lambda m: [((), {"directions": example(m)})],
    ),
    *(
        C(
            "studies/circuits/circuits.py:checked",
            f"{name} ",
            lambda w, v: matchlens.circuits(w.model, w.pairs, **{"top": 0, **v}),
            {name: wrong},
            lambda m, name=name, right=right: [{name: one} for one in right(m)],
        )
        for name, wrong, right in (
            ("contrast", "XX", listed),
            ("variant", "some", listed),
            ("top", -1, lambda m: [1, 0]),
            ("matches", 0, least),
        )
    ),
    *(
        C(
            "studies/circuits/circuits.py:named_heads",
            words,
            lambda w, v: matchlens.circuits(w.model, w.pairs, heads=v),
            wrong,
            lambda m: [[one.replace("8.", "2.").replace("4.9", "1.3")] for one in example(m)],
        )
        for words, wrong in (("head {", ["x"]), ("no head", []))
    ),
    *(
        C(
            "studies/circuits/circuits.py:checked_halves",
            words,
            halves,
            (which, [0]),
            [(None, [0]), (which, range(20))],
        )
        for words, which in (("mean states", 1), ("colours", 0))
    ),
    C(
        "studies/circuits/circuits.py:check_shapes",
        "",
        lambda w, v: matchlens.circuits(w.model, w.pairs, top=0, base=w.saved(**v)),
        {"hidden_size": 64},
        [{"seed": 5}],
    ),
    C(
        "studies/comparing.py:compare_heads",
        "has no list",
        lambda w, v: matchlens.compare_heads(
            *2 * [matchlens.attention(w.model, graded(*v), **Q_A)]
        ),
        (1,),
        [(8,)],
    ),
    C(
        "studies/comparing.py:compare_heads",
        "the models have",
        lambda w, v: matchlens.compare_heads(
            *(matchlens.attention(one, graded(8), **Q_A) for one in (w.model, v(w)))
        ),
        lambda w: w.base(layers=2),
        [lambda w: w.base(seed=5)],
    ),
    C(
        "studies/comparing.py:_opened",
        "to compare",
        lambda w, v: matchlens.compare([w.results(name) for name in v]),
        ["ablation"],
        [["ablation", "second"]],
    ),
    C(
        "studies/comparing.py:_opened",
        "is given twice",
        lambda w, v: matchlens.compare([w.results(name) for name in v]),
        ["ablation", "ablation"],
        [["ablation", "second"]],
    ),
    C(
        "studies/comparing.py:_opened",
        "in common",
        lambda w, v: matchlens.compare([w.results(name) for name in v]),
        ["ablation", "attention"],
        [["ablation", "attention", "second"]],
    ),
    C(
        "studies/comparing.py:_check_identity",
        "holds a comparison",
        lambda w, v: matchlens.compare([w.results(name) for name in v]),
        ["ablation", "comparison"],
        [["ablation", "second"]],
    ),
    *(
        C(
            "studies/attention/contrasts.py:Classes.check",
            words,
            attends,
            wrong,
            [right],
        )
        for words, wrong, right in (
            ("passage; expected one: {", ((0, -1), {}), ((), {})),
            (
                "passage; expected one: {",
                ((3, -1), {"contrasts": ["relevant-hard"]}),
                ((), {"contrasts": ["relevant-hard"]}),
            ),
            ("passage; expected one: {", ((3, 0), {}), ((), {})),
        )
    ),
    C(
        "studies/attention/contrasts.py:sides",
        "",
        attends,
        ((), {"contrasts": ["easy"]}),
        lambda m: [((), {"contrasts": [one]}) for one in listed(m)],
    ),
    C(
        "studies/attention/contrasts.py:contrast_table",
        "",
        attends,
        ((), {"aggregate": "mode"}),
        lambda m: [((), {"aggregate": one}) for one in listed(m)],
    ),
    C(
        "studies/attention/attention.py:attention",
        "",
        lambda w, v: matchlens.attention(
            w.model, w.pairs, **{**Q_A, "contrasts": ["relevant-easy"], "preset": v}
        ),
        "authors",
        ["default"],
    ),
    C(
        "studies/cuts/controls.py:control_conditions",
        "draws is",
        lambda w, v: matchlens.controls(w.model, graded(1, 1), ["Q->D"], draws=v),
        0,
        least,
    ),
    C(
        "studies/cuts/controls.py:controls",
        "",
        lambda w, v: matchlens.controls(w.decoder, w.pairs, [v], draws=1),
        "Q->D",
        ["D->Q"],
    ),
    *(
        C("studies/cuts/head_sets.py:" + place, words, sets_of, wrong, right)
        for place, words, wrong, right in (
            (
                "checked_sets",
                "no set of heads",
                {"sets": {}},
                lambda m: [{"sets": {"top": "2.1,1.3"}}],
            ),
            (
                "checked_sets",
                "has the heads",
                {"sets": {"a": "x"}},
                lambda m: [{"sets": {"a": "2.1,1.3"}}],
            ),
            (
                "checked_sets",
                "every head",
                {"sets": {"a": "0.0,0.1,0.2,0.3"}},
                [{"sets": {"a": "0.0,0.1"}}],
            ),
            ("checked_random", "at most", {"random": 10**9}, [{"random": 120}]),
            (
                "checked_random",
                "so few",
                {"random": 3},
                lambda m: [{"random": one} for one in least(m)],
            ),
        )
    ),
    C(
        "studies/cuts/head_sets.py:head_sets",
        "",
        lambda w, v: matchlens.head_sets(w.decoder, w.pairs, {"a": "0.1"}, directions=v),
        ["Q->D", "D->Q"],
        [["D->Q"]],
    ),
    C(
        "studies/cuts/cut_modes.py:expand_modes",
        "how {",
        study(matchlens.ablation, cuts=["Q->D"]),
        {"hows": ["gone"]},
        lambda m: [{"hows": listed(m)}],
    ),
    C(
        "studies/cuts/cut_modes.py:expand_modes",
        "names its own",
        study(matchlens.ablation, hows=["zero", "mask"]),
        {"cuts": ["Q->D~mean"]},
        [{"cuts": ["Q->D"]}],
    ),
    C(
        "studies/looking.py:checked_looks",
        "",
        look,
        {"looks": 0},
        lambda m: [{"looks": one} for one in numbers(m)],
    ),
    *(
        C("studies/looking.py:named", words, look, wrong, [{"chosen": [("q0", "p0")]}])
        for words, wrong in (
            ("is not among", {"chosen": [("q0", "nowhere")]}),
            ("is given twice", {"chosen": [("q0", "p0"), ("q0", "p0")]}),
        )
    ),
    C(
        "studies/looking.py:named",
        "in the collections",
        lambda w, v: look(
            w,
            {
                "pairs": pair_set(
                    [*w.pairs.pairs, *(replace(one, collection="e") for one in w.pairs.pairs)]
                ),
                "chosen": [v],
            },
        ),
        ("q0", "p0"),
        lambda m: [(one.strip(" '"), "q0", "p0") for one in after("collections ", m)],
    ),
    C(
        "studies/cuts/measuring.py:Scored.of",
        "have no column",
        lambda w, v: look(w, {"scored": scores_of(w)[v]}),
        ["cut"],
        lambda m: [after("expected the columns ", m)],
    ),
    *(
        C(
            place,
            words,
            lambda w, v: look(w, {"scored": v and scores_of(w, **v)}),
            wrong,
            [None],
        )
        for place, words, wrong in (
            ("studies/cuts/measuring.py:Scored.of", "name pairs", {"pair": np.arange(48)}),
            ("studies/cuts/measuring.py:Scored.of", "NaN", {"score": np.nan}),
            ("studies/looking.py:_received", "stored score", {"score": np.arange(48.0)}),
        )
    ),
    C(
        "studies/looking.py:look",
        "no pair to look into",
        lambda w, v: look(w, {"pairs": all_of_grade_1(w), **v}),
        {},
        [{"rel": 1}, {"chosen": [("q0", "p0")]}],
    ),
    C(
        "studies/common.py:on_disk",
        "",
        lambda w, v: w.with_tmpdir(
            "matchlens.studies.looking.PairArray", v, lambda: look(w, {"looks": 1})
        ),
        "full",
        ["room"],
    ),
    C(
        "studies/common.py:on_disk",
        "",
        lambda w, v: w.with_tmpdir(
            "matchlens.studies.attention.watching.PairArray", v, lambda: attends(w, ((), {}))
        ),
        "full",
        ["room"],
    ),
    C(
        "sets.py:check_once",
        "",
        study(matchlens.ablation),
        {"cuts": ["Q->D", "Q->D"]},
        [{"cuts": ["Q->D"]}],
    ),
    C(
        "studies/cuts/cut_modes.py:sets_alone",
        "",
        study(matchlens.ablation),
        {"sets": {"joint": ["Q->D", "D->Q"]}, "hows": ["mask"]},
        lambda m: [{"sets": {"joint": [*example(m), "D->Q~mask"]}}],
    ),
    C(
        "studies/cuts/cut_study.py:conditions_of",
        "no cut given",
        study(matchlens.ablation),
        {"cuts": []},
        lambda m: [{"cuts": example(m)}],
    ),
    C(
        "studies/common.py:tolerance",
        "tie_tol",
        study(matchlens.ablation, cuts=["Q->D"]),
        {"tie_tol": float("nan")},
        lambda m: [{"tie_tol": float(one)} for one in least(m)],
    ),
    C(
        "studies/common.py:ranked",
        "no query has",
        lambda w, v: matchlens.ablation(w.model, graded_as(w, *v), cuts=["Q->D"]),
        (0, -1),
        [(3, 0)],
    ),
    C(
        "studies/common.py:ranked",
        "{value}",
        study(matchlens.ablation, cuts=["Q->D"]),
        {"measure": "R@100"},
        lambda m: [{"measure": one} for one in ("nDCG@10",)],
    ),
    C(
        "studies/common.py:relevant_grade",
        "",
        study(matchlens.ablation, cuts=["Q->D"]),
        {"rel": 9},
        lambda m: [{"rel": int(re.search(r"--rel (\d+)", m)[1])}, {"rel": 1}],
    ),
    C(
        "studies/attention/contrasts.py:Classes.check",
        "no contrast given",
        attends,
        ((), {"contrasts": []}),
        lambda m: [((), {"contrasts": after("one or more of ", m)})],
    ),
    C(
        "studies/cuts/cut_modes.py:expand_modes",
        "no how given",
        study(matchlens.ablation, cuts=["Q->D"]),
        {"hows": []},
        lambda m: [{"hows": after("one or more of ", m)}],
    ),
    C(
        "studies/cuts/controls.py:control_conditions",
        "no cut given",
        lambda w, v: matchlens.controls(w.model, graded(1, 1), v, draws=1),
        [],
        lambda m: [example(m)],
    ),
    C(
        "studies/presets.py:preset",
        "",
        study(matchlens.ablation, cuts=["Q->D"]),
        {"preset": "papers"},
        lambda m: [{"preset": one} for one in listed(m)],
    ),
    C(
        "studies/scoring.py:score",
        "no pair to score",
        lambda w, v: matchlens.score(w.model, v),
        [],
        [[("a cat", "it sat")]],
    ),
    C(
        "studies/study.py:Shared.announce",
        "",
        lambda w, v: announced(w, *v),
        ("Q->D", "D->D"),
        [("Q->D", "Q->D"), ("Q->D",)],
    ),
    C(
        "studies/sizes.py:size",
        "",
        study(matchlens.study, studies=["ablation"]),
        {"size": "huge"},
        lambda m: [{"size": listed(m)[0]}],
    ),
    C(
        "studies/sizes.py:chosen_studies",
        "is not known",
        lambda _, v: chosen_studies(v, size("quick")),
        ["tables"],
        lambda m: [listed(m), *([one] for one in listed(m))],
    ),
    C(
        "studies/sizes.py:chosen_studies",
        "no study",
        lambda _, v: chosen_studies(v, size("quick")),
        [],
        lambda m: [listed(m)],
    ),
    *(
        C(
            place,
            words,
            points,
            wrong,
            lambda m, name=name, wrong=wrong, right=right: [
                {**wrong, name: one} for one in right(m)
            ],
        )
        for place, words, name, wrong, right in (
            (SWEEP_POINTS, "sweep {", "kind", {"kind": "sideways"}, listed),
            (PLAIN, "no direction", "directions", {"directions": []}, lambda m: [example(m)]),
            (SWEEP_POINTS, "window is", "window", {"kind": "window", "window": 9}, numbers),
            (
                PLAIN,
                "plain direction",
                "directions",
                {"directions": ["Q->D@1"]},
                lambda m: [re.findall(r"'([^']*>[^']*)'", m)[1:]],
            ),
        )
    ),
    C(
        "studies/study.py:Study.__getitem__",
        "",
        lambda w, v: matchlens.study(w.model, w.pairs, size="quick", studies=["ablation"])[v],
        "heads",
        listed,
    ),
    C(
        "studies/study.py:study",
        "cannot be run",
        lambda w, v: matchlens.study(w.model, graded_as(w, *v), size="quick", studies=["circuits"]),
        (3, 0),
        [()],
    ),
    C(
        "studies/wexir25.py:beside_the_paper",
        "",
        lambda w, v: beside_the_paper(matchlens.ablation(w.model, graded(1, 1), **v)),
        {"cuts": ["Q->D"]},
        [{"preset": "paper"}],
    ),
    C(
        "report/views/ablation.py:table1",
        "",
        lambda w, v: v(matchlens.sweep(w.model, graded(2, 1), directions=["Q->D"])),
        matchlens.table_text,
        [lambda result: result.to_frame()],
    ),
]


ABLATION = cli("ablation", **{"--cut": "Q->D"})
LOOK, SWEEP = cli("look", **{"--easy": "1"}), cli("sweep", "only", **{"--direction": "Q->D"})
PAPER = cli("reproduce", "wexir25", **{"--studies": "ablation"})
OWN = dict.fromkeys(("--topics", "--qrels", "--passages"))


GOOD_PAIR = b'{"query": "a cat", "text": "it sat"}'


def scores(w: World, given: tuple) -> str:
    """Score pairs of a file, of standard input, or of nothing."""
    name, content, *words = given
    Path("pairs.jsonl").write_bytes(content)
    w.patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    w.patch.setattr("matchlens.cli.scoring.MAX_LINE", 99)
    source = {"file": ["--pairs", "pairs.jsonl"], "nothing": []}.get(name, ["--pairs", "-"])
    options = ["-m", str(w.model_folder), *source, *words]
    return w.command(w.capfd, ["score", *options])


def good_pair(m: str) -> list[tuple]:
    """The object that a message shows, with a text for each of its dots."""
    (shown,) = re.findall(r"\{.*\}", m)
    return [("file", shown.replace("...", "cat").encode())]


def full_disk(name: str):
    """A command whose folder cannot be written from some file on; the value is that file."""

    def call(w: World, at: str | None) -> object:
        real = Folder.create

        def create(self: Folder, name: str, content: bytes) -> object:
            if at is not None and name.rpartition("/")[2].startswith(at):
                raise OSError(28, "No space left on device")
            return real(self, name, content)

        out = f"full{next(w.outs)}"
        words = ["-m", str(w.model_folder), *w.words, "--cut", "Q->D", "--out", out, "-q"]
        if name == "compare":
            words = [str(w.results()), str(w.results("second")), "--out", out]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Folder, "create", create)
            return w.command(w.capfd, [name, *words], leaves=True)

    return call


def reported(w: World, words: list[str]) -> str:
    return w.command(w.capfd, ["report", *words])


def downloads(w: World, given: tuple) -> object:
    """The paper's study where so many bytes must be downloaded for a model with such a name."""
    name, size, answer, changed = given
    real = w.model_folder
    w.patch.setattr(
        "matchlens.models.hub.download_size", lambda model, _: 0 if model == str(real) else size
    )
    if name == "hub":  # what would be downloaded is there
        find = importlib.import_module("matchlens.models.folder").find
        w.patch.setattr("matchlens.models.folder.find", lambda model, revision=None: find(real))
        w.patch.setattr(
            "matchlens.cli.job.find", lambda model, revision=None: find(real), raising=False
        )
    w.patch.setattr("sys.stdin", Terminal(answer) if answer else io.StringIO())
    model = {"-m": "hub/model"} if name == "hub" else {}
    return PAPER(w, {**model, "--queries": "2", **changed})


class Terminal(io.StringIO):
    """Standard input at which a person sits."""

    def isatty(self) -> bool:
        return True


def page_of(w: World, given: tuple[str, int]) -> str:
    """The page of two folders, of which one is too large for the limit."""
    small, large = (w.results(name) for name in ("ablation", "attention"))
    sizes = []
    for folder in map(page.ResultsFolder.load, (small, large)):
        studies = [each for view in page.VIEWS.values() for each in view.exhibits(folder)]
        sizes.append(len(page._render(folder, studies, page.LADDER[-1])))
    assert sizes[0] < sizes[1]
    return page.page(w.results(given), limit=sum(sizes) // 2)


def a_copy(w: World, spoil) -> Path:
    """A copy of a results folder, with something wrong in it."""
    folder = Path(f"copy{next(w.outs)}")
    shutil.copytree(w.results(), folder)
    (folder / "report.html").unlink(missing_ok=True)
    spoil(folder)
    return folder


def nameless(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "identity": {}}))


def dataset(w: World, changed: dict | None) -> str:
    """A collection of ir_datasets with one query."""
    docs = [Doc("d1", "cat", "a cat sat"), Doc("d2", "tea", "warm tea")]
    parts = (
        Queries([GenericQuery("1", "a cat")]),
        Qrels([("1", "d1", 1), ("1", "d2", 0)]),
        Docs(docs),
    )
    if "tiny-irds" not in ir_datasets.registry._registered:
        ir_datasets.registry.register("tiny-irds", ir_datasets.Dataset(*parts))
    return ABLATION(w, {} if changed is None else {**OWN, **changed})


def ways_of(m: str) -> list[dict | None]:
    """The ways of naming a collection that a message lists, done."""
    ways = m.rpartition("exactly one of: ")[2].split("; ")
    assert [way.split()[0] for way in ways] == ["--demo", "--dataset", "--topics"]
    return [{"--demo": True, "--pairs": "8"}, {"--dataset": "tiny-irds"}, None]


def files_of(w: World, given: tuple) -> str:
    """An ablation with so many topics, qrels and runs; the last says how topics are called."""
    topics, qrels, runs, *names = given
    options: dict = {"--depth": "2"} if runs else {}
    for option, number in (("--topics", topics), ("--qrels", qrels)):
        options[option] = [w.copy_of(option, at, *names) for at in range(number)]
    options["--run"] = [w.run_file() for _ in range(runs)]
    return ABLATION(w, options)


COMMANDS = [
    C(
        "studies/registry.py:_Ablation.check",
        "",
        ABLATION,
        {"--cut": ""},
        lambda m: [{"--cut": ["", *example(m)]}],
    ),
    C(
        "settings.py:one_of.check",
        "",
        cli("attention", **{"--easy": "1", "--dry-run": True}),
        {"--aggregate": "mode"},
        lambda m: [{"--aggregate": one} for one in listed(m)],
    ),
    C("cli/study.py:compare", "", full_disk("compare"), "manifest", [None]),
    C("cli/job.py:Job.finish", "table above is not", full_disk("ablation"), "manifest", [None]),
    C("cli/job.py:Job.finish", "tables are saved", full_disk("ablation"), "table1.txt", [None]),
    C("cli/job.py:need_out", "", ABLATION, {"--out": None}, [{"--out": "results"}]),
    C(
        "studies/spec.py:check_cuts",
        "plain spaces",
        ABLATION,
        {"--cut": "Q->\tD"},
        [{"--cut": "Q-> D"}, {"--cut": "Q->D"}],
    ),
    C(
        "studies/spec.py:check_cuts",
        "given twice",
        LOOK,
        {"--cut": ["Q->D", "Q->D"]},
        [{"--cut": "Q->D"}],
    ),
    C(
        "settings.py:within.check",
        "",
        ABLATION,
        {"--pairs": "-1"},
        lambda m: [{"--pairs": str(one)} for one in (60, *numbers(m))],
    ),
    C(
        "settings.py:unicode_text",
        "",
        ABLATION,
        {"--query-prefix": "\udcff"},
        [{"--query-prefix": "\u00ff"}],
    ),
    C(
        "settings.py:within.check",
        "",
        ABLATION,
        {"--batch-tokens": "0"},
        lambda m: [{"--batch-tokens": str(one)} for one in least(m)],
    ),
    C(
        "cli/candidates.py:collections",
        "collections named",
        dataset,
        {"--demo": True, "--dataset": "tiny-irds"},
        ways_of,
    ),
    C(
        "cli/candidates.py:collections",
        "go with",
        dataset,
        {"--query-field": "text", "--demo": True},
        [{"--query-field": "text", "--dataset": "tiny-irds"}, {"--demo": True, "--pairs": "8"}],
    ),
    C("cli/candidates.py:collections", "all of", ABLATION, {"--qrels": None}, [{}]),
    C("cli/candidates.py:_from_files", "as many", files_of, (2, 1, 0), [(2, 2, 0), (1, 1, 1)]),
    C(
        "cli/candidates.py:_from_files",
        "nothing uses it",
        lambda w, v: ABLATION(w, {"--run": w.run_file(), **v}),
        {},
        [{"--depth": "2"}, {"--easy": "1"}, {"--run": None}],
    ),
    C(
        "cli/candidates.py:collections",
        "BEIR's",
        beir_study,
        {"--query-field": "text"},
        [{}],
    ),
    C("cli/candidates.py:_names", "", files_of, (2, 2, 0, "same"), [(2, 2, 0)]),
    C(
        "cli/candidates.py:draw",
        "",
        ABLATION,
        {"--per-grade": "3", "--all-judged": True},
        [{"--per-grade": "3"}, {"--all-judged": True}],
    ),
    C(
        "settings.py:one_of.check",
        "",
        lambda w, v: cli("reproduce", v)(w, {"--dry-run": True}),
        "other",
        listed,
    ),
    C(
        "cli/job.py:need_out",
        "",
        PAPER,
        {"--out": None},
        [{"--out": "paper", "--dry-run": True}],
    ),
    C(
        "cli/study.py:SizeSettings.__post_init__",
        "",
        PAPER,
        {"--quick": True, "--full": True, "--dry-run": True},
        [{"--quick": True, "--dry-run": True}, {"--full": True, "--dry-run": True}],
    ),
    C(
        "cli/reproduce.py:reproduce",
        "leaves out",
        PAPER,
        {"--studies": "attention", "--dry-run": True},
        [{"--studies": "attention,ablation", "--dry-run": True}],
    ),
    C(
        "cli/reproduce.py:_allow",
        "free in the",
        downloads,
        ("hub", 10**18, "", {}),
        [("here", 10**18, "", {"--dry-run": True})],
    ),
    C(
        "cli/reproduce.py:_allow",
        "give --yes",
        downloads,
        ("hub", 10**6, "", {}),
        [("hub", 10**6, "", {"--yes": True}), ("here", 10**6, "", {"--dry-run": True})],
    ),
    C(
        "cli/reproduce.py:_allow",
        "nothing was",
        downloads,
        ("hub", 10**6, "n\n", {}),
        [("hub", 10**6, "y\n", {}), ("here", 10**6, "n\n", {"--dry-run": True})],
    ),
    C(
        "cli/scoring.py:score",
        "",
        scores,
        ("nothing", GOOD_PAIR),
        [("file", GOOD_PAIR), ("-", GOOD_PAIR)],
    ),
    *(
        C("cli/scoring.py:read_pairs", words, scores, ("file", content), good_pair)
        for words, content in (
            ("is not JSON", b"cat\n"),
            ("not a JSON object", b"[1]\n"),
            ("{value} {value}", b'{"query": "a cat"}\n'),
            ("half a surrogate", b'{"query": "a", "text": "a\\ud800"}\n'),
            ("stands twice", b'{"query": "a", "text": "a", "text": "b"}\n'),
            ("no pairs", b""),
        )
    ),
    C(
        "cli/scoring.py:_lines",
        "has more",
        scores,
        ("stdin", b"x" * 999),
        lambda m: [("stdin", *good_pair(m)[0][1:])],
    ),
    C(
        "cli/scoring.py:_lines",
        "is not UTF-8",
        scores,
        ("stdin", b"\xe9\n"),
        lambda m: [("stdin", *good_pair(m)[0][1:])],
    ),
    C(
        "settings.py:within.check",
        "",
        cli("study", **{"--easy": "1", "--dry-run": True}),
        {"--samples": "0"},
        lambda m: [{"--samples": str(one)} for one in least(m)],
    ),
    C(
        "cli/study.py:SizeSettings.__post_init__",
        "",
        cli("study", **{"--easy": "1", "--dry-run": True}),
        {"--quick": True, "--full": True},
        [{"--quick": True}, {"--full": True}],
    ),
    C(
        "settings.py:one_of.check",
        "",
        lambda w, v: cli("sweep", v)(
            w, {"--dry-run": True, "--set": "a=0.1" if v == "head-sets" else None}
        ),
        "sideways",
        listed,
    ),
    C(
        "studies/registry.py:_Screen.check",
        "",
        lambda w, v: cli("screen")(w, {"--dry-run": True, **v}),
        {"--others": 0},
        lambda m: [{"--others": one} for one in least(m)],
    ),
    C(
        "studies/registry.py:_Sweep.check",
        "--screen is",
        lambda w, v: cli("sweep", v[0])(w, {"--dry-run": True, **v[1]}),
        ("heads", {"--screen": 0, "--direction": "Q->D"}),
        [("heads", {"--screen": 1, "--direction": "Q->D"})],
    ),
    *(
        C(
            "studies/registry.py:_Sweep.check",
            "expected it with",
            lambda w, v: cli("sweep", v[0])(w, {"--dry-run": True, "--direction": "Q->D", **v[1]}),
            ("only", given),
            [(kind, {**given, **more}), ("only", {})],
        )
        for kind, given, more in (
            ("heads", {"--screen": 2}, {}),
            ("window", {"--window": 2}, {}),
            ("controls", {"--draws": 2}, {}),
            ("head-sets", {"--random": 120}, {"--set": "a=2.1,1.3"}),
        )
    ),
    C(
        "studies/registry.py:_Sweep.check",
        "go together",
        lambda w, v: cli("sweep", v[0])(w, {"--dry-run": True, **v[1]}),
        ("only", {"--set": "a=0.1"}),
        [("head-sets", {"--set": "a=0.1"}), ("only", {})],
    ),
    C(
        "studies/registry.py:SweepSettings.heads",
        "expected NAME=HEADS",
        cli("sweep", "head-sets", **{"--dry-run": True}),
        {"--set": "0.1"},
        lambda m: [{"--set": example(m)[0].replace("8.1,4.9", "2.1,1.3")}],
    ),
    C(
        "studies/registry.py:SweepSettings.heads",
        "given twice",
        cli("sweep", "head-sets", **{"--dry-run": True}),
        {"--set": ["a=0.1", "a=0.2"]},
        [{"--set": ["a=0.1", "b=0.2"]}],
    ),
    C(
        "settings.py:one_of.check",
        "",
        cli("ablation", **{"--dry-run": True}),
        {"--runner": "cloud"},
        lambda m: [{"--runner": one} for one in listed(m)],
    ),
    C(
        "settings.py:within.check",
        "",
        cli("ablation", **{"--dry-run": True}),
        {"--workers": "0"},
        lambda m: [{"--workers": str(one)} for one in least(m)],
    ),
    C(
        "options.py:Placement.__post_init__",
        "",
        cli("ablation", **{"--dry-run": True}),
        {"--ray-address": "ray://x:1"},
        [{"--ray-address": "ray://x:1", "--runner": "ray"}, {}],
    ),
    C(
        "cli/job.py:check_placement",
        "",
        without_ray,
        None,
        lambda m: [re.search(r"pip install '(.*)'", m)[1]],
    ),
    C("report/page/__init__.py:_fitting", "", page_of, "attention", ["ablation"]),
    C(
        "report/conclusions.py:load_studies",
        "",
        lambda w, v: matchlens.write_report(w.results(v)),
        "comparison",
        ["ablation"],
    ),
    C(
        "studies/compare_runs.py:check_new",
        "",
        lambda w, v: check_new(Path("old"), Path(v)),
        "old/new",
        ["new"],
    ),
    C(
        "studies/comparing.py:_check_identity",
        "does not say",
        lambda w, v: matchlens.compare([a_copy(w, v), w.results("second")]),
        nameless,
        [lambda folder: None],
    ),
    C(
        "studies/attention/contrasts.py:Classes.check",
        "both classes",
        lambda w, v: matchlens.attention(w.model, v(w), **{**Q_A, "contrasts": ["relevant-easy"]}),
        lambda w: pair_set([one for one in w.pairs.pairs if (one.qid == "q0") == (one.grade < 0)]),
        [lambda w: w.pairs],
    ),
    C("studies/looking.py:ids_of", "", LOOK, {"--pair": "q0"}, [{"--pair": "q0 1-p0"}]),
]


# Arguments of a wrong type

PUBLIC = (
    *(name for name in matchlens.__all__ if inspect.isfunction(getattr(matchlens, name))),
    *("Cut", "Cut.parse", "Cut.of", "Cut.check", "Direction", "Direction.parse", "Pair"),
    *("Part.parse", "PairSet.join", "PairSet.from_frame", "PairSet.with_parts"),
    *("trec.load", "irds.load", "beir.load", "frame.load"),
    *("Result.load", "Result.save", "Result.to_frame", "Result.array"),
    *("Study.to_frame", "Study.plot", "Study.save"),
)
WITHOUT = {"table1"}
"""Functions without arguments."""


def public(name: str):
    found = matchlens
    for part in name.split("."):
        found = getattr(found, part)
    return found


def parameters() -> Iterator[tuple[str, str]]:
    """Every function of the interface with each of its parameters whose type is held."""
    for name in PUBLIC:
        for given in inspect.signature(public(name)).parameters.values():
            if isinstance(given.annotation, str):
                hint = ast.parse(given.annotation, mode="eval").body
                if given.name != "self" and not arguments.fits(object(), hint):
                    yield name, given.name


@pytest.mark.parametrize(("name", "wrong"), list(parameters()))
def test_an_argument_of_a_wrong_type_is_refused_in_one_line(name, wrong, monkeypatch):
    """Before anything is done with the others, which are taken for right here."""
    fits, right = arguments.fits, object()
    monkeypatch.setattr(arguments, "fits", lambda value, hint: value is right or fits(value, hint))
    function = public(name)
    needed = [
        given.name
        for given in inspect.signature(function).parameters.values()
        if given.default is inspect.Parameter.empty and given.name != wrong
    ]
    given = {wrong: object(), **dict.fromkeys(needed, right)}
    with pytest.raises(InputError, match=f"^{wrong} is of the type object; expected .*") as error:
        function(**given)
    assert str(error.value).isprintable()


def test_the_whole_interface_holds_its_types():
    held = {name for name, _ in parameters()}
    assert set(PUBLIC) - WITHOUT - {"Result.array", "Study.save"} <= held


OTHERS = study(matchlens.ablation, cuts=["Q->D"])
ARGUMENTS = [
    C("arguments.py:typed.checked", "", call, wrong, right)
    for call, wrong, right in (
        (of(Cut.parse), 3, ["Q->D"]),
        (lambda w, v: matchlens.score(w.model, w.pairs.pairs, v), "Q->D", written),
        (
            lambda w, v: matchlens.ablation(w.model, v(w), cuts=["Q->D"]),
            lambda w: {"pairs": w.pairs.pairs},
            [
                lambda w: matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1),
                lambda w: list(w.pairs.pairs),
                lambda w: pd.DataFrame([*w.pairs.pairs]),
            ],
        ),
        (
            lambda w, v: matchlens.ablation(v(w), w.pairs, cuts=["Q->D"]),
            lambda w: 3,
            [
                lambda w: matchlens.load(w.model_folder, device="cpu"),
                lambda w: str(w.model_folder),
            ],
        ),
        (
            study(matchlens.ablation),
            {"cuts": "Q->D"},
            lambda m: [{"cuts": one} for one in written(m)],
        ),
        (OTHERS, {"seed": 1.5}, [{"seed": 1}]),
        (OTHERS, {"seed": True}, [{"seed": np.int64(1)}]),
        (OTHERS, {"tie_tol": "0"}, [{"tie_tol": np.float32(0)}]),
        (OTHERS, {"rank_easy": "no"}, [{"rank_easy": False}]),
        (OTHERS, {"progress": 3}, [{"progress": lambda done, whole: None}]),
        (sets_of, {"sets": {"a": 3}}, [{"sets": {"a": "0.1"}}, {"sets": {"a": [(0, 1)]}}]),
        (points, {"layers": "three"}, [{"layers": 3}]),
        (lambda w, v: matchlens.table_text(v(w)), lambda w: {}, [lambda w: OTHERS(w, {})]),
    )
]


ELSEWHERE = {
    **remedies_of_collections.ELSEWHERE,
    **remedies_of_gates.ELSEWHERE,
    **remedies_of_models.ELSEWHERE,
    **remedies_of_own.ELSEWHERE,
    **remedies_of_results.ELSEWHERE,
    **remedies_of_serve.ELSEWHERE,
    ("pyterrier.py:Reranker.__init__", "not installed"): (
        "test_frames.py:test_without_pyterrier_its_reranker_says_what_to_install"
    ),
    ("pyterrier.py:Reranker.__init__", "come in batches"): (
        "test_pyterrier.py:test_what_cannot_be_used_is_refused_at_once"
    ),
    ("pyterrier.py:Reranker._with_texts", ""): (
        "test_pyterrier.py:test_candidates_without_a_text_are_left_out_with_a_warning"
    ),
    ("studies/study.py:study", "has no effect"): (
        "test_study.py:test_what_is_no_other_draw_or_has_no_effect_is_refused"
    ),
    ("studies/claims/evidence.py:check_redraws", ""): (
        "test_study.py:test_what_is_no_other_draw_or_has_no_effect_is_refused"
    ),
    ("models/wrap.py:as_model", ""): (
        "test_wrong_arguments.py:test_a_transformer_of_pyterrier_is_its_model_unless_it_cuts"
    ),
    ("studies/looking.py:_check_heads", "no column"): (
        "test_looking.py:test_matching_heads_are_held_against_the_model"
    ),
    ("studies/looking.py:_check_heads", "another model"): (
        "test_looking.py:test_matching_heads_are_held_against_the_model"
    ),
    ("studies/cuts/sweeps.py:sweep", ""): (
        "test_sweeps.py:test_a_window_has_no_effect_on_another_sweep"
    ),
    ("results.py:Result._check_stamp", ""): "test_results.py:"
    "test_arrays_of_a_later_run_are_not_shown_beside_the_tables_of_an_earlier",
    ("corpora/frame.py:made_of_pairs", ""): (
        "test_frames.py:test_a_frame_made_of_pairs_is_those_pairs"
    ),
    ("corpora/pairs.py:PairSet.from_frame", ""): (
        "test_frames.py:test_a_frame_made_of_pairs_is_those_pairs"
    ),
    ("corpora/pairs.py:PairSet.filter", ""): (
        "test_frames.py:test_a_filter_keeps_the_ideal_ranking_and_the_record"
    ),
    ("errors.py:surroundings", ""): (
        "test_stopping.py:test_after_a_full_disk_the_same_command_goes_on"
    ),
    ("cli/job.py:Job.running", ""): "test_cli_bad_input.py:test_ctrl_c_leaves_nothing_half_written",
    ("cli/job.py:without_effect", ""): (
        "test_cli.py:test_measures_that_a_study_cannot_use_are_named_before_the_model_is_loaded"
    ),
    ("cli/job.py:Job.check_ranking", ""): (
        "test_measures_that_cannot_move.py:"
        "test_what_cannot_move_on_fewer_pairs_is_refused_before_the_model_is_loaded"
    ),
    ("__init__.py:__getattr__", ""): "test_package.py:test_old_names_work_with_a_warning",
    ("circuits.py:__getattr__", ""): "test_package.py:test_old_names_work_with_a_warning",
    (
        "studies/circuits/circuits.py:_moved.forward",
        "",
    ): "test_package.py:test_old_names_work_with_a_warning",
}
"""Errors whose remedies are done by a test of another file."""


SLOW = (
    *("cli/comparing", "cli/job", "cli/candidates", "cli/reproduce", "cli/study"),
    *("cli/explaining", "cli/scoring"),
    *("settings", "studies/spec"),
    *("figures/files", "report/page", "studies/attention/contrasts.py:checked_names"),
    *("studies/compar", "studies/cuts/controls", "studies/looking.py:ids_of"),
)
"""Places whose cases run commands and whole studies."""
TABLE: list[C] = [
    *(PARTS_AND_CUTS + ENGINE + CIRCUITS + RANKING + FIGURES + STUDIES + COMMANDS + ARGUMENTS),
    *remedies_of_collections.COLLECTIONS,
    *remedies_of_gates.GATES,
    *remedies_of_explain.EXPLAIN,
    *remedies_of_models.MODELS,
    *remedies_of_own.OWN,
    *remedies_of_results.RESULTS,
    *remedies_of_serve.SERVE,
]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(made, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    made.capfd, made.patch = capfd, monkeypatch
    jaxtyping.config.update("jaxtyping_disable", True)  # as for a person: nothing checks types
    yield made
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=f"{case.place} {case.words}",
            marks=[pytest.mark.slow] if case.slow or case.place.startswith(SLOW) else [],
        )
        for case in TABLE
    ],
)
def test_what_the_message_says_works(case, world):
    message = provoke(case, world)
    right = case.right(message) if callable(case.right) else case.right
    assert right
    for value in right:
        assert message not in warned(case, world, value)


def test_each_case_means_one_error():
    assert {
        f"{case.place} {case.words}": len(case.found) for case in TABLE if len(case.found) != 1
    } == {}


def test_each_error_has_a_case():
    covered = {site for case in TABLE for site in case.found}
    for (place, words), where in ELSEWHERE.items():
        file, _, name = where.partition(":")
        assert f"\ndef {name}(" in (Path(__file__).parent / file).read_text("utf-8")
        (site,) = found(place, words)
        covered.add(site)
    missing = [site for site in sites() if site not in covered]
    assert [f"{site.place}:{site.lines[0]} {site.text}" for site in missing] == []

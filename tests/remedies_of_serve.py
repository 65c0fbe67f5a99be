"""The errors of the live page, and what their messages say."""

from __future__ import annotations

import ast
import contextlib
import socket
from dataclasses import replace
from pathlib import Path

import matchlens
from matchlens import Cut
from matchlens.cli import serving
from matchlens.live import server
from matchlens.live.experiment import Experiment, parsed
from matchlens.live.microscope import Microscope
from matchlens.models.folder import find
from matchlens.studies.explaining import Sharing, explain_pairs
from remedies import C, least, numbers

EXPERIMENT = "live/experiment.py"
RIGHT = {"model": 0, "query": "tea", "passages": ["warm tea", "far rain"], "cuts": []}


def experiments(w, change: dict) -> Experiment:
    return Experiment.of({**RIGHT, **change}, 1)


def microscope(w) -> Microscope:
    return Microscope([w.model], w.pairs)


def words(w, how: str) -> object:
    experiment = experiments(w, {"cuts": ["Q->D" + how]})
    return microscope(w).words(experiment, lambda told: None)


def under(w, how: str) -> object:
    pairs, cuts = experiments(w, {}).pairs, (Cut.parse(f"Q->D~{how}"),)
    return explain_pairs(w.model, pairs, (0, 1), Sharing(1, 1, cuts), swap=False)


def port(w, free: bool) -> None:
    with contextlib.closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        matchlens.serve(w.model, port=0 if free else other.getsockname()[1]).stop()


def started(w, answers: bool) -> None:
    """A server whose thread ends before it listens; then one that listens."""
    with w.patch.context() as patched:
        if not answers:
            patched.setattr("uvicorn.Server.run", lambda *_: None)
        matchlens.serve(w.model).stop()


def listed(m: str) -> list[str]:
    """The words that a message names after what it expected."""
    return [word.strip() for word in m.rpartition(": ")[2].split(",")]


def found(w, study: bool) -> object:
    folder = Path(f"found{next(w.outs)}")
    passages = ["warm tea", "far rain"]
    result = matchlens.explain(w.model, "tea", passages, points=1, swap=study)
    options = {**result.options, "swap": ["Q->D"], "swapped": study}
    replace(result, options=options).save(folder)
    served = replace(find("demo"), sha256=w.model.identity["sha256"])
    return serving._stored_sets(folder, [served])


SERVE = [
    C(
        f"{EXPERIMENT}:Experiment.of",
        "the model is",
        experiments,
        {"model": 1},
        lambda m: [{"model": 0}],
    ),
    C(
        f"{EXPERIMENT}:Experiment.of",
        "came; expected 1 to",
        experiments,
        {"passages": []},
        lambda m: [{"passages": ["tea"] * number} for number in numbers(m)],
    ),
    C(
        f"{EXPERIMENT}:Experiment.of",
        "the cuts are",
        experiments,
        {"cuts": "Q->D"},
        lambda m: [{"cuts": ast.literal_eval(m.rpartition(": ")[2])}],
    ),
    C(
        f"{EXPERIMENT}:Experiment.only",
        "",
        lambda w, passages: experiments(w, {"passages": passages}).only(2),
        ["tea"],
        [["tea", "a passage more"]],
    ),
    C(f"{EXPERIMENT}:_text", "has no text", experiments, {"query": " "}, [{"query": "a word"}]),
    C(
        f"{EXPERIMENT}:_text",
        "characters; expected at most",
        experiments,
        {"query": "x" * 100_001},
        lambda m: [{"query": "x" * least(m)[0]}],
    ),
    C(
        f"{EXPERIMENT}:_text",
        "half a surrogate",
        experiments,
        {"query": "\ud800"},
        [{"query": "tea"}],
    ),
    C(
        f"{EXPERIMENT}:parsed",
        "came; expected at most",
        lambda w, many: parsed(["Q->D"] * many),
        101,
        lambda m: numbers(m)[:1],
    ),
    C(
        f"{EXPERIMENT}:parsed",
        "is made by",
        lambda w, how: parsed([f"Q->D~{how}"]),
        "resample",
        lambda m: m.partition("one of ")[2].partition(":")[0].split(", "),
    ),
    C(
        "live/microscope.py:Microscope.candidates",
        "",
        lambda w, number: microscope(w).candidates(number),
        10_000,
        lambda m: [least(m)[0] - 1],
    ),
    C(
        "live/microscope.py:Microscope.read_cuts",
        "has no row",
        lambda w, part: Microscope([w.decoder]).read_cuts(0, f"{part}->D"),
        "SEP2",
        lambda m: [part.strip() for part in m.rpartition(": ")[2].split(",")][:1],
    ),
    C(
        "live/microscope.py:Microscope.read_cuts",
        "ways; expected one",
        lambda w, text: microscope(w).read_cuts(0, text),
        "Q->D; D->Q~mask",
        ["Q->D~mask; D->Q~mask"],
    ),
    C(
        "live/microscope.py:Microscope._heads",
        "",
        words,
        "~mean",
        lambda m: [f"~{how}" for how in listed(m)],
    ),
    C("studies/explaining.py:explain_pairs", "", under, "mean", listed),
    C("live/server.py:LivePage.__init__", "cannot be used", port, False, [True]),
    C("live/server.py:LivePage.__init__", "did not start", started, False, [True]),
    C("live/server.py:check_port", "", lambda w, port: server.check_port(port), 70000, numbers),
    C("live/server.py:check_models", "", lambda w, many: server.check_models(many), 3, [1, 2]),
    C(
        "cli/serving.py:_fragment",
        "",
        lambda w, link: serving._fragment(link),
        "http://127.0.0.1:1/?token=x",
        ["http://127.0.0.1:1/?token=x#s=a-b_c"],
    ),
    C("cli/serving.py:_stored_sets", "no matching heads", found, False, [True]),
]

ELSEWHERE = {
    ("live/server.py:check_extra", ""): (
        "test_serve.py:test_without_the_extra_it_says_what_to_install"
    ),
    ("live/work.py:Worker.submit", ""): "test_serve.py:test_too_many_requests_are_refused",
    ("live/exporting.py:page_of", ""): "test_serve.py:test_a_page_that_would_be_large_is_refused",
    ("cli/serving.py:serve", ""): "test_serve.py:test_ctrl_c_ends_the_command",
    ("cli/serving.py:_stored_sets", "another model"): (
        "test_serve.py:test_sets_come_from_a_results_folder"
    ),
    ("cli/serving.py:_matching_heads", ""): ("test_serve.py:test_sets_come_from_a_results_folder"),
    ("cli/explaining.py:explain", "not saved"): (
        "test_explain_view.py:test_a_text_that_cannot_be_saved_is_shown_all_the_same"
    ),
    ("models/wrap.py:_check_hooks", ""): "test_wrap.py:test_what_cannot_be_wrapped",
    ("results.py:Result.axes", "have no names"): (
        "test_python_surface.py:test_axes_without_names_are_said"
    ),
}

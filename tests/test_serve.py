"""The live page's server: its numbers are those of score and explain, and only its page may ask."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import FunctionType

import numpy as np
import pandas as pd
import pytest
from benchmarks.gated import gate_slopes
from starlette.responses import PlainTextResponse

import matchlens
import tiny as tiny_models
import tiny_decoders
from chromium import LONG, wait
from matchlens import Cut, InputError, gating
from matchlens.corpora import PairSet
from matchlens.corpora.own import labelled, named_parts
from matchlens.live import microscope
from matchlens.live.app import Guard
from matchlens.live.experiment import MOST_PASSAGES, Experiment
from matchlens.live.exporting import LIMIT, merged, python_lines
from matchlens.live.microscope import EXAMPLE, Kept, Microscope, _masses
from matchlens.live.server import LivePage
from matchlens.live.work import MOST_WAITING, Job, Worker
from matchlens.models.folder import find
from matchlens.parts import NAMED, Part
from matchlens.report.pair_view import script
from matchlens.results import Result
from matchlens.runners import run
from matchlens.signals import Cancelled, cancellable, check_cancelled
from test_cli import refused

QUERY = "warm tea"
PASSAGES = ["the cat sat far", "warm tea warm tea", "dog ran far in cold rain", "sun tea"]
HOSTILE = "</script><img src=x onerror=hurt=1><b>\u202ewarm & tea"
CUTS = [
    ["Q->D"],
    ["Q->D@1~mask", "D->Q#0.1,2.3~mask"],
    ["D->Q~sink"],
    ["Q->D~mean"],
]
TO_TEXT = {"kind": "score", "client": "t", "model": 0, "query": QUERY, "passages": PASSAGES}


@pytest.fixture(scope="module")
def page(tiny32):
    pairs = tiny_models.pairs(24)
    chosen = PairSet(tuple(pairs), {}, {"candidates": "given"}, {"pairs": 24}, ())
    with matchlens.serve(tiny32, chosen, sets={"both": ["Q->D", "D->Q"]}) as page:
        yield page


@pytest.fixture
def own(tiny32):
    """A page of a test's own, to be stopped or held up."""
    with matchlens.serve(tiny32) as page:
        yield page


def send(page, method="POST", path="/api/run", body=None, **headers):
    """Send a request; the answer's status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=LONG)
    given = {
        "Host": f"127.0.0.1:{page.port}",
        "Content-Type": "application/json",
        "X-Matchlens-Token": page.token,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        if "Transfer-Encoding" not in given:
            connection.putheader("Content-Length", str(len(data)))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read it all
            connection.endheaders(data)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


@contextlib.contextmanager
def browser_that_goes(page, **changes):
    """A browser that asks for something and is closed before it has an answer."""
    body = json.dumps({**TO_TEXT, "cuts": [], **changes}).encode()
    head = [
        "POST /api/run HTTP/1.1",
        f"Host: localhost:{page.port}",
        "Content-Type: application/json",
        f"X-Matchlens-Token: {page.token}",
        f"Content-Length: {len(body)}",
    ]
    with contextlib.closing(socket.create_connection(("127.0.0.1", page.port))) as browser:
        browser.sendall("\r\n".join([*head, "", ""]).encode() + body)
        yield


def told(page, **changes):
    """Everything that is told of a request, the last line last."""
    status, _, body = send(page, body={**TO_TEXT, "cuts": [], **changes})
    lines = [json.loads(line) for line in body.splitlines()]
    assert status == 200
    return lines


def asked(page, **changes):
    last = told(page, **changes)[-1]
    assert "result" in last, last
    return last["result"]


def experiment(cuts=(), passages=PASSAGES) -> Experiment:
    return Experiment(0, QUERY, tuple(passages), tuple(Cut.parse(cut) for cut in cuts))


def load(worker) -> int:
    """Jobs that wait or run."""
    with worker._changed:
        return len(worker._jobs())


@pytest.fixture
def ran(monkeypatch) -> list:
    """The pairs of each run of a model for a page, as they come."""
    seen: list = []
    ways = [(microscope, "run"), (microscope, "explain_pairs"), (gating, "stream_slopes")]
    for module, name in ways:
        real = getattr(module, name)

        def noted(model, pairs, *rest, real=real, **options):
            seen.append(pairs)
            return real(model, pairs, *rest, **options)

        monkeypatch.setattr(module, name, noted)
    return seen


@contextlib.contextmanager
def held(page):
    """Keep the worker busy, as a long run does."""
    begun, go = threading.Event(), threading.Event()

    def work(tell):
        begun.set()
        while not go.wait(0.01):
            check_cancelled()
        return {}

    page.worker.submit(Job("somebody else", "words", work, lambda what: None))
    assert begun.wait(LONG)  # before it has begun, a score would go first
    try:
        yield go
    finally:
        go.set()


# --- numbers


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_scores_are_those_of_score(page, tiny32, cuts):
    found = asked(page, cuts=cuts)
    pairs = [(QUERY, text) for text in PASSAGES]
    expected = matchlens.score(tiny32, pairs, cuts[:1] if len(cuts) == 1 else [])
    np.testing.assert_allclose(found["plain"], expected[""], atol=1e-5)
    if len(cuts) == 1:
        np.testing.assert_allclose(found["scores"], expected[cuts[0]], atol=1e-5)
    else:
        together = run(tiny32, experiment().pairs, {"x": [Cut.parse(cut) for cut in cuts]}).scores
        np.testing.assert_allclose(found["scores"], together.of("x"), atol=1e-5)
    assert np.abs(np.subtract(found["scores"], found["plain"])).max() > 0.01
    assert [rank for rank, _ in found["ranks"]] == [
        1 + sum(other > score for other in found["scores"]) for score in found["scores"]
    ]


def test_equal_scores_share_a_rank(page):
    ranks = asked(page, passages=[PASSAGES[0], *PASSAGES[:2]])["ranks"]
    assert ranks[0] == ranks[1]
    assert ranks[0][1] == 2
    assert ranks[2] == [3 if ranks[0][0] == 1 else 1, 1]


@pytest.mark.parametrize("cuts", [*CUTS[:2], []], ids=str)
def test_the_lines_of_python_give_the_same_numbers(page, tiny_folder, tiny32, cuts):
    found = asked(page, cuts=cuts)
    lines = json.loads(send(page, path="/api/lines", body={**TO_TEXT, "cuts": cuts})[2])["lines"]
    assert f"matchlens.load({str(tiny_folder)!r})" in lines
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(lines.replace("print(", "_ = ("), names)
        exec(lines, {})
    value = names["_"]
    np.testing.assert_allclose(found["scores"], np.array(value)[:, -1], atol=1e-5)
    assert out.getvalue()


def test_the_lines_of_python_name_all_that_decides_the_scores(tiny, tiny_folder, tmp_path):
    """Label, revision and the object that was wrapped: without them the lines give other scores."""
    folder = tiny_models.save(tmp_path / "three", labels=3)
    labelled = matchlens.load(folder, label=0)
    names: dict[str, object] = {}
    exec(python_lines(labelled, experiment()).replace("print(", "_ = ("), names)
    expected = matchlens.score(labelled, [(QUERY, text) for text in PASSAGES])
    np.testing.assert_allclose(np.array(names["_"]), expected, atol=1e-6)
    of_branch = replace(tiny, identity={**tiny.identity, "revision": "v2"})
    assert ", revision='v2')" in python_lines(of_branch, experiment())
    module = tiny_models.model()
    module.config._name_or_path = module.name_or_path = str(tiny_folder)  # trained further since
    wrapped = matchlens.wrap(module, tiny_models.tokenizer())
    lines = python_lines(wrapped, experiment())
    assert "load(" not in lines
    assert "BertForSequenceClassification that the server got" in lines


def test_a_part_of_one_passage_alone_is_not_averaged_with_the_other(tiny32):
    """Attention on it is that of the passage that has it; of parts that never meet none is told."""
    left, right = experiment(passages=PASSAGES[:2]).pairs
    parts = {
        "LEFT": lambda p: [(0, 3)] if p.text == left.text else [],
        "RIGHT": lambda p: [(0, 3)] if p.text == right.text else [],
    }
    pairs = labelled((left, right), parts, "D")
    with matchlens.serve(tiny32, PairSet(pairs, {}, {}, {}, ())) as page:
        lines = told(page, kind="words", passages=PASSAGES[:2])
    found = next(one["heads"] for one in lines if "heads" in one)["attention"]
    for name, pair in zip(parts, pairs, strict=True):
        alone = _masses(tiny32, pair, (), named_parts([pair]))[:, :, Part.Q, gating.PARTS]
        np.testing.assert_allclose(found[f"Q->{name}"], alone, rtol=0.01)
    assert not {"LEFT->RIGHT", "RIGHT->LEFT"} & found.keys()


def test_directions_of_the_same_layers_are_one_cut():
    cuts = tuple(Cut.parse(text) for text in ("Q->D@1", "D->Q@1", "Q->Q#0.1"))
    assert [str(cut) for cut in merged(cuts)] == ["Q->D+D->Q@1", "Q->Q#0.1"]


def test_shares_are_those_of_explain(page, tiny32):
    lines = told(page, kind="words", passages=PASSAGES[:2])
    found = lines[-1]["result"]
    expected = matchlens.explain(tiny32, QUERY, PASSAGES[:2], points=16, swap=False)
    table = expected.to_frame("margin")
    rows = table[table["kind"] == "head_direction"]
    shares = {name: np.array(grid) for name, grid in found["shares"].items()}
    off = [
        abs(shares[row.direction][int(row.layer), int(row.head)] - row.contribution)
        for row in rows.itertuples()
    ]
    assert len(off) == 25 * 12
    assert max(off) < 0.05 * rows["contribution"].abs().max()
    heads = next(one["heads"] for one in lines if "heads" in one)
    slopes = gate_slopes(tiny32, experiment(passages=PASSAGES[:2]).pairs).slopes
    for x, y in ((Part.Q, Part.D), (Part.CLS, Part.Q)):
        effect = -(slopes[0] - slopes[1])[:, :, x, y]
        np.testing.assert_allclose(heads["screened"][f"{x}->{y}"], effect, rtol=0.01, atol=1e-5)
    mass = sum(np.array(heads["attention"][f"Q->{part}"]) for part in NAMED)
    np.testing.assert_allclose(
        mass, 1, atol=0.02
    )  # the last layer's rows, too, though none is read


@pytest.mark.parametrize(
    "cuts", [["Q->D"], ["Q->D~mask"], ["D->Q@0:2~sink"], ["CLS->D#1.2"]], ids=str
)
def test_contributions_under_cuts_add_up_to_the_score_that_is_left(tiny, cuts):
    made = [Cut.parse(cut) for cut in cuts]
    pair = experiment().pairs[0]
    words = np.arange(int(tiny.encode([pair]).lengths[0]))
    found = gating.integrate(tiny, pair, words, 128, made)
    expected = run(tiny, [pair], {"cut": made}).scores.of("cut")[0]
    plain = gating.integrate(tiny, pair, words, 128)
    assert found.score == pytest.approx(expected, abs=1e-10)
    assert abs(found.missed) < 1e-3 * max(1, abs(found.score))
    assert found.without == pytest.approx(plain.without, abs=1e-10)
    parts = tiny.encode([pair]).parts[0]
    gone = np.ix_(parts == Part.Q, parts == Part.D)
    if cuts[0].startswith("Q->D"):
        assert not found.contributions[:, :, *gone].any()
        assert plain.contributions[:, :, *gone].any()


def test_under_mean_there_are_no_contributions(page, tiny32):
    (*_, last) = told(page, kind="words", cuts=["Q->D~mean"])
    assert "expected another how for these: zero, mask, sink" in last["error"]


def test_why_finds_the_swap_that_explain_finds(page, tiny32):
    lines = told(page, kind="why", cuts=["Q->D"], passages=PASSAGES[:2])
    found = lines[-1]["result"]
    expected = matchlens.explain(tiny32, QUERY, PASSAGES[:2])
    assert found["swap"] == expected.options["swap"]
    assert found["swapped"] == expected.options["swapped"]
    assert [4, 4] in [one.get("progress") for one in lines]
    assert found["swapped"]
    scores = asked(page, cuts=found["swap"], passages=PASSAGES[:2])
    assert np.sign(np.subtract(*scores["scores"])) == -np.sign(np.subtract(*scores["plain"]))


def test_cuts_as_text_become_cells_and_heads(page):
    def read(text):
        return json.loads(send(page, path="/api/cuts", body={"model": 0, "text": text})[2])

    assert read("{Q,D}->Q@0:2~mask; CLS->D#1.2~mask") == {
        "cells": {"Q->Q": [0, 1], "D->Q": [0, 1]}, "heads": {"CLS->D": ["1.2"]}, "how": "mask"
    }  # fmt: skip
    assert set(read("Q->All")["cells"]) == {f"Q->{part}" for part in NAMED}
    assert read(" ")["cells"] == {}
    assert "layer 7 is out of range" in read("Q->D@7")["error"]
    assert "expected" in read("Q>D")["error"]
    assert "made in 2 ways" in read("Q->D;D->Q~mask")["error"]


def test_parts_of_the_collection_are_rows_and_are_cut(tiny32):
    plain = PairSet.from_frame([{"query": QUERY, "text": text} for text in PASSAGES])
    pairs = plain.with_parts({"START": lambda p: [(0, 3)] if "dog" not in p.text else []})
    pairs = pairs.with_parts({"WARM": lambda p: [(0, 4)]}, of="Q")
    cuts = ["WARM->START#0.1,2.3", "Q->START@1"]
    with matchlens.serve(tiny32, pairs, sets={"title": ["Q->START"]}) as page:
        about = page.microscope.about()["models"][0]
        rows = [one["name"] for one in about["directions"]]
        assert len(rows) == 49
        assert {"Q->START", "WARM->START"} <= set(rows)
        assert [one["own"] for one in about["directions"]].count(False) == 25
        assert about["sets"][-1]["part"]["cells"] == {"Q->START": [0, 1, 2]}

        found = asked(page, cuts=cuts)
        sets = {"both": [Cut.parse(cut) for cut in cuts]}
        expected = matchlens.score(tiny32, pairs, sets=sets)["both"]
        np.testing.assert_allclose(found["scores"], expected, atol=1e-5)
        assert found["scores"][2] == pytest.approx(found["plain"][2], abs=1e-6)
        edited = asked(page, cuts=cuts, passages=[*PASSAGES[:2], PASSAGES[3] + "!"])
        np.testing.assert_allclose(edited["scores"][:2], expected[:2], atol=1e-5)
        assert edited["scores"][2] == pytest.approx(edited["plain"][2], abs=1e-6)

        lines = json.loads(send(page, path="/api/lines", body={**TO_TEXT, "cuts": cuts})[2])
        names: dict[str, object] = {}
        exec(lines["lines"].replace("print(", "_ = ("), names)
        np.testing.assert_allclose(np.array(names["_"])[:, -1], expected, atol=1e-5)

        lines = told(page, kind="words", passages=PASSAGES[:2], cuts=cuts[:1])
        first, last = (next(one[k] for one in lines if k in one) for k in ("heads", "result"))
        result = matchlens.explain(tiny32, QUERY, pairs[:2], points=16, swap=False)
        alone = told(page, kind="words", passages=PASSAGES[:2])[-1]["result"]["shares"]
        share = np.array(alone["Q->START"]).sum()
        margin = result.to_frame("margin").set_index("unit")["contribution"]
        assert share == pytest.approx(margin["Q->START"], rel=0.05, abs=0.01)
        assert np.array(last["shares"]["WARM->START"])[0, 1] == 0  # it is cut
        slopes = matchlens.screen(tiny32, tiny_models.graded_by_cats(2, 3), others=1)
        assert set(first["screened"]) >= {"Q->START"} | set(slopes.to_frame("gates")["direction"])
        mass = [np.array(first["attention"][f"Q->{part}"]) for part in (*NAMED, "START")]
        np.testing.assert_allclose(sum(mass[:5]), 1, atol=0.02)
        assert (mass[5] > 0).all()
        assert (mass[5] < mass[3]).all()

        error = told(page, cuts=cuts, query="another")[-1]["error"]
        assert "names START, and none of these texts has it" in error or "names WARM" in error
        body = {"model": 0, "text": "Q->TITLE"}
        error = json.loads(send(page, path="/api/cuts", body=body)[2])["error"]
        assert "has no row" in error
        assert "START, WARM" in error


def test_the_collection_can_be_browsed(page):
    def read(path, **body):
        return json.loads(send(page, path=path, body=body)[2])

    assert len(read("/api/queries")["queries"]) == 4
    first = page.microscope.pairs[0]
    (one,) = read("/api/queries", search=f"q0 {first.query.split()[0].upper()}")["queries"]
    found = read("/api/candidates", query=one["number"])
    assert found["query"] == first.query
    assert len(found["candidates"]) == 6
    assert {row["grade"] for row in found["candidates"]} == {0, 1, 2, 3}
    assert "is not there" in read("/api/candidates", query=9)["error"]


def test_a_request_that_was_answered_runs_no_model_again(page, ran):
    asked(page, cuts=["Q->Q"])
    asked(page, kind="words", cuts=["Q->Q"])
    ran.clear()
    asked(page, cuts=["Q->Q"])
    asked(page, kind="words", cuts=["Q->Q"])
    assert not ran
    asked(page, cuts=["Q->Q"], passages=[*PASSAGES, "a new one"])
    assert [len(pairs) for pairs in ran] == [1, 1]  # the new one alone, without the cut and with it


def test_what_is_kept_is_bounded():
    kept = Kept(1000)
    for number in range(50):
        kept.put(str(number), {"text": "x" * 100})
    assert kept.get("49")
    assert kept.get("0") is None
    assert sum(kept.get(str(number)) is not None for number in range(50)) < 10


def test_a_decoder_s_prompt_is_read_by_all_alone(tmp_path):
    model = matchlens.load(tiny_decoders.save(tmp_path / "qwen3", "qwen3"), device="cpu")
    microscope = Microscope([model])
    (about,) = microscope.about()["models"]
    rows = {row["name"]: row["impossible"] for row in about["directions"]}
    assert "D->All" in rows
    assert "Other->Q" not in rows
    assert rows["Q->D"]
    assert not rows["D->Q"]
    layers = list(range(about["layers"]))
    assert microscope.read_cuts(0, "D->All")["cells"] == {"D->All": layers}
    found = microscope.score(experiment(["D->All@0:1", "D->Q"]))
    cuts = [Cut.parse("D->All@0:1"), Cut.parse("D->Q")]
    expected = run(model, experiment().pairs, {"x": cuts}).scores.of("x")
    np.testing.assert_allclose(found["scores"], expected, atol=1e-5)


def test_two_models_are_served_side_by_side(tiny32, tmp_path):
    other = matchlens.load(tiny_models.save(tmp_path / "other", seed=1, layers=2), device="cpu")
    with matchlens.serve([tiny32, other]) as page:
        first, second = (asked(page, model=place, cuts=["Q->D@1"]) for place in (0, 1))
        expected = matchlens.score(other, [(QUERY, text) for text in PASSAGES], ["Q->D@1"])
        np.testing.assert_allclose(second["scores"], expected["Q->D@1"], atol=1e-5)
        assert first["scores"] != second["scores"]
        assert "layer 2 is out of range" in told(page, model=1, cuts=["Q->D@2"])[-1]["error"]


# --- who may ask, and for how much


def test_only_who_knows_the_token_is_let_in(page):
    for token in (None, "", "wrong", page.token[:-1], page.token + "x", "\u00e9"):
        assert send(page, body=TO_TEXT, X_Matchlens_Token=token)[0] == 403
    assert send(page, "GET", "/")[0] == 403
    assert send(page, "GET", "/?token=wrong")[0] == 403
    assert send(page, "GET", f"/?token={page.token}", X_Matchlens_Token=None)[0] == 200
    assert send(page, path=f"/api/run?token={page.token}", X_Matchlens_Token=None)[0] == 403


def test_a_name_that_somebody_points_here_gets_nothing(page):
    """DNS rebinding: the browser asks 127.0.0.1 in the name of another host."""
    names = ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example")
    for host in (
        "",
        "127.0.0.1",
        f"127.0.0.1:{page.port + 1}",
        *names,
        *(f"{name}:{page.port}" for name in names),
    ):
        status, _, body = send(page, "GET", f"/?token={page.token}", Host=host)
        assert status == 421, host
        assert page.token.encode() not in body
    assert send(page, body={**TO_TEXT, "cuts": []}, Host=f"localhost:{page.port}")[0] == 200


@pytest.mark.parametrize(("port", "allowed"), [(80, True), (8080, False)])
def test_browsers_leave_out_http_s_own_port(port, allowed):
    guard = Guard(PlainTextResponse(""), "token", port, False)
    for host in ("127.0.0.1", "localhost"):
        headers = [(b"host", host.encode()), (b"origin", f"http://{host}".encode())]
        scope = {"headers": headers, "path": "/", "query_string": b"token=token"}
        assert guard._refusal(scope)[0] == (0 if allowed else 421)


def test_another_site_s_page_gets_nothing(page):
    here = f"http://127.0.0.1:{page.port}"
    for origin in (
        "https://evil.example",
        "null",
        f"https://127.0.0.1:{page.port}",
        "http://127.0.0.1",
    ):
        assert send(page, body=TO_TEXT, Origin=origin)[0] == 403
    for site in ("cross-site", "same-site"):
        assert send(page, body=TO_TEXT, Sec_Fetch_Site=site)[0] == 403
    assert (
        send(page, body={**TO_TEXT, "cuts": []}, Origin=here, Sec_Fetch_Site="same-origin")[0]
        == 200
    )
    # What a form of another site can send without being asked first.
    assert send(page, body=TO_TEXT, Content_Type="text/plain")[0] == 400
    assert send(page, "OPTIONS", Origin="https://evil.example")[0] == 403
    _, headers, _ = send(page, body={**TO_TEXT, "cuts": []})
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_it_listens_on_this_machine_alone(page):
    assert page._socket.getsockname()[0] == "127.0.0.1"
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
        except OSError:
            pytest.skip("this machine has no other address")
        other = probe.getsockname()[0]
    if other.startswith("127."):
        pytest.skip("this machine has no other address")
    with contextlib.closing(socket.socket()) as outside:
        outside.settimeout(2)
        with pytest.raises(OSError):  # noqa: PT011
            outside.connect((other, page.port))


def test_the_page_runs_its_own_script_alone(page):
    policies = []
    for _ in range(2):
        status, headers, body = send(page, "GET", f"/?token={page.token}")
        assert status == 200
        policies.append(headers["Content-Security-Policy"])
        (nonce,) = set(re.findall(rb'nonce="([^"]+)"', body))
        assert f"script-src 'nonce-{nonce.decode()}'" in policies[-1]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert page.token.encode() not in body
        assert not re.findall(rb'(?:src|href)="(?!data:|#)', body)
    assert policies[0] != policies[1]
    assert all(word not in policies[0] for word in ("unsafe", "*;", "https://*"))
    assert "default-src 'none'" in policies[0]


def test_outside_a_notebook_no_page_may_show_it_inside(tiny32):
    with LivePage(Microscope([tiny32]), inside=False) as page:
        _, headers, _ = send(page, "GET", f"/?token={page.token}")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"passages": ["x"] * (MOST_PASSAGES + 1)}, "21 passages came; expected 1 to 20"),
        ({"passages": []}, "0 passages came"),
        ({"passages": "tea"}, "0 passages came"),
        ({"passages": ["tea", " "]}, "passage 2 has no text"),
        ({"passages": ["tea", 3]}, "passage 2 has no text"),
        ({"passages": ["x" * 100_001]}, "100,001 characters"),
        ({"query": ""}, "the query has no text"),
        ({"query": "\ud800"}, "half a surrogate pair"),
        ({"model": 1}, "the model is 1"),
        ({"model": "0"}, "the model is '0'"),
        ({"model": -1}, "the model is -1"),
        ({"cuts": ["Q->D"] * 101}, "101 cuts came"),
        ({"cuts": [3]}, "1 cut came"),
        ({"cuts": "Q->D"}, "the cuts are 'Q->D'; expected a list of texts"),
        ({"cuts": {"0": "Q->D"}}, "expected a list of texts"),
        ({"cuts": ["Q->D" + " " * 20_000]}, "1 cut came"),
        ({"cuts": ["Q->D~resample"]}, "is made by resample"),
        ({"cuts": ["Q->SEP2~sink"]}, "moves the removed mass to SEP2"),
        ({"cuts": ["Q->D#9.1"]}, "out of range"),
        ({"cuts": ["Q->D", "Q->D~mask"]}, "cut in two ways"),
        ({"kind": "words", "passages": ["tea"]}, "1 passage came; expected 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_a_line(page, change, words):
    last = told(page, **change)[-1]
    assert words in last["error"]
    assert len(last["error"]) < 400


def test_requests_are_bounded(page):
    large = b'{"query": "' + b"x" * (5 * 2**20) + b'"}'
    assert send(page, body=large)[0] == 413
    assert send(page, body=b"{}", Content_Length="99999999999")[0] in (400, 413)
    pieces = b"".join(b"%x\r\n%s\r\n" % (2**16, b"x" * 2**16) for _ in range(80)) + b"0\r\n\r\n"
    assert send(page, body=pieces, Transfer_Encoding="chunked")[0] == 413
    for body in (b"", b"[]", b"3", b"{", b"[" * 100_000, b"\xff"):
        assert send(page, body=body)[0] == 400
    assert send(page, body={**TO_TEXT, "kind": "rm -rf"})[0] == 400
    assert send(page, "GET", "/api/run")[0] == 405
    assert send(page, "GET", "/api/../../etc/passwd")[0] == 404
    many = "&".join(f"a{number}=1" for number in range(500))
    assert send(page, "GET", f"/?{many}")[0] == 403
    assert send(page, "GET", f"/?{many}&token={page.token}")[0] == 200
    assert send(page, body={}, Content_Type="Application/JSON ; charset=utf-8")[0] == 400
    assert asked(page)["scores"]


def test_hostile_texts_are_inert_on_the_page_and_in_what_is_saved(page):
    texts = [HOSTILE, f"{HOSTILE} {HOSTILE}"]
    found = asked(page, kind="words", query=HOSTILE, passages=texts)
    assert "<img" not in found["view"]
    saved = asked(page, kind="page", query=HOSTILE, passages=texts, title=HOSTILE, cuts=["Q->D"])[
        "page"
    ]
    assert len(saved.encode()) < LIMIT
    assert "<img" not in saved
    assert "\u202e" not in saved
    assert re.findall(r"<script", saved) == ["<script"] * 2  # the view's numbers and its script
    assert not re.findall(r'(?:src|href)="(?!data:)|https?:', saved.replace(script(), ""))
    lines = json.loads(
        send(page, path="/api/lines", body={**TO_TEXT, "query": HOSTILE, "cuts": []})[2]
    )
    assert repr(HOSTILE) in lines["lines"]


def test_the_line_of_the_best_score_is_within_its_bar_on_the_page_that_is_saved(page):
    saved = asked(page, kind="page", cuts=[])["page"]
    lines = re.findall(r'class="tick" x="([\d.]+)" y="0" width="([\d.]+)"', saved)
    assert max(float(left) + float(wide) for left, wide in lines) == pytest.approx(100)


def test_a_page_that_would_be_large_is_refused(page):
    last = told(page, kind="page", passages=["<" * 99_999 + "x"] * 8)[-1]
    assert re.search(r"would have [\d.]+ MB; expected at most 2 MB", last["error"]), last


def test_a_collection_s_hostile_texts_cannot_leave_the_page_s_data(tiny32):
    pair = replace(tiny_models.pairs(1)[0], query=HOSTILE, text=HOSTILE)
    pairs = PairSet((pair,), {}, {"candidates": "given"}, {"pairs": 1}, ())
    with matchlens.serve(tiny32, pairs, sets={HOSTILE: ["Q->D"]}) as page:
        body = send(page, "GET", f"/?token={page.token}")[2].decode()
    assert "<img" not in body
    assert body.count("</script>") == 3


# --- one run at a time


def test_a_request_that_waits_hears_its_place(own):
    with held(own) as go:
        lines: list[dict] = []
        thread = threading.Thread(target=lambda: lines.extend(told(own)))
        thread.start()
        wait(lambda: load(own.worker) == 2)
        go.set()
        thread.join()
    assert lines[0] == {"queue": 1}
    assert lines[-1]["result"]


def test_a_newer_toggle_cancels_older_work_of_the_same_browser_alone(own):
    found: dict[str, list] = {}
    threads = []

    def start(name, **body):
        thread = threading.Thread(target=lambda: found.update({name: told(own, **body)}))
        thread.start()
        threads.append(thread)

    with held(own) as go:
        start("a's words", kind="words", client="a")
        start("b's words", kind="words", client="b")
        wait(lambda: load(own.worker) == 3)
        start("a's score", client="a", cuts=["Q->D"])
        wait(lambda: "a's words" in found)
        assert load(own.worker) == 3
        start("a's newer score", client="a", cuts=["D->Q"])
        wait(lambda: "a's score" in found)
        assert load(own.worker) == 3
        go.set()
        for thread in threads:
            thread.join()
    assert found["a's words"][-1] == found["a's score"][-1] == {"cancelled": True}
    assert "result" in found["b's words"][-1]
    assert "result" in found["a's newer score"][-1]


def test_a_browser_that_goes_leaves_no_work_behind(own, ran):
    with held(own) as go:
        with browser_that_goes(own, kind="why"):
            wait(lambda: load(own.worker) == 2)
        wait(lambda: load(own.worker) == 1)
        go.set()
    wait(lambda: load(own.worker) == 0)
    assert not ran


@pytest.mark.parametrize("path", ["/api/run", "/api/queries"])
def test_a_browser_that_goes_before_its_request_has_ended_leaves_no_traceback(page, caplog, path):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{page.port}\r\nContent-Length: 500\r\n"
    head += f"Content-Type: application/json\r\nX-Matchlens-Token: {page.token}\r\n\r\n{{"
    with contextlib.closing(socket.create_connection(("127.0.0.1", page.port))) as browser:
        browser.sendall(head.encode())
        time.sleep(0.1)
    assert asked(page)["scores"]
    assert not [record for record in caplog.records if record.exc_info]


def test_work_in_hand_is_cancelled_when_its_browser_goes(own):
    started, ended = threading.Event(), threading.Event()
    plain = own.microscope.why

    def why(experiment, tell):
        started.set()
        try:
            while True:
                own.microscope._kept = Kept()
                plain(experiment, tell)
        finally:
            ended.set()

    own.microscope.why = why
    with browser_that_goes(own, kind="why"):
        assert started.wait(LONG)
    assert ended.wait(LONG)
    wait(lambda: load(own.worker) == 0)
    assert asked(own)["scores"]


@pytest.mark.parametrize("what", ["scores", "contributions", "slopes", "attention"])
def test_work_looks_between_layers_whether_it_is_wanted(tiny, what):
    pairs = experiment().pairs
    words = np.arange(int(tiny.encode(pairs[:1]).lengths[0]))
    works = {
        "scores": lambda: run(tiny, pairs, {"": [], "Q->D": [Cut.parse("Q->D")]}),
        "contributions": lambda: gating.integrate(tiny, pairs[0], words, 4),
        "slopes": lambda: gating.stream_slopes(tiny, pairs, lambda rows, values: None),
        "attention": lambda: gating.word_attention(tiny, pairs[0], words),
    }
    gating.check_gates(tiny)
    looks = []
    with cancellable(lambda: looks.append(1) or len(looks) > 2), pytest.raises(Cancelled):
        works[what]()
    assert len(looks) == 3
    works[what]()


def test_an_error_in_one_job_does_not_end_the_others(own, monkeypatch):
    seen: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    own.microscope.score = None
    assert "an error of matchlens itself" in told(own)[-1]["error"]
    wait(lambda: seen)
    assert seen[0].exc_type is TypeError
    del own.microscope.score
    assert asked(own)["scores"]


def test_too_many_requests_are_refused(tiny32):
    worker = Worker()
    try:
        hold = threading.Event()
        jobs = [
            Job(str(number), "words", lambda tell: {"held": hold.wait(LONG)}, lambda what: None)
            for number in range(MOST_WAITING + 1)
        ]
        worker.submit(jobs[0])
        wait(lambda: not worker._waiting)
        for job in jobs[1:]:
            worker.submit(job)
        with pytest.raises(InputError, match="64 requests in the queue already"):
            worker.submit(Job("one more", "words", lambda tell: {}, lambda what: None))
    finally:
        hold.set()
        worker.close()
    assert load(worker) == 0


@pytest.mark.slow
def test_eight_browsers_at_once_lose_nothing(own, tiny32):
    cuts = [f"{x}->{y}@{layer}" for x in NAMED for y in NAMED for layer in range(3)]
    expected = matchlens.score(tiny32, [(QUERY, text) for text in PASSAGES], cuts)
    wrong, done = [], []

    def browse(name: int) -> None:
        draw = np.random.default_rng(name)
        for _ in range(100):
            cut = str(draw.choice(cuts))
            found = told(own, client=str(name), cuts=[cut])[-1]
            done.append(name)
            if not np.allclose(found["result"]["scores"], expected[cut], atol=1e-5):
                wrong.append((name, cut))

    threads = [threading.Thread(target=browse, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [done.count(name) for name in range(8)] == [100] * 8
    wait(lambda: not load(own.worker))  # the last answer is sent a moment before its job ends


# --- starting and stopping


def test_it_stops_and_shows_itself_in_a_line(tiny32):
    page = matchlens.serve(tiny32)
    assert re.fullmatch(r"<LivePage of '.{,45}, at http://127.0.0.1:\d+>", repr(page))
    assert page.token not in repr(page)
    assert f'src="{page.url}"' in page._repr_html_()
    page.stop()
    assert not page.running
    assert repr(page).endswith("stopped>")
    assert "<iframe" not in page._repr_html_()
    with pytest.raises(OSError):  # noqa: PT011
        socket.create_connection(("127.0.0.1", page.port), timeout=2)
    page.stop()


def test_it_stops_in_the_middle_of_work(tiny32):
    page = matchlens.serve(tiny32)
    with held(page):
        answers: list = []
        thread = threading.Thread(target=lambda: answers.extend(told(page)))
        thread.start()
        wait(lambda: load(page.worker) == 2)
        page.stop()
        thread.join()
    assert answers[-1] == {"cancelled": True}
    assert not page.running


def test_an_interrupted_wait_leaves_it_running_until_it_is_stopped(own):
    """Python 3.11 takes a thread whose join was interrupted for one that has ended."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            own.wait()
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert own.running
    assert asked(own)["scores"]
    with held(own), browser_that_goes(own):  # so that stopping takes a moment
        wait(lambda: load(own.worker) == 2)
        own.stop()
    assert not own.running
    assert own._thread not in threading.enumerate()


def test_a_port_that_is_taken_is_named(page, tiny32):
    with pytest.raises(InputError, match=f"port {page.port} of this machine cannot be used"):
        matchlens.serve(tiny32, port=page.port)


def test_the_function_stays_callable_when_its_modules_are_imported():
    import matchlens.cli.serving
    import matchlens.live.server

    assert isinstance(matchlens.serve, FunctionType)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec

    def hidden(name, *rest):
        return None if name == "uvicorn" else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    line = refused("serve", "--no-open")
    assert line.endswith("expected the extra: pip install 'matchlens[serve]'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "--port is 70000; expected 0 to 65,535"),
        (["-m", "a", "-m", "b", "-m", "c"], "3 models came; expected one, or two to compare"),
        (["--link", "http://127.0.0.1:1/"], "holds no texts and cuts"),
        (["--cut-file", "nowhere.json"], "cut file 'nowhere.json' cannot be read"),
        (["--results", "nowhere"], "nowhere"),
        (["-m", "nowhere/none"], "nowhere/none"),
        (["--demo", "--topics", "t.tsv"], "2 collections named"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_at_once(tmp_path, monkeypatch, tiny_folder, words, said):
    monkeypatch.chdir(tmp_path)
    model = [] if "-m" in words else ["-m", tiny_folder]
    assert said in refused("serve", "--no-open", *model, *words)


def test_sets_come_from_a_results_folder(tmp_path, tiny32, tiny_folder):
    from matchlens.cli.serving import _stored_sets

    result = matchlens.explain(tiny32, QUERY, PASSAGES[:2], points=2)
    assert result.options["swapped"]
    result.save(tmp_path / "why")
    served = [find(tiny_folder)]
    (one,) = _stored_sets(tmp_path / "why", served).items()
    assert one == ("smallest swap", tuple(Cut.parse(str(cut)) for cut in result.options["swap"]))
    with pytest.warns(matchlens.MatchlensWarning, match="results of another model"):
        (one,) = _stored_sets(tmp_path / "why", [find("demo")])
    assert one == f"smallest swap of {result.identity['model']['name']}"
    about = {"sets": {"mine": "1.0"}, "directions": ["Q->D"], "hows": ["zero", "mask"]}
    head_sets = {"study": "head-sets", "options": about, "tables": {}}
    replace(result, **head_sets).save(tmp_path / "why")
    stored = _stored_sets(tmp_path / "why", served)
    assert stored["mine Q->D~mask"] == (Cut.parse("Q->D#1.0~mask"),)
    assert stored["mine Q->D"] == (Cut.parse("Q->D#1.0"),)
    heads = pd.DataFrame({"direction": ["Q->D"], "layer": [1], "head": [0]})
    attention = {"study": "attention", "options": {}}
    replace(result, **attention, tables={"matching": heads.assign(matching=True)}).save(
        tmp_path / "old"
    )
    with pytest.raises(InputError, match="earlier definition"):
        _stored_sets(tmp_path / "old", served)
    tables = {"matching": heads, "conditions": heads}
    replace(result, **attention, tables=tables).save(tmp_path / "damaged")
    with pytest.raises(InputError, match="cannot be used"):
        _stored_sets(tmp_path / "damaged", served)
    Result.save(
        matchlens.explain(tiny32, QUERY, PASSAGES[:2], points=2, swap=False), tmp_path / "no"
    )
    with pytest.raises(InputError, match="holds no matching heads"):
        _stored_sets(tmp_path / "no", served)


@pytest.mark.slow
def test_ctrl_c_ends_the_command(tiny_folder):
    # A process in the background ignores Ctrl-C unless it is told otherwise.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from matchlens.__main__ import run; run()"
    )
    words = ["serve", "--no-open", "-m", str(tiny_folder), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", url)
    host, _, token = url.partition("/?token=")
    page = type("Page", (), {"port": int(host.rpartition(":")[2]), "token": token})
    assert asked(page)["scores"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "matchlens: the live page has stopped"
    assert "Traceback" not in err


def test_the_first_example_is_scored_by_every_model(page):
    query, passages = EXAMPLE
    assert len(asked(page, query=query, passages=list(passages))["scores"]) == len(passages)

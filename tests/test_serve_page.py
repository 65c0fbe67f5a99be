"""The live page in a real browser: toggles, keys, edits, links, a phone; texts are inert."""

from __future__ import annotations

import functools
import http.server
import json
import threading

import numpy as np
import pytest

import chromium
import matchlens
import tiny as tiny_models
from matchlens.corpora import PairSet
from test_page_browser import DOWN, RIGHT

pytestmark = pytest.mark.skipif(
    chromium.found() is None, reason="chromium and chromedriver are not installed"
)
ENTER, SPACE = "\ue007", " "
HOSTILE = "<img src=x onerror='window.hurt=1'></script><b>warm</b> tea"
SCORED = (
    "!document.querySelector('#rows.stale') && document.querySelector('.row .value').textContent"
)
FOLLOWED = f"{SCORED} && document.querySelector('#view .mlv') && !document.querySelector('.old')"
SCORES = "return [...document.querySelectorAll('.row .value')].map((one) => one.textContent)"
TEXT = "return document.getElementById('text').value"
SAID = "return document.getElementById('said').textContent"


@pytest.fixture(scope="module")
def page(tiny32):
    pairs = tiny_models.pairs(24)
    pairs[1] = type(pairs[1])("q1", "p1", HOSTILE, HOSTILE, 0, collection="tiny")
    chosen = PairSet(tuple(pairs), {}, {"candidates": "given"}, {"pairs": 24}, ())
    with matchlens.serve(tiny32, chosen, sets={HOSTILE: ["Q->D#0.1"]}) as page:
        yield page


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def window(tmp_path_factory, downloads):
    with chromium.Chromium(tmp_path_factory.mktemp("profile"), downloads) as one:
        one.size(1280, 900)
        yield one


@pytest.fixture
def browser(window, page):
    """A fresh page; it asks this server alone, logs no error, and no stranger's script runs."""
    window.log("browser")
    window.log("performance")
    window.open("about:blank")
    window.open(page.url)
    window.until(FOLLOWED)
    yield window
    window.unhurt(f"http://127.0.0.1:{page.port}/", "about:", "blob:")
    chromium.wait(lambda: not page.worker._jobs())


def press(browser, css: str) -> None:
    browser.run("document.querySelector(arguments[0]).click()", css)


def cell(name: str, layer: int) -> str:
    arrow = name.replace("->", " \u2192 ")
    return f"#matrix .cell[aria-label^='{arrow}, layer {layer}:']"


def type_into(browser, css: str, text: str) -> None:
    browser.run(
        "const node = document.querySelector(arguments[0]); node.focus();"
        "node.value = arguments[1]; node.dispatchEvent(new Event('input'))",
        css,
        text,
    )


def numbers(browser) -> list[float]:
    return [float(text.replace("\u2212", "-")) for text in browser.run(SCORES)]


def texts(browser) -> list[str]:
    script = "return [...document.querySelectorAll('.row textarea')].map((one) => one.value)"
    return browser.run(script)


def expected(model, browser, cuts) -> np.ndarray:
    query = browser.run("return document.getElementById('query').value")
    table = matchlens.score(model, [(query, text) for text in texts(browser)], cuts)
    return table[cuts[-1] if cuts else ""].to_numpy()


def test_a_toggle_moves_the_scores_and_says_so(browser, tiny32):
    np.testing.assert_allclose(numbers(browser), expected(tiny32, browser, []), atol=6e-4)
    press(browser, cell("Q->D", 1))
    browser.until(f"document.getElementById('text').value && {SCORED}")
    assert browser.run(TEXT) == "Q->D@1"
    np.testing.assert_allclose(numbers(browser), expected(tiny32, browser, ["Q->D@1"]), atol=6e-4)
    assert browser.run(SAID).startswith("The query no longer reads the passage in layer 1. ")
    browser.until(FOLLOWED)
    assert "Under the cuts" in browser.run("return document.getElementById('whynote').textContent")
    press(browser, "#undo")
    assert browser.run(TEXT) == ""
    browser.until(SCORED)
    assert browser.run(SAID).startswith("The query reads the passage again in layer 1. ")
    np.testing.assert_allclose(numbers(browser), expected(tiny32, browser, []), atol=6e-4)
    press(browser, "#redo")
    assert browser.run(TEXT) == "Q->D@1"
    press(browser, "#hows [value=mask]")
    assert browser.run(TEXT) == "Q->D@1~mask"
    press(browser, "#reset")
    assert browser.run(TEXT) == ""
    browser.until(FOLLOWED)


def test_ranks_are_those_of_the_scores_and_stand_in_their_order(browser):
    press(browser, "#sets button:nth-child(4)")
    browser.until(f"document.getElementById('text').value && {SCORED}")
    script = (
        "return [...document.querySelectorAll('.row')].map((one) => "
        "[one.getBoundingClientRect().top, one.querySelector('.place b').textContent])"
    )
    browser.until("!document.getAnimations().length")
    rows, scores = browser.run(script), numbers(browser)
    by_score = sorted(range(len(scores)), key=lambda place: -scores[place])
    assert sorted(range(len(rows)), key=lambda place: rows[place][0]) == by_score
    assert [rows[place][1] for place in by_score] == [str(n) for n in range(1, len(rows) + 1)]
    browser.until(FOLLOWED)


@pytest.mark.slow
def test_a_drag_paints_many_cells(browser):
    centre = (
        "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)]"
    )
    places = [browser.run(centre, cell("D->Q", layer)) for layer in range(3)]
    move = [
        {"type": "pointerMove", "origin": "viewport", "x": x, "y": y, "duration": 30}
        for x, y in places
    ]
    actions = [
        move[0],
        {"type": "pointerDown", "button": 0},
        *move[1:],
        {"type": "pointerUp", "button": 0},
    ]
    pointer = {"type": "pointer", "id": "mouse", "actions": actions}
    browser.call("/actions", {"actions": [pointer]})
    assert browser.run(TEXT) == "D->Q"
    browser.until(FOLLOWED)


def test_it_can_be_used_by_keys_alone(browser):
    browser.run("document.querySelector('#matrix .cell').focus()")
    browser.keys(RIGHT, DOWN, ENTER)
    assert browser.run(TEXT) == "CLS->Q@1"
    browser.keys(SPACE)
    assert browser.run(TEXT) == ""
    browser.run("document.querySelector('#grid .cell').focus()")
    browser.keys(RIGHT, ENTER)
    assert browser.run(TEXT) == "Q->D#2.1"
    browser.run("document.querySelector('#hows [aria-checked=true]').focus()")
    browser.keys(RIGHT)
    assert browser.run(TEXT) == "Q->D#2.1~mask"
    stops = browser.run(
        "return [...document.querySelectorAll('#matrix, #grid, #hows')].map((one) => "
        "one.querySelectorAll('[tabindex=\"0\"]').length)"
    )
    assert sorted(stops) == [1, 2, 3]  # of each list one
    browser.until(FOLLOWED)


def test_cuts_can_be_typed_and_what_is_wrong_is_said(browser):
    def typed(text):
        browser.run(
            "const node = document.getElementById('text'); node.value = arguments[0];"
            "node.dispatchEvent(new Event('change'))",
            text,
        )

    typed("{Q,D}->Q@0:2; CLS->D#1.2")
    browser.until("document.querySelectorAll('#matrix [aria-pressed=true]').length === 4")
    assert browser.run(TEXT) == "CLS->D#1.2; Q->Q+D->Q@0:2"
    typed("Q>D")
    browser.until("!document.getElementById('wrong').hidden")
    browser.until(SCORED)  # the scores of the cuts before
    browser.until(FOLLOWED)
    assert "expected" in browser.run("return document.getElementById('wrong').textContent")
    typed("Q->SEP2~sink")
    browser.until("/SEP2/.test(document.getElementById('wrong').textContent)")
    browser.until(SCORED)
    browser.until(FOLLOWED)


def test_an_edited_word_is_compared_with_the_old_text(browser):
    old = texts(browser)[0]
    was = numbers(browser)[0]
    type_into(browser, ".row textarea", f"cold {old}")
    browser.until("!document.querySelector('.row .diff').hidden")
    browser.until(SCORED)
    words = browser.run("return document.querySelector('.row .diff').textContent")
    assert words.startswith("nothing \u2192 cold: score ")
    assert str(abs(round(was, 3))).lstrip("0") in words
    browser.until(FOLLOWED)
    press(browser, "#edited")
    browser.until("/is the new text/.test(document.getElementById('whynote').textContent)")
    press(browser, ".row .diff button")
    browser.until(SCORED)
    assert texts(browser)[0] == old
    assert browser.run("return document.querySelector('.row .diff').hidden")
    browser.until(FOLLOWED)


def test_why_and_the_smallest_swap(browser, tiny32):
    press(browser, "#why")
    browser.until("/Without cuts/.test(document.getElementById('whynote').textContent) && "
          "document.querySelectorAll('#view .say').length === 3")  # fmt: skip
    query = browser.run("return document.getElementById('query').value")
    result = matchlens.explain(tiny32, query, texts(browser)[:2])
    press(browser, "#swap")
    browser.until("document.getElementById('text').value")
    browser.until(SCORED)
    assert result.options["swapped"]
    ranks = browser.run(
        "return [...document.querySelectorAll('.place b')].map((one) => one.textContent)"
    )
    assert int(ranks[1].rstrip("=")) < int(ranks[0].rstrip("="))
    browser.until(FOLLOWED)


@pytest.mark.slow
def test_links_between_words_are_drawn_and_stay_when_the_view_is_renewed(browser):
    press(browser, "#view tr[data-unit='Q->D'] .unit")
    assert browser.run("return document.querySelectorAll('#view svg.links g').length") > 0
    press(browser, cell("SEP1->D", 0))
    browser.until(FOLLOWED)
    assert browser.run("return document.querySelectorAll('#view svg.links g').length") > 0


@pytest.mark.slow
def test_a_link_holds_texts_and_cuts(browser, page):
    press(browser, cell("D->Q", 2))
    type_into(browser, "#query", "warm rain")
    browser.until("document.querySelector('.row .value')")
    browser.run(
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: (text) => "
        "{ window.copied = text; return Promise.resolve(); }}})"
    )
    press(browser, "#link")
    browser.until("window.copied")
    link = browser.run("return window.copied")
    before = texts(browser)
    browser.open("about:blank")
    browser.open(link)
    browser.until(FOLLOWED)
    assert browser.run(TEXT) == "D->Q@2"
    assert browser.run("return document.getElementById('query').value") == "warm rain"
    assert texts(browser) == before
    browser.open("about:blank")
    browser.open(f"{page.url}#s=bm90aGluZw")
    browser.until(FOLLOWED)
    assert "cannot be read" in browser.run(SAID)


def test_a_query_of_the_collection_with_hostile_texts(browser):
    press(browser, "#browse")
    browser.until("document.querySelectorAll('#queries button').length === 4")
    press(browser, "#queries li:nth-child(2) button")
    browser.until("document.querySelectorAll('#candidates input').length")
    press(browser, "#use")
    browser.until(f"document.getElementById('query').value.startsWith('<img') && {SCORED}")
    browser.until(FOLLOWED)
    assert HOSTILE in texts(browser)
    assert "lettered by rank" in browser.run(SAID)
    type_into(browser, ".row textarea", f"{HOSTILE} {HOSTILE}")
    browser.until("!document.querySelector('.row .diff').hidden")
    browser.until(FOLLOWED)
    press(browser, "#python")
    browser.until("document.getElementById('code').textContent.includes('onerror')")
    press(browser, "#lines [data-close]")


@pytest.mark.slow
def test_the_page_is_saved_as_one_file(browser, window, downloads):
    press(browser, cell("Q->D", 0))
    browser.until(FOLLOWED)
    saved = numbers(browser)
    press(browser, "#save")
    path = downloads / "matchlens-live.html"
    chromium.wait(path.exists)
    assert path.stat().st_size < 2_000_000
    window.open(path.as_uri())
    found = window.run(
        "return [...document.querySelectorAll('.ranking tbody tr')].map((one) => "
        "[one.querySelector('b').textContent, one.children[4].textContent])"
    )
    by_letter = {letter: float(text.replace("\u2212", "-")) for letter, text in found}
    assert [by_letter[letter] for letter in sorted(by_letter)] == pytest.approx(saved, abs=1e-3)
    window.run("document.querySelector(\"tr[data-unit='D->D']\").click()")
    assert window.run("return document.querySelectorAll('svg.links g').length") > 0
    events = [json.loads(entry["message"])["message"] for entry in window.log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert not [one for one in asked[-3:] if one.startswith("http") and "api" not in one]
    window.log("browser")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_on_a_phone_or_in_the_dark(browser, dark):
    browser.size(390, 844, dark=dark)
    try:
        assert browser.run("return document.documentElement.scrollWidth") <= 390
        press(browser, cell("Q->D", 1))
        browser.until(FOLLOWED)
        assert browser.run("return document.documentElement.scrollWidth") <= 390
        assert browser.run(
            "return [...document.querySelectorAll('.track .tick')].every((tick) => {"
            "const own = tick.getBoundingClientRect();"
            "const bar = tick.parentElement.getBoundingClientRect();"
            "return own.width > 2 && own.left >= bar.left - .01 && own.right <= bar.right + .01})"
        )
        assert browser.run(
            "const grid = document.getElementById('grid').parentElement;"
            "return grid.scrollWidth <= grid.clientWidth"
        )
        colours = browser.run(
            "const style = getComputedStyle(document.body);"
            "return [style.color, style.backgroundColor]"
        )
        levels = [sum(map(int, one[4:-1].split(", ")[:3])) for one in colours]
        assert (levels[0] > levels[1]) == dark
    finally:
        browser.size(1280, 900)


@pytest.mark.slow
def test_two_models_are_shown_beside_each_other(window, tiny32, tmp_path):
    other = matchlens.load(tiny_models.save(tmp_path / "other", seed=1, layers=2), device="cpu")
    with matchlens.serve([tiny32, other]) as both:
        window.open(both.url)
        window.until(FOLLOWED)
        first = numbers(window)
        press(window, cell("Q->D", 0))
        window.until(FOLLOWED)
        press(window, "#models button:nth-child(2)")
        window.until(FOLLOWED)
        assert window.run(TEXT) == ""
        assert window.run("return document.querySelectorAll('#grid tbody tr').length") == 2
        np.testing.assert_allclose(numbers(window), expected(other, window, []), atol=6e-4)
        assert numbers(window) != first
        note = window.run("return document.querySelector('.row .note').textContent")
        assert "rank" in note
        assert "score" in note
        press(window, "#models button:nth-child(1)")
        window.until(FOLLOWED)
        assert window.run(TEXT) == "Q->D@0"
        window.open("about:blank")


@pytest.mark.slow
def test_it_works_inside_another_page_as_in_a_notebook(window, page, tmp_path):
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><body>{page._repr_html_()}</body>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as notebook:
        threading.Thread(target=notebook.serve_forever, daemon=True).start()
        window.open(f"http://localhost:{notebook.server_address[1]}/notebook.html")
        window.call("/frame", {"id": window.find("iframe")})
        window.until(FOLLOWED)
        press(window, cell("Q->D", 1))
        window.until(f"document.getElementById('text').value && {SCORED}")
        window.until(FOLLOWED)
        window.call("/frame", {"id": None})
        window.open("about:blank")
        notebook.shutdown()


@pytest.mark.slow
def test_a_server_that_has_stopped_is_said(window, tiny32):
    page = matchlens.serve(tiny32)
    window.open(page.url)
    window.until(FOLLOWED)
    page.stop()
    press(window, cell("Q->D", 0))
    window.until(
        "/is matchlens serve still running/.test(document.getElementById('wrong').textContent)",
    )
    window.log("browser")
    window.open("about:blank")

"""An explained margin in a real browser: words, heads, directions, keys, a phone, two in a page."""

import pytest

import chromium
import matchlens
from matchlens.report.page import page_of
from test_explain_view import PASSAGES, QUERY, numbers_of
from test_page_browser import DOWN, HOME, RIGHT, SHOWN, VIEW_TIP

pytestmark = pytest.mark.skipif(
    chromium.found() is None, reason="chromium and chromedriver are not installed"
)
CHOSEN = "return document.querySelector('[data-chosen]').textContent"
LINKS = """
return [...document.querySelectorAll('svg.links')].map((sheet) => [
  Number(sheet.closest('.card').dataset.card),
  [...sheet.querySelectorAll('g')].map((link) => link.dataset.ends)])
"""
ENTER = "\ue007"


@pytest.fixture(scope="module")
def result(tiny32):
    return matchlens.explain(tiny32, QUERY, PASSAGES, points=2, swap=False)


@pytest.fixture(scope="module")
def held(result):
    return numbers_of(page_of(result))


@pytest.fixture(scope="module")
def pages(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained <b>")
    (folder / "explain.html").write_text(page_of(result))
    block = result._repr_html_()
    both = f"<!DOCTYPE html><meta charset=utf-8><body><h1>Two</h1>{block}{block}</body>"
    (folder / "notebook.html").write_text(both)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory, pages):
    with chromium.Chromium(tmp_path_factory.mktemp("profile"), pages) as one:
        one.size(1280, 900)
        one.open("about:blank")
        one.log("performance")
        yield one


@pytest.fixture(autouse=True)
def _fresh(request, pages):
    """Each test has a fresh page, asks for nothing else, and no stranger's script runs."""
    browser = request.getfixturevalue("browser")
    browser.open((pages / "explain.html").as_uri())
    yield
    browser.unhurt("file:///")


def press(browser, css: str) -> None:
    browser.run("arguments[0].click()", browser.find(css))


def drawn(browser) -> dict[int, list[str]]:
    return {card: sorted(ends) for card, ends in browser.run(LINKS)}


def test_a_direction_draws_who_reads_whom(browser, held):
    assert drawn(browser) == {}
    press(browser, "tr[data-unit='Q->D'] .unit")
    expected = {}
    for number, card in enumerate(held["cards"]):
        parts = [word[0] for word in card["words"]]
        some = [
            link for link in card["links"][""] if (parts[link[0]], parts[link[1]]) == ("Q", "D")
        ]
        if some:
            expected[number] = sorted(f"{row} {column}" for row, column, *_ in some)
    assert expected
    assert drawn(browser) == expected
    assert "Q → D: the query reads the document" in browser.run(CHOSEN)
    tips = browser.run(
        "return [...document.querySelectorAll('.g')].map((one) =>"
        " [one.dataset.head, one.getAttribute('aria-description')])"
    )
    for head, tip in tips:
        a, b = (side[place_of(head)] for side in held["maps"]["Q->D"])
        number = float(tip.split("B ")[2].split("\n")[0].replace("\u2212", "-"))
        assert number == pytest.approx(a - b, abs=6e-4), head
    press(browser, "tr[data-unit='Q->D'] .unit")
    assert drawn(browser) == {}


def place_of(head: str) -> int:
    layer, number = map(int, head.split("."))
    return 4 * layer + number


def test_a_head_shades_words_by_its_links(browser, held):
    press(browser, "[data-head='1.2']")
    cards = held["cards"]
    assert drawn(browser) == {
        number: sorted(f"{row} {column}" for row, column, *_ in card["links"]["1.2"])
        for number, card in enumerate(cards)
    }
    assert "head 1.2" in browser.run(CHOSEN)
    for mode, side in (("read", 1), ("reads", 0)):
        press(browser, f"[data-mode='{mode}']")
        said = browser.run(
            "return [...document.querySelectorAll('[data-card=\"0\"] .w')]"
            ".map((one) => one.getAttribute('aria-description'))"
        )
        for place, tip in enumerate(said):
            total = sum(link[2] for link in cards[0]["links"]["1.2"] if link[side] == place)
            shown = tip.split(" by the links drawn")[0].split("\n")[-1].replace("\u2212", "-")
            assert float(shown) == pytest.approx(total, abs=6e-4)
    press(browser, "[data-reset]")
    assert drawn(browser) == {}
    assert browser.run("return document.querySelector('[data-reset]').hidden") is True


def test_a_word_draws_its_own_links_and_explains_itself(browser, held):
    links = held["cards"][1]["links"][""]
    row = links[0][0]
    word = f"[data-card='1'] [data-w='{row}']"
    press(browser, word)
    expected = sorted(f"{a} {b}" for a, b, *_ in links if row in (a, b))
    assert drawn(browser) == {1: expected}
    browser.point(word)
    tip = browser.run(VIEW_TIP)
    assert "as it is read" in tip
    assert "reads " in tip
    press(browser, word)
    assert drawn(browser) == {}


def test_keys_reach_words_heads_and_directions(browser):
    browser.run("document.querySelector('.g').focus()")
    top = browser.run("return document.activeElement.dataset.head")
    browser.keys(RIGHT, DOWN)
    moved = browser.run("return document.activeElement.dataset.head")
    layer, head = map(int, top.split("."))
    assert moved == f"{layer - 1}.{head + 1}"
    assert f"head {moved}" in browser.run(VIEW_TIP)
    # the scrolling that a key causes ends after the focus has moved
    browser.run("document.activeElement.closest('.mlv').dispatchEvent(new Event('scroll'))")
    assert f"head {moved}" in browser.run(VIEW_TIP)
    browser.keys(ENTER)
    assert f"head {moved}" in browser.run(CHOSEN)
    browser.run("document.querySelector('tr[data-unit] .unit').focus()")
    browser.keys(DOWN, ENTER)
    unit = browser.run("return document.activeElement.closest('tr').dataset.unit")
    assert unit.replace("->", " → ") in browser.run(CHOSEN)
    browser.run("document.querySelector(\"[data-card='0'] .w\").focus()")
    browser.keys(RIGHT, " ")
    assert "the word" in browser.run(CHOSEN)
    browser.keys(HOME)
    assert "(CLS)" in browser.run(VIEW_TIP)


def test_a_phone_and_the_dark_have_all_of_it(browser):
    for dark in (False, True):
        browser.size(390, 844, dark=dark)
        press(browser, "tr[data-unit='Q->D'] .unit")
        wide = browser.run(
            "document.querySelectorAll('details').forEach((one) => (one.open = true));"
            "return document.documentElement.scrollWidth"
        )
        assert wide == 390
    browser.size(1280, 900)


def test_without_scripts_the_shades_and_tables_are_there(browser, pages):
    browser.cdp("Emulation.setScriptExecutionDisabled", value=True)
    browser.open((pages / "explain.html").as_uri())
    browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run(SHOWN, ".mlv .tools") == []
    assert len(browser.run(SHOWN, ".card")) == 3
    assert browser.run("return document.querySelectorAll('.w[title]').length") > 50
    assert len(browser.run(SHOWN, "table.bars, table.heads")) >= 4


def test_two_results_of_a_notebook_answer_each_for_itself(browser, pages):
    browser.open((pages / "notebook.html").as_uri())
    assert len(browser.run(SHOWN, "[data-matchlens-view][data-started]")) == 2
    browser.run("document.querySelectorAll('[data-head=\"1.2\"]')[1].click()")
    sheets = browser.run(
        "return [...document.querySelectorAll('.mlv')].map((one) =>"
        " [one.querySelectorAll('svg.links').length,"
        " one.querySelector('[data-chosen]').textContent])"
    )
    assert sheets[0][0] == 0
    assert sheets[1][0] == 3
    assert "Press a word" in sheets[0][1]
    assert "head 1.2" in sheets[1][1]
    plain = browser.run("return getComputedStyle(document.querySelector('h1')).color")
    assert plain == "rgb(0, 0, 0)"
    colours = [
        browser.run("return getComputedStyle(document.querySelector('.mlv.alone')).backgroundColor")
        for dark in (False, True)
        if browser.size(1280, 900, dark=dark) is None
    ]
    assert colours[0] != colours[1]
    browser.run("document.body.dataset.jpThemeLight = 'true'")  # Jupyter's own choice goes first
    again = browser.run(
        "return getComputedStyle(document.querySelector('.mlv.alone')).backgroundColor"
    )
    assert again == colours[0]
    browser.size(1280, 900)

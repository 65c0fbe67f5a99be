"""The page in a real browser: every tab and hover, the pair, downloads, nothing leaves the page."""

import csv
import shutil
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest

import chromium
import page_results as given
from matchlens.report.page import write
from matchlens.report.pair_view import colour
from matchlens.report.texts import num

pytestmark = pytest.mark.skipif(
    chromium.found() is None, reason="chromium and chromedriver are not installed"
)
RIGHT, DOWN, HOME, END, ESCAPE, TAB = "\ue014", "\ue015", "\ue011", "\ue010", "\ue00c", "\ue004"
SHOWN = """
return [...document.querySelectorAll(arguments[0])]
  .filter((one) => one.getClientRects().length && one.checkVisibility())
  .map((one) => one.id || one.textContent.trim())
"""
VIEW_TIP = (
    "const tip = document.querySelector('.mlv .tip'); return tip.hidden ? '' : tip.textContent"
)
TIP = "const tip = document.getElementById('tip'); return tip.hidden ? '' : tip.textContent"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = given.made(tmp_path_factory.getbasetemp())
    copy = tmp_path_factory.mktemp("browser") / "results <b>"
    shutil.copytree(made, copy)
    write(copy)
    return copy


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(tmp_path_factory, folder, downloads):
    with chromium.Chromium(tmp_path_factory.mktemp("profile"), downloads) as one:
        one.size(1280, 900)
        one.open("about:blank")
        one.log("performance")  # what the browser's own first page asked for
        one.open((folder / "report.html").as_uri())
        one.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        yield one


@pytest.fixture(autouse=True)
def _unhurt(request):
    """After each test: no error was logged, nothing was asked for, no stranger's script ran."""
    browser = request.getfixturevalue("browser")
    yield
    addresses = browser.unhurt("file:///", "blob:")
    assert sum(one.startswith("file:///") for one in addresses) <= 1


def test_every_tab_shows_its_panel_alone_by_mouse_and_keys(browser):
    boxes = browser.run(
        "return [...document.querySelectorAll('[data-panels]')].map((box) =>"
        "[...box.querySelectorAll(':scope > .panel')].map((panel) => panel.id))"
    )
    assert len(boxes) >= 6
    for panels in boxes:
        for panel in panels:
            browser.run("arguments[0].click()", browser.find(f"#tab-{panel}"))
            seen = browser.run(SHOWN, ", ".join(f"#{one}" for one in panels))
            assert seen == [panel]
            assert browser.run("return location.hash") == f"#{panel}"
        browser.run("arguments[0].focus()", browser.find(f"#tab-{panels[-1]}"))
        browser.keys(RIGHT)
        assert browser.run(SHOWN, ", ".join(f"#{one}" for one in panels)) == [panels[0]]
        assert browser.run("return document.activeElement.id") == f"tab-{panels[0]}"


def test_every_mark_explains_itself_when_pointed_at(browser):
    count, silent = browser.run(
        """
        const tip = document.getElementById("tip");
        const marks = [...document.querySelectorAll("[data-tipped]")];
        const silent = marks.filter((mark) => {
          mark.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
          return tip.hidden || tip.textContent.length < 5;
        });
        return [marks.length, silent.map((mark) => mark.outerHTML.slice(0, 200))];
        """
    )
    assert count > 200
    assert silent == []


def test_a_cell_of_table_1_explains_itself_on_hover_and_focus(browser, folder):
    row = given.frame(folder, "ablation", "table1").set_index("cut").loc["CLS->CLS"]
    expected = (
        f"nDCG@10 {num(row['mean'], 3)} (original {num(row['original'], 3)})",
        f"change {num(row['diff'], 3, sign=True)} (",
        "random), 95% ",
        "8 queries; p Holm",
        "p flip",
    )
    browser.point("#table-1 td.cell-td")
    hovered = browser.run(TIP)
    assert all(words in hovered for words in expected), hovered
    assert hovered.startswith("CLS\xa0→\xa0CLS: CLS reads")
    browser.run("document.querySelector('#table-1 td.cell-td').focus()")
    assert browser.run(TIP) == hovered
    browser.keys(RIGHT)
    assert browser.run(TIP).startswith("CLS\xa0→\xa0Q: CLS reads the query")
    browser.keys(DOWN)
    assert browser.run(TIP).startswith("Q\xa0→\xa0Q: the query reads")
    browser.keys(END)
    assert browser.run(TIP).startswith("SEP2\xa0→\xa0All")
    browser.keys(ESCAPE)
    assert browser.run(TIP) == ""
    tip = browser.run("return document.getElementById('tip').getAttribute('role')")
    assert tip == "tooltip"


def test_curves_are_chosen(browser):
    browser.run("location.hash = '#figure-1a-up-to'")
    panel = "#figure-1a-up-to"
    series = browser.run(SHOWN, f"{panel} svg .series")
    assert len(series) == 3
    browser.run("arguments[0].click()", browser.find(f"{panel} .choose"))
    assert browser.run(SHOWN, f"{panel} svg .series") == series[1:]
    for place, left in ((2, []), (1, series)):
        browser.run("arguments[0].click()", browser.find(f"{panel} .bulk :nth-child({place})"))
        assert browser.run(SHOWN, f"{panel} svg .series") == left


def test_a_pair_is_shaded_by_what_the_chosen_heads_read(browser, folder):
    looks = given.frame(folder, "looking", "looks")
    tokens = given.frame(folder, "looking", "tokens")
    received = given.Result.load(folder, "looking").array("received")
    for place, cell in ((1, (1, 2)), (len(looks) - 1, (0, 3))):
        browser.run("location.hash = `#pair-${arguments[0]}`", place + 1)
        card = f"#pair-{place + 1}"
        browser.until("document.querySelector(arguments[0]).getClientRects().length", card)
        assert f"pair-{place + 1}" in browser.run(SHOWN, ".card")
        assert len(browser.run(SHOWN, "#pair .scene")) == 1
        head = f"#pair [data-head='{cell[0]}.{cell[1]}']"
        browser.run("arguments[0].click()", browser.find(head))
        assert browser.run("return arguments[0].ariaPressed", browser.find(head)) == "true"
        for reader in (0, 1, 2):
            browser.run("arguments[0].click()", browser.find(f"#pair [data-mode='{reader}']"))
            shown = browser.run(
                "return [...document.querySelectorAll(`${arguments[0]} .w`)]"
                ".map((one) => [one.className, one.getAttribute('aria-description')])",
                card,
            )
            mine = tokens[tokens["look"] == looks["look"][place]]
            values = received[place][(*cell, reader)][: len(mine)]
            assert len(shown) == len(mine)
            inside = mine["part"].isin(["Q", "D"]).to_numpy()
            most = values[inside].max()
            for (level, said), value, darkest in zip(
                shown, values, values >= most - 1e-6, strict=True
            ):
                assert abs(float(said.split("receives ")[1].split()[0]) - value) < 6e-4
                assert ("t9" in level.split()) >= darkest
        browser.run("arguments[0].click()", browser.find(head))
    browser.point(f"{card} .part-query .w")
    assert "receives" in browser.run(VIEW_TIP)
    browser.run(f"document.querySelector(\"{card} .w[tabindex='0']\").focus()")
    browser.keys(RIGHT)
    assert "(query)" in browser.run(VIEW_TIP)
    browser.keys(HOME)
    assert "(CLS)" in browser.run(VIEW_TIP)


def test_a_layers_heads_are_chosen_together(browser):
    browser.run("arguments[0].click()", browser.find("#pair [data-view='L1']"))
    assert browser.run("return document.querySelector('[data-chosen]').textContent") == "layer 1"
    browser.run("arguments[0].click()", browser.find("#pair button[data-view='all']"))
    assert browser.run("return document.querySelector('[data-chosen]').textContent") == "all heads"


def test_every_table_can_be_downloaded(browser, downloads):
    tables = browser.run("return JSON.parse(document.getElementById('data').textContent).tables")
    names = browser.run(
        "return [...document.querySelectorAll('[data-csv]')].map((one) => one.dataset.csv)"
    )
    assert sorted(names) == sorted(tables)
    for name in ("table-1", "pair-cuts", "claims"):
        browser.run("arguments[0].click()", browser.find(f"[data-csv='{name}']"))
        file = downloads / f"{name}.csv"
        chromium.wait(file.exists)
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        assert rows[0] == tables[name]["columns"]
        for row, expected in zip(rows[1:], tables[name]["rows"], strict=True):
            for cell, value in zip(row, expected, strict=True):
                if isinstance(value, int | float) and not isinstance(value, bool):
                    assert float(cell) == value
                elif value is None:
                    assert cell == ""
                else:
                    assert cell.removeprefix("'").lower() == str(value).lower()
                    assert isinstance(value, bool) or cell[:1] not in tuple("=+-@")


def test_every_chart_can_be_downloaded_as_svg_in_light_colours(browser, downloads):
    charts = "document.querySelectorAll('figure svg.chart').length"
    assert browser.run(f"return {charts} === document.querySelectorAll('button.svg').length")
    browser.size(1280, 900, dark=True)
    browser.run("location.hash = '#figure-1a-up-to'")
    browser.run("document.querySelector('#figure-1a-up-to button.svg').click()")
    file = downloads / "figure-1a-up-to.svg"
    chromium.wait(file.exists)
    root = ElementTree.fromstring(file.read_text("utf-8"))
    assert root.tag.endswith("svg")
    assert "nDCG@10" in "".join(root.itertext())
    lines = [e.get("style") for e in root.iter() if e.tag.endswith("}g")]
    assert any("stroke: rgb(51, 34, 136)" in style for style in lines)  # as on paper, in the dark
    assert not any(e.get("class") for e in root.iter())
    assert browser.run("return document.documentElement.dataset.theme") is None
    browser.size(1280, 900)


def test_a_table_sorts_by_any_column(browser):
    held = (
        "[...document.querySelectorAll('#matching .data')]"
        ".reduce((a, b) => (a.tBodies[0].rows.length < b.tBodies[0].rows.length ? b : a))"
    )
    column = (
        f"return [...{held}.tBodies[0].rows]"
        ".map((row) => row.cells[4].textContent.replace(String.fromCharCode(8722), '-'))"
    )
    button = browser.run(f"return {held}.querySelector('th:nth-child(5) button')")
    browser.run("arguments[0].click()", button)
    up = browser.run(column)
    assert len(up) > 3
    assert [float(one) for one in up] == sorted(float(one) for one in up)
    first = browser.run(f"return {held}.querySelector('th:nth-child(5)').getAttribute('aria-sort')")
    assert first == "ascending"
    browser.run("arguments[0].click()", button)
    down = [float(one) for one in browser.run(column)]
    assert down == sorted(down, reverse=True)
    assert down[0] > down[-1]


def test_definitions_are_one_click_away_and_an_address_opens_what_it_names(browser):
    closed = browser.run(SHOWN, "details.definition p")
    assert closed == []
    for name in ("table-1", "figure-2"):
        browser.run("arguments[0].click()", browser.find(f"#{name} details.definition summary"))
        assert browser.run(SHOWN, f"#{name} details.definition p")
    browser.run("location.hash = '#figure-1b-hard-easy'")
    browser.run("return new Promise((done) => setTimeout(done, 50))")
    assert browser.run(SHOWN, "#figure-1b .panel") == ["figure-1b-hard-easy"]
    browser.run("location.hash = '#%E0%A4%A'")
    links = browser.run("return [...document.querySelectorAll('.toc a')].map((one) => one.hash)")
    for link in links:
        browser.run("document.querySelector(`.toc a[href='${arguments[0]}']`).click()", link)
        top = browser.run(
            "return document.querySelector(arguments[0]).getBoundingClientRect().top", link
        )
        assert -2 <= top <= 900


def test_nothing_scrolls_sideways_on_a_phone_in_either_light(browser, tmp_path):
    papers = []
    for dark in (False, True):
        browser.size(360, 800, dark=dark)
        wide = browser.run(
            """
            document.querySelectorAll("details").forEach((one) => (one.open = true));
            document.querySelectorAll(".panel, .scene").forEach((one) => (one.hidden = false));
            return [document.documentElement.scrollWidth, document.body.scrollWidth];
            """
        )
        assert wide == [360, 360]
        papers.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
        browser.run("document.querySelectorAll('details').forEach((one) => (one.open = false))")
    assert papers[0] != papers[1]
    browser.run("document.querySelector('[data-theme-button]').click()")
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == papers[0]
    browser.run("delete document.documentElement.dataset.theme")
    browser.run("document.querySelector('[data-choose=scene]').dispatchEvent(new Event('change'))")
    browser.size(1280, 900)


CONTRAST = """
const light = (text) => {
  const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const box = document.createElement("span");
document.querySelector(`.mlv .scene:not([hidden]) ${arguments[1]}`).append(box);
const found = [];
for (const name of arguments[0]) {
  box.className = name;
  const style = getComputedStyle(box);
  const back = style.backgroundColor === "rgba(0, 0, 0, 0)"
    ? getComputedStyle(document.querySelector(".card")).backgroundColor : style.backgroundColor;
  const [a, b] = [light(style.color), light(back)].sort((one, two) => two - one);
  found.push((a + 0.05) / (b + 0.05));
}
box.remove();
return found;
"""


def test_shaded_words_stay_legible_in_light_and_dark(browser):
    shades = [f"w t{k}" for k in range(10)] + [f"cell-td {s}{k}" for s in "np" for k in range(1, 5)]
    shades += [f"w {colour(sign * k / 8, 1.0)}" for sign in (-1, 1) for k in range(1, 9)]
    for dark, part in product((False, True), (".part-query", ".part-CLS", ".part-SEP2")):
        browser.size(1280, 900, dark=dark)
        found = dict(zip(shades, browser.run(CONTRAST, shades, part), strict=True))
        assert {name: one for name, one in found.items() if one < 4.5} == {}, (dark, part)
    browser.size(1280, 900)


def test_on_paper_everything_is_open_and_nothing_to_press_is_left(browser):
    browser.size(794, 1100, print_=True)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    panels = browser.run("return document.querySelectorAll('.panel').length")
    assert len(browser.run(SHOWN, ".panel")) == panels
    scenes = browser.run("return document.querySelectorAll('.scene').length")
    assert len(browser.run(SHOWN, ".scene")) == scenes > 1
    assert browser.run(SHOWN, ".toc, .tabs, .downloads, .mlv .tools, button.quiet") == []
    assert len(browser.run(SHOWN, "details.definition p")) > 12
    boxes = browser.run(
        "return [...document.querySelectorAll('.numbers .scroll')]"
        ".filter((box) => box.checkVisibility())"
        ".map((box) => [box.querySelectorAll('thead th').length,"
        " box.scrollWidth - box.clientWidth])"
    )
    assert len(boxes) > 12
    assert max(columns for columns, _ in boxes) > 30
    assert [one for one in boxes if one[1] > 1] == []  # no column is cut off
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.size(1280, 900)
    assert len(browser.run(SHOWN, ".scene")) == 1


def test_without_scripts_all_of_it_can_still_be_read(browser, folder):
    browser.cdp("Emulation.setScriptExecutionDisabled", value=True)
    browser.open((folder / "report.html").as_uri())
    browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
    panels = browser.run("return document.querySelectorAll('.panel').length")
    assert len(browser.run(SHOWN, ".panel")) == panels
    assert len(browser.run(SHOWN, ".scene")) > 1
    assert browser.run(SHOWN, ".mlv .tools, [data-csv], [data-theme-button]") == []
    titled = browser.run(
        "return document.querySelectorAll("
        "'svg.chart :not(svg) > title, td[title], .w[title]').length"
    )
    assert titled > 200

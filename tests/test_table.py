"""One table in four media: the same cells as text, LaTeX, HTML and CSV; strangers' texts inert."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from matchlens.report.table import EXACT, Column, Table
from matchlens.report.texts import MINUS, NONE, num, printed
from matchlens.report.views import VIEWS

COLUMNS = (
    Column("cut", "cut", kind="reads"),
    Column("value", "nDCG@10", 2),
    Column("ci", "95%", 2, kind="interval"),
    Column("p", "p", kind="p"),
    Column("head", "head", kind="head"),
    Column("part", "part", kind="share"),
    Column("held", "held", kind="flag"),
)
ROW = {
    "cut": "Q->D",
    "value": -0.25,
    "value*": True,
    "value!": True,
    "value?": "a tip\nof two lines",
    "ci": (-0.3, 0.1),
    "p": 0.0001,
    "head": (8, 10),
    "part": 0.5,
    "held": True,
}
EMPTY = {"cut": "", "ci": (None, None)}
TABLE = Table("t", "What is shown", COLUMNS, (ROW, EMPTY), ("a note",), "the foot")


def cells(table: Table) -> list[list[str]]:
    root = ElementTree.fromstring(f"<div>{table.html()}</div>")
    return [["".join(cell.itertext()) for cell in row] for row in root.findall(".//tbody/tr")]


def test_truth_is_said_in_words_whatever_the_column_s_kind():
    column = Column("selected", "heads selected")
    assert [column.plain({"selected": value}) for value in (True, False)] == ["yes", "no"]
    assert [column.show(value) for value in (True, False)] == ["yes", "no"]


def test_a_row_says_the_same_in_every_medium():
    line = ["Q->D", "-.25v*", "[-.30, .10]", "<.001", "8.10", "50%", "yes"]
    assert TABLE.text(bold=False)[1].split("  ") == [word for word in line if word] or (
        re.split(r"\s{2,}", TABLE.text(bold=False)[1]) == line
    )
    latex = TABLE.latex(bold=True).splitlines()
    first = latex[latex.index("\\midrule") + 1]
    assert first == (
        r"Q$\rightarrow$D & \textbf{$-$.25}$^{*}$ & [$-$.30, .10] & \textless{}.001 & 8.10 "
        r"& 50\% & yes \\"
    )
    assert r"& $-$.25$^{*}$ &" in TABLE.latex()  # lower numbers are bold only when asked for
    assert latex[0:3] == ["% \\usepackage{booktabs}", "% What is shown", "% a note"]
    assert latex[3] == "\\begin{tabular}{lrrrlrl}"
    assert latex[-4:-1] == ["\\midrule", "\\multicolumn{7}{l}{the foot} \\\\", "\\bottomrule"]
    html = ["Q\xa0→\xa0D the query reads the document", f"{MINUS}.25*", f"[{MINUS}.30, .10]"]
    assert cells(TABLE)[0] == [*html, "<.001", "8.10", "50%", "yes"]
    assert TABLE.data()["rows"][0][1] == -0.25
    assert TABLE.data()["columns"] == [column.key for column in COLUMNS]


def test_unknown_cells_are_dashes():
    assert re.split(r"\s{2,}", TABLE.text()[2].strip()) == ["-"] * 6
    assert cells(TABLE)[1][1:] == [NONE] * 6
    assert r" & -- & -- & -- & - & -- & - \\" in TABLE.latex()


def test_a_lower_number_is_bold_and_its_columns_stay_aligned():
    bold = TABLE.text(bold=True)[1]
    assert re.findall("\033\\[1m(.*?)\033\\[0m", bold) == ["  -.25*"]
    assert re.sub("\033\\[[01]m", "", bold) == TABLE.text()[1]
    tags = ElementTree.fromstring(f"<div>{TABLE.html()}</div>").findall(".//tbody/tr[1]/*")
    assert tags[1].get("class") == "num lower"
    assert "a tip\nof two lines" in TABLE.html()
    assert tags[0].get("scope") == "row"
    assert tags[4].get("data-order") == "8010"


@settings(max_examples=40)
@given(st.text(max_size=60), st.floats(-1e3, 1e3), st.text(max_size=20))
def test_whatever_a_cell_holds_stays_inside_it(text, value, label):
    columns = (Column("a", label, kind="text"), Column("b", "b", 3))
    table = Table("t", text, columns, ({"a": text, "b": value, "a?": text},))
    ((first, second),) = cells(table)
    assert "\n" not in first
    assert second == num(value, 3)
    assert len(table.text()) == 2
    assert table.text()[1].endswith(printed(value, 3))
    assert len(table.latex().splitlines()) == 9
    assert table.data()["rows"] == [[text, value]]


def test_columns_are_picked_and_long_tables_cut_and_rounded():
    assert [column.key for column in TABLE.pick("p", "nothing", "cut").columns] == ["p", "cut"]
    many = Table("t", "t", (Column("a", "a"),), ({"a": 1 / 3},) * (EXACT + 1))
    assert many.data()["rows"][0] == [0.3333333]
    assert f"{EXACT - 9:,} more rows." in many.html(most=10)
    assert many.html(most=10).count("<tr>") == 11


def test_every_view_says_what_it_is():
    assert all(view.title and callable(view.table) for view in VIEWS.values())
    files = [f"{name}/{view.printed}" for name, view in VIEWS.items() if view.printed]
    assert len(files) == len(set(files)) == 14

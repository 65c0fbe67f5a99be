"""Table 1: what cutting each direction does to the ranking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, cast

import numpy as np
import pandas as pd
from markupsafe import Markup

from matchlens import figures
from matchlens.arguments import typed
from matchlens.corpora import EASY_GRADE
from matchlens.directions import Cut, Direction
from matchlens.errors import InputError
from matchlens.figures import Drawing
from matchlens.figures.colours import step
from matchlens.parts import DECODER, NAMED
from matchlens.report.exhibits import Exhibit, titled, words
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Column, Row, Table, columns_of, stored, tag
from matchlens.report.texts import (
    SHARE,
    arrow,
    both,
    counted,
    digits_of,
    equals,
    interval,
    known,
    model_name,
    note_lines,
    num,
    number,
    printed,
    prose,
    shown,
    what_is_cut,
)
from matchlens.results import Result, records
from matchlens.studies.cuts.cut_modes import feasible, random_by_construction, starred

PARTS = tuple(str(part) for part in NAMED)
NOT_APPLICABLE = "n/a"
IMPOSSIBLE = (
    f"{NOT_APPLICABLE}: impossible, the cut removes nothing that was there (the note says why)."
)
DAGGER = "\N{DAGGER}"
CONSTRUCTION = "random by construction, since the score has nothing left to read"
NUMBERS = "mean diff share ci_low ci_high p p_holm p_flip tau_b overlap score_change"
"""Stored numbers of a condition."""
VERDICTS = {
    "falls": "falls under every way of cutting, with a star",
    "rises": "rises under every way, with a star",
    "depends": "has a star under some ways only",
    "no effect": "has no star under any way",
    "contradiction": "has stars with both signs",
}


def marked(result: Result, name: str) -> list[dict[str, object]]:
    """Return a table's rows with stars, interval, what is lower, and what is impossible."""
    table, digits = result.to_frame(name), digits_of(result)
    stars = starred(table, str(result.options["stars"]))
    rows = records(table)
    for row, star in zip(rows, stars, strict=True):
        impossible = _reason(row)
        row["shown"] = NOT_APPLICABLE if impossible else row["mean"]
        row["construction"] = random_by_construction(row, result.options)
        row["star"] = star and not impossible
        row["mark"] = DAGGER if row["construction"] else row["star"]
        mean, original = (round(number(row[key]), digits) for key in ("mean", "original"))
        row["lower"] = bool(mean < original and not impossible)  # False where one is NaN
        row["tip"] = tip(row, digits, shown(result.options["measure"]))
    return rows


def _reason(row: Row) -> str:
    """Why a cut is impossible; empty where it is not."""
    reason = row.get("impossible")
    return reason if isinstance(reason, str) else ""


def tip(row: Row, digits: int, measure: str) -> str:
    """Explain a condition's number, as its mark on the page does."""
    if reason := _reason(row):
        return f"{both(row.get('direction', row['cut']))}\nnot measured: {shown(reason, 300)}"
    lines = [
        both(row["cut"]),
        f"{measure} {num(row.get('mean'), digits)} (original {num(row.get('original'), digits)})",
        f"change {num(row.get('diff'), digits, sign=True)} "
        f"({num(row.get('share'), 2, sign=True)} of original − random), 95% "
        f"{interval(row.get('ci_low'), row.get('ci_high'), digits)}",
        f"{counted(number(row.get('queries')), 'query')}; "
        f"{equals('p Holm', row.get('p_holm'))}, "
        f"{equals('p flip, uncorrected', row.get('p_flip'))}",
    ]
    if row.get("p_unpaired") is not None:
        lines[-1] += f", {equals('p unpaired, uncorrected', row.get('p_unpaired'))}"
    if row.get("construction"):
        lines.append(CONSTRUCTION)
    return "\n".join(lines)


def grid_of(rows: Mapping[str, object]) -> tuple[str, ...]:
    """The parts where the cuts, with the original and the random ranking, are the paper's 30 cells.

    In an encoder-decoder DEC is in CLS's place. Empty where they are other cuts.
    """
    for parts in (PARTS, (DECODER, *PARTS[1:])):
        if set(rows) == {"", "random", *(f"{x}->{y}" for x in parts for y in (*parts, "All"))}:
            return parts
    return ()


def table1(result: Result) -> Table:
    """Lay Table 1 out: the matrix of directions, or a list where other cuts were made."""
    name = "table1" if "table1" in result.tables else "cuts"
    if name not in result.tables or "measure" not in result.options:
        raise InputError(
            f"a result of {result.study!r} has no Table 1; expected what matchlens.ablation "
            "returned: look at result.to_frame(), or at result itself in a notebook"
        )
    digits, measure = digits_of(result), str(result.options["measure"])
    rows = {str(row["cut"]): row for row in marked(result, name)}
    foot = f"original {printed(rows['']['mean'], digits)}, "
    foot += f"random {printed(rows['random']['mean'], digits)}"
    title = f"{measure} under each cut; {foot}"
    if parts := grid_of(rows):
        across = (*parts, "All")
        columns = [Column("x", "X \\ Y", kind="text")]
        columns += [Column(y, y, digits) for y in across]
        body = [
            {"x": x} | {f"{y}{end}": rows[f"{x}->{y}"][key] for y in across for end, key in _CELL}
            for x in parts
        ]
    else:
        keys = "cut=reads shown diff share ci p_holm:4"
        columns = [*columns_of(keys, digits, shown=measure, share="share")]
        marks = {f"shown{end}": key for end, key in _CELL if end}
        body = [
            row | {end: row[key] for end, key in marks.items()}
            for cut, row in rows.items()
            if cut not in {"", "random"}
        ]
    return Table(name, title, tuple(columns), tuple(body), tuple(_legend(result, rows)), foot)


_CELL = (("", "shown"), ("*", "mark"), ("!", "lower"), ("?", "tip"))


def _legend(result: Result, rows: Mapping[str, Row]) -> Iterator[str]:
    example = Direction.parse("Q->D")
    yield f"X -> Y cut in all layers unless said: X no longer reads Y ({example}: {example.words})."
    wrong = sum(bool(row.get("impossible")) for row in rows.values())
    apart = ", each way of cutting apart" if "agreement" in result.tables else ""
    test = (
        "p <= .05, two-tailed unpaired Student t-test over queries, uncorrected, as in the paper"
        if result.options["stars"] == "unpaired"
        else f"Holm-corrected p <= .05 over {len(rows) - 2 - wrong} cells{apart}, two-tailed "
        "paired t-test over queries"
    )
    yield f"*: {test}."
    if not (apart or grid_of(rows)):
        yield SHARE
    if wrong:
        yield IMPOSSIBLE
    if any(row["construction"] for row in rows.values()):
        yield f"{DAGGER}: {CONSTRUCTION}."


def agreement(result: Result) -> Table:
    """Lay out where several ways of cutting agree: a row for each cut, a column for each way."""
    rows, digits = records(result.to_frame("agreement")), digits_of(result)
    hows = [str(key) for key in rows[0] if f"{key}_star" in rows[0]]
    columns = [Column("cut", "cut", kind="reads")]
    columns += [Column(how, how, digits, sign=True) for how in hows]
    columns += [Column("sign", "sign", kind="text"), Column("verdict", "verdict", kind="text")]
    body = [
        {**row, "sign": "same" if row["same_sign"] else "differs"}
        | {f"{how}*": bool(row[f"{how}_star"]) for how in hows}
        for row in rows
    ]
    counts = Counter(str(row["verdict"]) for row in rows)
    same = sum(bool(row["same_sign"]) for row in rows)
    verdicts = [f"  {counts[key]} {key}: {text}" for key, text in VERDICTS.items() if counts[key]]
    title = (
        f"Change of {result.options['measure']} under each way of cutting "
        f"(*: significant, {_corrected(result, 'within the way')}; -: cannot be made)"
    )
    notes = (f"{same} of {len(rows)} cuts have one sign under all ways.", *verdicts)
    return Table("agreement", title, tuple(columns), tuple(body), notes)


def _corrected(result: Result, within: str) -> str:
    """Whether the stars of a table are corrected."""
    unpaired = result.options["stars"] == "unpaired"
    return "unpaired test, uncorrected" if unpaired else f"corrected {within}"


def all_measures(result: Result) -> Table:
    """Lay every condition out under each of several measures, a column each."""
    table, digits = result.to_frame("measures"), digits_of(result)
    names = list(dict.fromkeys(table["measure"]))
    columns = [Column("cut", "cut", kind="cut"), *(Column(name, name, digits) for name in names)]
    rows: dict[str, dict[str, object]] = {}
    stars = starred(table, str(result.options["stars"]))
    for row, star in zip(records(table), stars, strict=True):
        cut = str(row["cut"]) or "original"
        line = rows.setdefault(cut, {"cut": cut})
        line[str(row["measure"])] = NOT_APPLICABLE if row.get("impossible") else row["mean"]
        line[f"{row['measure']}*"] = star
    notes = (f"*: significant, {_corrected(result, 'within its measure and family')}.",)
    title = f"{', '.join(map(str, names))} of the same run"
    return Table("measures", title, tuple(columns), tuple(rows.values()), notes)


def measures_text(result: Result) -> str:
    """Print the table of all measures; nothing where there is one."""
    if "measures" not in result.tables:
        return ""
    return "\n".join(["", *all_measures(result).lines(":"), ""])


def _title(result: Result) -> str:
    identity: Mapping[str, Any] = result.identity
    pairs, queries = identity["pairs"], int(result.to_frame("table1")["queries"].iloc[0])
    every = len(result.pairs[["collection", "qid"]].drop_duplicates())
    counts = f"{queries} of {every} queries" if queries < every else counted(queries, "query")
    sources = ", ".join(str(source["collection"]) for source in pairs["sources"])
    sampling = pairs["sampling"]
    how = {
        "per_grade": f"at most {sampling.get('per_grade')} a grade, seed {sampling.get('seed')}",
        "run": f"the run's top {sampling.get('depth')}",
        "given": "the pairs as given",
    }.get(sampling.get("candidates", "given"), "all judged passages")
    ideal = sampling.get("ideal", "sample")
    if sampling.get("candidates") == "run" or ideal != "sample":  # elsewhere it goes without saying
        how += f", ideal of the {'full qrels' if ideal == 'full' else ideal}"
    if result.options.get("rank_easy") and EASY_GRADE in set(result.pairs["grade"]):
        easy = sampling.get("easy")
        negatives = f"{counted(easy, 'easy negative')} a query" if easy else "easy negatives"
        how += f", with {negatives}"
    return (
        f"{result.options['measure']} of {identity['model']['name']} on {sources}: "
        f"{counts}, {counted(pairs['number'], 'pair')} ({how})"
    )


@typed
def text(result: Result, *, bold: bool = False) -> str:
    """Print the ablation's table, with a legend.

    Args:
        result: what :func:`matchlens.ablation` returned.
        bold: mark decreases by the terminal's bold type; by a ``v`` behind the number where False.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs, cuts=["CLS->All"])
    >>> text(result).splitlines()[-1][:25]
    '†: random by construction'
    """
    table, identity = table1(result), cast(Mapping[str, Any], result.identity)
    foot, (first, *legend) = table.foot.replace(", random", "    random ranking"), table.notes
    several = "agreement" in result.tables
    lower = f"{'Bold' if bold else 'v'}: lower than the original at the printed precision."
    lines = [
        f"{model_name(identity['model']['name'])}: {costliest(result)}".removesuffix(": "),
        "",
        _title(result),
        "",
        f"{foot} (expected value)",
        "",
        *(agreement(result).lines(":") if several else table.text(bold)),
        "",
        first,
        *([] if several else [lower]),
        *legend,
        *note_lines(result),
    ]
    return "\n".join(lines) + "\n"


@typed
def latex(result: Result) -> str:
    """Write the ablation's table in LaTeX (booktabs), * for significance.

    As in the paper, decreases are bold under the preset ``paper``.

    Args:
        result: what :func:`matchlens.ablation` returned.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs, cuts=["CLS->All"])
    >>> "\\\\toprule" in latex(result)
    True
    """
    table = table1(result)
    bold = result.options["preset"] == "paper"
    lower = ["Bold: lower than the original at the printed precision."] if bold else []
    notes = (table.foot, *lower, *table.notes, *note_lines(result))
    columns = ("x", DECODER, *PARTS, "All", "cut", "shown")
    return table.pick(*columns).latex(_title(result), notes, bold=bold)


def drawn(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Draw the change under each cut, under each way of cutting."""
    table = result.to_frame("table1")
    table = feasible(pd.DataFrame(table[~table["cut"].isin(["", "random"])]))
    blind = [random_by_construction(row, result.options) for row in records(table)]
    table = pd.DataFrame(table[~np.array(blind, dtype=bool)]) if not all(blind) else table
    table["significant"] = starred(table, str(result.options["stars"]))
    sets = result.options.get("sets", {})
    firsts = {name: cuts[0] for name, cuts in sets.items()} if isinstance(sets, dict) else {}
    table["how"] = [str(Cut.parse(firsts.get(cut, cut)).how) for cut in table["cut"]]
    table["cut"] = [cut.partition("~")[0] for cut in table["cut"]]
    yield "table1", partial(figures.comparison, table, measure=str(result.options["measure"]))


def exhibits(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show Table 1 on the page."""
    subtitle = "What is lost when one part no longer reads another"
    base = ("table-1", "What each cut costs")
    result = folder.get("ablation")
    if result is None or not any(row["cut"] == "" for row in folder.rows("ablation", "table1")):
        yield Exhibit(
            *base,
            subtitle,
            "Table 1",
            absent="Table 1 was not made: the folder holds no ablation (matchlens ablation).",
        )
        return
    digits, measure = digits_of(result), shown(result.options.get("measure", "the measure"))
    rows = {str(row["cut"]): row for row in marked(result, "table1")}
    cuts = [row for name, row in rows.items() if name not in {"", "random"}]
    table, several = table1(result), "agreement" in result.tables
    square = bool(grid_of(rows))
    original, random = (num(rows[name]["mean"], digits) for name in ("", "random"))
    stored_rows, keys = folder.rows("ablation", "table1"), f"cut queries {NUMBERS}"
    body = [
        _matrix(table, rows, measure) if square else table.html(),
        _key(table, square),
        words(
            f"{measure} when the row's part no longer reads the column's part. Original "
            f"{original}, random ranking {random} (expected value). Shaded by the change; point "
            "at a cell or focus it for its details."
            if square
            else f"{measure} under each cut. Original {original}, random ranking {random} "
            "(expected value)."
        ),
    ]
    if "measures" in result.tables:
        measures = all_measures(result)
        body.append(titled(measures.title, measures.html(), words(measures.notes[0], "legend")))
    if several:
        ways = agreement(result)
        legend = Markup("").join(tag("span", note.strip()) for note in ways.notes)
        body.append(titled("Under each way of cutting", ways.html(), words(legend, "legend")))
    yield Exhibit(
        *base,
        f"{subtitle}, in all layers" if square else subtitle,
        "Table 1",
        lead=_lead(cuts, rows[""], digits, measure, str(result.options["stars"])),
        body=tuple(body),
        tables=(stored("table-1", f"{measure} under each cut", stored_rows, keys, digits),),
        result=result,
    )


def _matrix(table: Table, rows: Mapping[str, Row], measure: str) -> Markup:
    """The 30 cells, shaded by their change; each explains itself."""
    most = max(map(abs, known([row.get("diff") for row in rows.values()])), default=0.0)
    body = []
    for line in table.rows:
        head = tag("th", f"{line['x']} ", tag("span", "no longer reads", class_="soft"),
                   scope="row")  # fmt: skip
        cells = []
        for column in table.columns[1:]:
            change = number(rows[f"{line['x']}->{column.key}"].get("diff"))
            text_, mark = column.show(line[column.key]), line[f"{column.key}*"]
            kinds = ["cell-td", step(change, most, 4).replace("u", "")]
            kinds += ["lower"] if line[f"{column.key}!"] else []
            kinds += ["na"] if text_ == NOT_APPLICABLE else []
            star = tag("sup", "*" if mark is True else str(mark)) if mark else Markup("")
            about = {"title": line[f"{column.key}?"], "data_mark": ""}
            cells.append(tag("td", text_, star, class_=" ".join(kinds), **about))
        body.append(tag("tr", head, *cells))
    first = tag("th", tag("span", "reader", class_="sr"), scope="col")
    heads = [tag("th", column.label, scope="col") for column in table.columns[1:]]
    caption = f"{measure} when the row's part no longer reads the column's part"
    matrix = tag(
        "table",
        tag("caption", caption, class_="sr"),
        tag("thead", tag("tr", first, *heads)),
        tag("tbody", *body),
        class_="matrix",
        data_marks="",
        data_columns=len(heads),
    )
    return tag("div", matrix, class_="scroll", tabindex="0", role="region", aria_label="Table 1")


def _key(table: Table, square: bool) -> Markup:
    lower = "Bold: lower than the original at the printed precision."
    parts = [tag("span", prose(note)) for note in (lower, *table.notes)]
    if square:
        names = [*(f"n{k}" for k in range(4, 0, -1)), "z", *(f"p{k}" for k in range(1, 5))]
        shades = [tag("i", class_=name) for name in names]
        parts.append(tag("span", *shades, " lower … higher than the original", class_="tints"))
    return words(Markup(" ").join(parts), "legend")


def _lead(
    cuts: Sequence[Row], original: Row, digits: int, measure: str, stars: str
) -> tuple[str, ...]:
    cuts = [row for row in cuts if not row["construction"]]
    rows = [row for row in cuts if isfinite(number(row.get("diff")))]
    rows.sort(key=lambda row: number(row["diff"]))
    if not rows:
        return ()
    queries = counted(number(original["queries"]), "query")
    test = "unpaired test, uncorrected" if stars == "unpaired" else "corrected"
    lead = (
        f"{sum(bool(row['star']) for row in rows)} of {counted(len(rows), 'cut')} change {measure} "
        f"significantly ({test}; {queries}; original {num(original['mean'], digits)}).",
    )
    falls = [
        f"{arrow(row['cut'])} ({num(row['diff'], digits, sign=True)}, "
        f"{num(row.get('share'), 2, sign=True)})"
        for row in rows[:3]
        if number(row["diff"]) < 0
    ]
    largest = f"The largest losses, each with its share of original − random: {', '.join(falls)}."
    return (*lead, largest) if falls else lead


def costliest(result: Result) -> str:
    """Say in one sentence which cut costs this model most; empty where no cut was measured."""
    rows, digits = marked(result, "table1"), digits_of(result)
    measure = shown(result.options["measure"])
    cuts = [r for r in rows if r["cut"] not in {"", "random"} and isfinite(number(r["diff"]))]
    cuts = [row for row in cuts if not row["construction"]]
    lower = [row for row in cuts if number(row["diff"]) < 0]
    if not lower:
        return f"No cut lowers {measure}." if cuts else ""
    row, largest = (
        min(some, key=lambda r: number(r["diff"]))
        for some in ([r for r in lower if r["star"]] or lower, lower)
    )
    ends = f"from {printed(row['original'], digits)} to {printed(row['mean'], digits)}"
    named = what_is_cut(row["cut"])
    if row["star"] and number(row["diff"]) > number(largest["diff"]):
        return f"Of the significant falls of {measure}, the largest, {ends}, is by cutting {named}."
    if row["star"]:
        return f"Cutting {named} costs most: {measure} falls {ends}."
    queries = counted(number(row["queries"]), "query")
    return (
        f"No cut lowers {measure} significantly on {queries}; the largest fall, {ends}, comes from "
        f"cutting {named}."
    )


def impossible(rows: Sequence[Row]) -> tuple[str, ...]:
    """Say what could not be measured, and why: a sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if reason := _reason(row):
            reasons.setdefault(reason, []).append(arrow(row.get("direction", row.get("cut"))))
    return tuple(
        f"Not measured for {', '.join(dict.fromkeys(names))}: {shown(reason, 300)}"
        for reason, names in reasons.items()
    )

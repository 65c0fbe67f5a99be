"""Cuts beside their controls, and named sets of heads beside random ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

import pandas as pd
from markupsafe import Markup

from matchlens import figures
from matchlens.figures import Drawing
from matchlens.plan import CONTROLS
from matchlens.report.exhibits import Exhibit, chart, words
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Row, Table, columns_of, tag
from matchlens.report.texts import (
    arrow,
    both,
    chance,
    counted,
    digits_of,
    equals,
    interval,
    note_lines,
    num,
    number,
    printed,
    prose,
    shown,
)
from matchlens.results import Result, records

SETS = 12
"""Sets of heads in one figure."""
_VERDICTS = {
    "beyond the amount": "the direction matters beyond the amount: cutting it does more damage "
    "than the same loss of the same rows on other columns",
    "only the amount": "only the amount matters: the same loss of the same rows on other columns "
    "does as much damage, within {margin}",
    "less than the amount": "cutting the direction does less damage than the same loss of the "
    "same rows on other columns",
}


def controls_of(row: Row) -> list[str]:
    """Return the controls that a cut has, by their short names, the primary one first."""
    return [kind for kind in CONTROLS if row.get(f"{kind}_diff") is not None]


def verdict_of(row: Row) -> str:
    """Say what the row-matched control shows of a cut."""
    sentence = _VERDICTS.get(
        str(row["verdict"]), f"undecided, {row.get('lacking') or 'not tested'}"
    )
    tests = ""
    if isinstance(row.get("p_beyond"), float):
        beyond, only, corrected = (
            printed(row.get(key), 3) for key in ("p_beyond", "p_only", "verdict_p_holm")
        )
        tests = f" (uncorrected p: beyond the amount {beyond}, only the amount {only}"
        if corrected != "-":
            tests += f"; the deciding test, Holm-corrected over the cuts: {corrected}"
        tests += ")"
    return f"{row['cut']}: {sentence.format(margin=printed(row.get('margin'), 3))}.{tests}"


def controls(result: Result) -> Table:
    """Lay out each cut, and below it its controls."""
    digits, body = digits_of(result), []
    for row in records(result.to_frame("controls")):
        body.append({"cut": row["cut"], "control": "(the cut itself)", "diff": row["diff"]})
        for kind in controls_of(row):
            own = {key: row.get(f"{kind}_{key}") for key in _OF_A_CONTROL}
            ends, star = (own["low"], own["high"]), number(own["p_holm"]) <= 0.05
            line = {"cut": row["cut"], "control": CONTROLS[kind], "ci": ends, "beyond*": star}
            body.append({**own, **line})
    columns = columns_of(
        "cut control diff +beyond ci p p_holm overlap_edges=share overlap_mass=share", digits,
        overlap_edges="edges", overlap_mass="mass",
    )  # fmt: skip
    notes = (
        "change: of the measure. beyond: the cut's change minus the control's. p: two-tailed "
        "paired t-test over queries, uncorrected and by Holm over the cuts; *: p (Holm) <= .05. "
        "edges, mass: the share of what the control takes that lies in the direction itself.",
    )
    return Table("controls", "Cuts beside their controls", columns, tuple(body), notes)


_OF_A_CONTROL = ("diff", "beyond", "low", "high", "p", "p_holm", "overlap_edges", "overlap_mass")


def text(result: Result) -> str:
    """Print each cut beside its controls, and whether the direction matters or only the amount."""
    table, before = controls(result), None
    rows = []
    for row in table.rows:  # a cut's name stands once
        rows.append({**row, "cut": "" if row["cut"] == before else row["cut"]})
        before = row["cut"]
    lines = [
        f"{result.options['measure']}: original "
        f"{printed(result.options['original'], digits_of(result))}; each cut beside its controls, "
        f"mean of {result.options['draws']} draws",
        "",
        *Table("controls", "", table.columns, tuple(rows)).text(),
        "",
        *table.notes,
        "",
        *map(verdict_of, filter(_judged, records(result.to_frame("controls")))),
        *note_lines(result),
    ]
    return "\n".join(lines) + "\n"


def _judged(row: Row) -> bool:
    return bool(row.get("verdict"))


def compared(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return a row for each cut and each of its controls, as figures and charts draw them."""
    out = []
    for row in rows:
        own = {key: row[key] for key in ("cut", "diff", "ci_low", "ci_high", "significant")}
        out.append({**own, "how": "the cut", "tip": _tip(row, "")})
        for kind in controls_of(row):
            numbers = {key: row[f"{kind}_{key}"] for key in ("diff", "ci_low", "ci_high")}
            significant = number(row[f"{kind}_diff_p_holm"]) <= 0.05
            about = {"cut": row["cut"], "how": CONTROLS[kind], "tip": _tip(row, kind)}
            out.append({**about, **numbers, "significant": significant})
    return out


def _tip(row: Row, kind: str) -> str:
    start = f"{kind}_" if kind else ""
    lines = [
        f"{CONTROLS[kind]}, for {arrow(row['cut'])}" if kind else both(row["cut"]),
        f"change {num(row[f'{start}diff'], 3, sign=True)}, 95% "
        f"{interval(row[f'{start}ci_low'], row[f'{start}ci_high'], 3)}; "
        f"{equals('p Holm', row[f'{kind}_diff_p_holm' if kind else 'p_holm'])}",
    ]
    if kind:
        beyond = num(row[f"{kind}_beyond"], 3, sign=True)
        lines.append(
            f"the cut goes beyond it by {beyond}; {equals('p Holm', row[f'{kind}_p_holm'])}"
        )
    return "\n".join(lines)


def drawn(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Draw each cut beside its controls."""
    table = pd.DataFrame(compared(records(result.to_frame("controls"))))
    yield "controls", partial(figures.comparison, table, measure=str(result.options["measure"]))


def exhibits(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show the cuts and their controls."""
    subtitle = "Whether the direction matters, or only the amount that is cut"
    base = ("controls", "Cuts beside their controls", subtitle)
    result, rows = folder.get("controls"), folder.rows("controls", "controls")
    if result is None or not rows:
        absent = "Cuts were not compared with controls (matchlens sweep controls)."
        yield Exhibit(*base, absent=absent)
        return
    digits, measure = digits_of(result), shown(result.options["measure"])
    kinds = [kind for kind in CONTROLS if any(kind in controls_of(row) for row in rows)]
    table, verdicts = controls(result), [verdict_of(row) for row in rows if _judged(row)]
    caption = (
        f"Change of {measure} under each cut and under its controls (mean of "
        f"{counted(number(result.options['draws']), 'draw')}), with 95% intervals. Filled: "
        "significant change against the original."
    )
    body = [
        *(chart(draw) for _, draw in drawn(result)),
        words(caption),
        table.html(),
        words(prose(table.notes[0]), "legend"),
        tag("ul", *(tag("li", prose(verdict)) for verdict in verdicts)) if verdicts else Markup(""),
    ]
    columns = [*columns_of("cut diff verdict lacking verdict_p=p verdict_p_holm=p")]
    for kind in kinds:
        labels = dict(zip(_OF_A_CONTROL, (CONTROLS[kind], *_STORED), strict=True))
        columns += columns_of(
            f"+{kind}_diff +{kind}_beyond +{kind}_low +{kind}_high {kind}_p=p {kind}_p_holm=p "
            f"{kind}_overlap_edges:2 {kind}_overlap_mass:2",
            digits,
            **{f"{kind}_{key}": label for key, label in labels.items()},
        )
    known_columns = tuple(column for column in columns if column.key in rows[0])
    yield Exhibit(
        *base,
        lead=_lead(rows, digits),
        body=tuple(body),
        tables=(Table("controls", "Cuts beside controls", known_columns, tuple(rows)),),
        result=result,
    )


_STORED = (
    *("beyond it", "95% low", "95% high", "p (uncorrected)", "p (Holm)"),
    *("its edges in the direction", "its attention in the direction"),
)
"""Labels of a control's numbers on the page, but for the first."""


def _lead(rows: Sequence[Row], digits: int) -> tuple[str, ...]:
    if not any(map(_judged, rows)):
        return ("These controls are from before the same rows' loss was controlled for.",)
    sentences = []
    for verdict, begin in (
        ("beyond the amount", "More than the amount of attention lost is shown to matter for"),
        ("only the amount", "Only the amount of attention lost is shown to matter for"),
        ("less than the amount", "The same loss elsewhere is shown to cost more for"),
    ):
        names = ", ".join(
            f"{arrow(row['cut'])} ({num(row['rows_beyond'], digits, sign=True)} beyond the "
            f"row-matched control, p {chance(row['verdict_p_holm'])} corrected)"
            for row in rows
            if row.get("verdict") == verdict
        )
        sentences += [f"{begin} {names}."] if names else []
    undecided = [arrow(row["cut"]) for row in rows if row.get("verdict") == "undecided"]
    if undecided:
        of = counted(len(rows), "cut")
        sentences.append(f"{len(undecided)} of {of} undecided: {', '.join(undecided)}.")
    return (" ".join(sentences),)


def head_sets(result: Result) -> Table:
    """Lay out named sets of heads beside random ones."""
    digits = digits_of(result)
    rows = []
    for row in records(result.to_frame("sets")):
        least, most = (row.get(f"random_mass_{end}") for end in ("low", "high"))
        line = {**row, "diff*": number(row["p_random_holm"]) <= 0.05}
        if row.get("random_mass") is not None:
            mean, low, high = (printed(value, 3) for value in (row["random_mass"], least, most))
            line["random_mass"] = f"{mean} [{low}, {high}]"
        rows.append(line)
    draws = {int(number(row["draws"])) for row in rows}
    own = "draws=number:0 " * (len(draws) > 1)
    columns = columns_of(
        f"set size direction how diff +random_mean random_ci {own}p_random p_random_holm p_tau "
        "p_tau_holm mass:3 random_mass random_shared=share", digits,
        random_ci="random 95%", draws="draws", mass="mass", random_shared="shared",
    )  # fmt: skip
    many = f"{min(draws)} to {max(draws)} (draws)" if own else str(*draws)
    notes = (
        f"p measure: share of sets, the named one among {many} random ones, whose "
        "cut lowers the measure at least as much (exact where all sets were tried). p order: "
        "that disturb the order at least as much (Kendall's tau-b). (Holm): each corrected over "
        "the rows; *: that of the measure <= .05. mass: attention of the set in the direction, "
        "summed over heads; random mass: mean and 95% of the random sets; shared: mean share of "
        "the named heads that stand in a random set.",
    )
    return Table("sets", "Sets of heads beside random ones", columns, tuple(rows), notes)


def head_sets_text(result: Result) -> str:
    """Print named sets of heads beside random ones."""
    table = head_sets(result)
    heads = {row["set"]: row["heads"] for row in table.rows}
    lines = [
        f"{result.options['measure']}: original "
        f"{printed(result.options['original'], digits_of(result))}; change when the set is cut, "
        "beside random sets with as many heads in each layer and, as near as can be, as much "
        "attention in the direction",
        "",
        *table.text(),
        "",
        *(f"{name}: {listed_heads}" for name, listed_heads in heads.items()),
        "",
        *table.notes,
        *note_lines(result),
    ]
    return "\n".join(lines) + "\n"


def head_sets_drawn(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Draw the sets of each direction and way of cutting, so many in a figure."""
    points, sets = result.to_frame("points"), result.to_frame("sets")
    measure = str(result.options["measure"])
    for number_, (by, group) in enumerate(points.groupby(["direction", "how"], sort=False)):
        direction, how = (str(part) for part in cast(tuple[object, ...], by))
        own = sets[(sets["direction"] == direction) & (sets["how"] == how)]
        p = dict(zip(own["set"], own["p_random"], strict=True))
        table = group.assign(p_random=[p[name] for name in group["set"]])
        draw = partial(figures.set_effects, measure=measure, title=f"{direction} ({how})")
        for start in range(0, len(p), SETS):
            part = pd.DataFrame(table[table["set"].isin(list(p)[start : start + SETS])])
            yield f"{number_ * 100 + start // SETS:02d}", partial(draw, part)

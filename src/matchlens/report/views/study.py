"""A whole study: its claims and what they say together; Table 1 beside that of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from matchlens.report.exhibits import Exhibit, notes_of, words
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Column, Table, columns_of
from matchlens.report.texts import counted, model_name, number
from matchlens.results import Result, records

RANKINGS = {"": "original", "random": "random ranking"}


def first_table(result: Result) -> Table:
    """Show a study's first table as it is stored."""
    name = next(iter(result.tables), "")
    table = result.to_frame(name) if name else pd.DataFrame()
    rows = records(table)
    columns = []
    for key in map(str, table.columns):
        numbers = [row[key] for row in rows if row[key] is not None]
        truth = bool(numbers) and all(isinstance(value, bool) for value in numbers)
        texts = any(isinstance(value, str | bool) for value in numbers)
        whole = all(isinstance(value, int) for value in numbers)
        kind = "flag" if truth else "text" if texts else "number"
        columns.append(Column(key, key, 0 if whole else 3, kind))
    return Table(name, f"Table {name}", tuple(columns), tuple(rows))


def claims(result: Result) -> Table:
    """Lay out the paper's claims with their verdicts."""
    rows = []
    for row in records(result.tables["claims"]):
        draws = str(row.get("draws")).split(", ")
        line = {
            "ci": (row["low"], row["high"]),
            "count": None if row["n"] is None else f"{int(number(row['n']))} {row['n_of']}",
            "alike": f"{draws.count(draws[0])} of {len(draws)}",
        }
        rows.append({**row, **line})
    columns = columns_of(
        "claim=prose verdict agreement value ci unit count p p_holm alike found=prose",
        value="number", ci="95% interval", count="n", alike="draws",
    )  # fmt: skip
    return Table("claims", "The paper's claims", columns, tuple(rows))


def table(result: Result) -> Table:
    """Return the claims, else the first table."""
    if "claims" not in result.tables:
        return first_table(result)
    return claims(result).pick("claim", "verdict", "agreement", "value", "ci", "unit", "found")


def text(result: Result) -> str:
    """Print the summary and the claims."""
    decided = claims(result)
    body = decided.pick("verdict", "value", "ci", "count", "p", "p_holm", "alike", "claim")
    details = [
        f"{row['claim']} {row['found']} "
        f"{str(row['agreement'])[0].upper()}{str(row['agreement'])[1:]}."
        for row in decided.rows
    ]
    lines, model = [], result.identity.get("model")
    for row in records(result.tables["summary"]):
        named = row["kind"] == "first" and isinstance(model, Mapping)
        start = f"{model_name(model['name'])}: " if named else ""  # type: ignore[index]
        lines.append(f"{start}{row['sentence']}")
    return "\n".join([*lines, "", *body.text(), "", *details]) + "\n"


def latex(result: Result) -> str:
    """Write the claims in LaTeX (booktabs)."""
    return claims(result).pick("claim", "verdict", "value", "ci").latex()


def paper_table(result: Result) -> Table:
    """Lay out the paper's cells and ours."""
    rows = [
        row | {"cut": RANKINGS.get(str(row["cut"]), row["cut"]), "ours*": bool(row["star"])}
        for row in records(result.to_frame("comparison"))
    ]
    columns = columns_of(
        "cut=reads paper ours:2 +difference:2 drop_paper:2 drop_ours:2 star_agrees",
        drop_paper="lost, paper", drop_ours="lost, ours", star_agrees="stars agree",
    )  # fmt: skip
    tested = [row for row in rows if row["star_agrees"] is not None]
    agree = sum(bool(row["star_agrees"]) for row in tested)
    note = (
        f"{agree} of {len(tested)} stars agree. *: p <= .05, two-tailed unpaired t-test, "
        "uncorrected, as in the paper. difference: ours minus the nearest number that the "
        "paper allows. lost: share of the original that a cut costs."
    )
    return Table("paper", "Table 1 beside the paper's", columns, tuple(rows), (note,))


def paper_text(result: Result) -> str:
    """Print the comparison: first what differs in the setting, then cell by cell."""
    cells = paper_table(result)
    lines = [
        "Table 1 beside that of Vast et al. 2025 (WExIR @ SIGIR 2025).",
        *(f"Here: {note}." for note in result.notes),
        "",
        *cells.text(),
        "",
        *cells.notes,
    ]
    return "\n".join(lines) + "\n"


def paper_latex(result: Result) -> str:
    """Write the comparison in LaTeX (booktabs)."""
    cells = paper_table(result).pick("cut", "paper", "ours", "difference")
    return cells.latex(notes=result.notes)


def paper_exhibits(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show the comparison; nothing where it was not asked for."""
    result, rows = folder.get("wexir25"), folder.rows("wexir25", "comparison")
    if result is None or not rows:
        return
    cells = paper_table(result)
    inside = sum(row["difference"] == 0 for row in rows)
    columns = (
        *(Column(c.key, c.label, c.digits, "cut" if c.key == "cut" else c.kind, c.sign)
          for c in cells.columns[:-1]),
        Column("star", "star", kind="flag"),
        cells.columns[-1],
    )  # fmt: skip
    agree = cells.notes[0].partition(" *:")[0]
    yield Exhibit(
        "paper",
        "Beside the paper",
        "Table 1 of Vast et al. 2025 and of this model, cell by cell",
        lead=(
            f"{agree.removesuffix('.')}; {inside} of {counted(len(rows), 'number')} lie where the "
            "paper has them.",
            *notes_of(result),
        ),
        body=(
            words("*: p ≤ .05, two-tailed unpaired t-test, uncorrected, as in the paper."),
            cells.html(),
        ),
        tables=(Table("paper", cells.title, columns, tuple(rows)),),
        result=result,
    )

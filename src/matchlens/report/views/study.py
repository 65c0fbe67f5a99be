"""A whole study: the claims, what they say together, and the tables of no study of their own."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from matchlens.report.table import Column, Table, columns_of
from matchlens.report.texts import model_name, number
from matchlens.results import Result, records


def first_table(result: Result) -> Table:
    """Show a study's first table as it is stored."""
    name = next(iter(result.tables), "")
    table = result.to_frame(name) if name else pd.DataFrame()
    rows = records(table)
    columns = []
    for key in map(str, table.columns):
        numbers = [row[key] for row in rows if row[key] is not None]
        truth = bool(numbers) and all(isinstance(value, bool) for value in numbers)
        words = any(isinstance(value, str | bool) for value in numbers)
        whole = all(isinstance(value, int) for value in numbers)
        kind = "flag" if truth else "text" if words else "number"
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


def looks(result: Result) -> Table:
    """Lay out the pairs to look into."""
    rows = [
        {**row, "place": f"{float(str(row['rank'])):g} of {row['candidates']}"}
        for row in records(result.to_frame("looks"))
    ]
    columns = columns_of("look qid docid why grade score place", docid="passage", place="rank")
    return Table("looks", "Pairs to look into", columns, tuple(rows))

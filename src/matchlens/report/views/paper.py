"""Table 1 beside that of the paper, where the paper's setting was run."""

from __future__ import annotations

from collections.abc import Iterator

from matchlens.report.exhibits import Exhibit, notes_of, words
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.table import Column, Table, columns_of
from matchlens.report.texts import counted
from matchlens.results import Result, records

NAMES = {"": "original", "random": "random ranking"}


def table(result: Result) -> Table:
    """Lay out the paper's cells and ours."""
    rows = [
        row | {"cut": NAMES.get(str(row["cut"]), row["cut"]), "ours*": bool(row["star"])}
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


def text(result: Result) -> str:
    """Print the comparison: first what differs in the setting, then cell by cell."""
    cells = table(result)
    lines = [
        "Table 1 beside that of Vast et al. 2025 (WExIR @ SIGIR 2025).",
        *(f"Here: {note}." for note in result.notes),
        "",
        *cells.text(),
        "",
        *cells.notes,
    ]
    return "\n".join(lines) + "\n"


def latex(result: Result) -> str:
    """Write the comparison in LaTeX (booktabs)."""
    cells = table(result).pick("cut", "paper", "ours", "difference")
    return cells.latex(notes=result.notes)


def exhibits(folder: ResultsFolder) -> Iterator[Exhibit]:
    """Show the comparison; nothing where it was not asked for."""
    result, rows = folder.get("wexir25"), folder.rows("wexir25", "comparison")
    if result is None or not rows:
        return
    cells = table(result)
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

"""Table 1 beside the paper's, where the paper's setting was run."""

from __future__ import annotations

from matchlens.report.page.definitions import DEFINITIONS
from matchlens.report.page.parts import Column, Exhibit, Table, notes_of, options_of
from matchlens.report.page.results_folder import ResultsFolder
from matchlens.report.page.texts import both, counted, num

NAME = "wexir25"
SHOWN = {"": "original", "random": "random ranking"}


def paper(held: ResultsFolder) -> tuple[Exhibit, ...]:
    """The comparison with Vast et al. 2025; nothing where it was not asked for."""
    result, rows = held.get(NAME), held.rows(NAME, "comparison")
    if result is None or not rows:
        return ()
    tested = [row for row in rows if row["star_agrees"] is not None]
    agree = sum(bool(row["star_agrees"]) for row in tested)
    inside = sum(row["difference"] == 0 for row in rows)
    columns = (
        Column("cut", "cut", kind="cut"),
        Column("paper", "paper", kind="text"),
        Column("ours", "ours", 2),
        Column("difference", "difference", 2, sign=True),
        Column("drop_paper", "lost, paper", 2),
        Column("drop_ours", "lost, ours", 2),
        Column("star", "star", kind="flag"),
        Column("star_agrees", "stars agree", kind="flag"),
    )
    shown = [
        {
            "cut": SHOWN.get(str(row["cut"]), both(row["cut"])) or "",
            "paper": row["paper"],
            "ours": num(row["ours"], 2) + ("*" if row["star"] else ""),
            "difference": num(row["difference"], 2, sign=True),
            "lost_paper": num(row["drop_paper"], 2),
            "lost": num(row["drop_ours"], 2),
            "agrees": {True: "yes", False: "no"}.get(row["star_agrees"], ""),  # type: ignore[call-overload]
        }
        for row in rows
    ]
    return (
        Exhibit(
            id="paper",
            nav="Beside the paper",
            title="Beside the paper",
            subtitle="Table 1 of Vast et al. 2025 and of this model, cell by cell",
            definition=DEFINITIONS["paper"],
            lead=(
                f"{agree} of {counted(len(tested), 'star')} agree; {inside} of "
                f"{counted(len(rows), 'number')} lie where the paper has them.",
                *notes_of(result),
            ),
            template="paper.html.j2",
            context={"rows": shown},
            caption="*: p ≤ .05, two-tailed unpaired t-test, uncorrected, as in the paper.",
            tables=(Table("paper", "Table 1 beside the paper's", columns, tuple(rows)),),
            options=options_of(result),
        ),
    )

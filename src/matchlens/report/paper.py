"""Table 1 beside the paper's, for a terminal and a paper."""

from __future__ import annotations

from matchlens.report.numbers import columns, printed
from matchlens.results import Result, records

SHOWN = {"": "original", "random": "random ranking"}


def comparison_text(result: Result) -> str:
    """The comparison as text: first what differs in the setting, then cell by cell.

    Args:
        result: what :func:`matchlens.studies.wexir25.beside_the_paper` returned.
    """
    rows = records(result.to_frame("comparison"))
    body = [["cut", "paper", "ours", "difference", "lost, paper", "lost, ours", "stars agree"]]
    for row in rows:
        star = "*" if row["star"] else ""
        agrees = {True: "yes", False: "no", None: "-"}[row["star_agrees"]]  # type: ignore[index]
        body.append(
            [
                SHOWN.get(str(row["cut"]), str(row["cut"])),
                str(row["paper"]),
                f"{printed(row['ours'], 2)}{star}",
                printed(row["difference"], 2),
                printed(row["drop_paper"], 2),
                printed(row["drop_ours"], 2),
                agrees,
            ]
        )
    tested = [row for row in rows if row["star_agrees"] is not None]
    agree = sum(bool(row["star_agrees"]) for row in tested)
    return (
        "\n".join(
            [
                "Table 1 beside that of Vast et al. 2025 (WExIR @ SIGIR 2025).",
                *(f"Here: {note}." for note in result.notes),
                "",
                *columns(body),
                "",
                f"{agree} of {len(tested)} stars agree. *: p <= .05, two-tailed unpaired t-test, "
                "uncorrected, as in the paper. difference: ours minus the nearest number that the "
                "paper allows. lost: share of the original that a cut costs.",
            ]
        )
        + "\n"
    )


def comparison_latex(result: Result) -> str:
    """The comparison in LaTeX (booktabs).

    Args:
        result: what :func:`matchlens.studies.wexir25.beside_the_paper` returned.
    """
    lines = [
        "% \\usepackage{booktabs}",
        *(f"% {note}" for note in result.notes),
        "\\begin{tabular}{lrrr}",
        "\\toprule",
        "cut & paper & ours & difference \\\\",
        "\\midrule",
    ]
    for row in records(result.to_frame("comparison")):
        cut = SHOWN.get(str(row["cut"]), str(row["cut"]).replace("->", "$\\rightarrow$"))
        paper = str(row["paper"]).replace("*", "$^*$").replace(" to ", "--")
        star = "$^*$" if row["star"] else ""
        ours, apart = printed(row["ours"], 2), printed(row["difference"], 2)
        lines.append(f"{cut} & {paper} & {ours}{star} & {apart} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def comparison_files(result: Result) -> dict[str, str | bytes]:
    """The comparison's texts, file name to content.

    Args:
        result: what :func:`matchlens.studies.wexir25.beside_the_paper` returned.
    """
    return {
        "wexir25/comparison.txt": comparison_text(result),
        "wexir25/comparison.tex": comparison_latex(result),
    }

"""Table 1 as text for a terminal, and in LaTeX for a paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matchlens.arguments import typed
from matchlens.directions import Direction
from matchlens.parts import NAMED
from matchlens.report.latex import tabular, tex
from matchlens.report.numbers import SHARE, digits_of, note_lines, printed
from matchlens.report.robustness_text import agreement_lines, selected_lines
from matchlens.results import Result, records

COLUMNS = (*(str(part) for part in NAMED), "All")
ROWS = tuple(str(part) for part in NAMED)
NOT_APPLICABLE = "n/a"
IMPOSSIBLE = (
    f"{NOT_APPLICABLE}: impossible, the cut removes nothing that was there (the note says why)."
)
_BOLD, _PLAIN = "\033[1m", "\033[0m"


@typed
def text(result: Result, *, bold: bool = False) -> str:
    """The ablation's table as text, with a legend.

    Args:
        result: what :func:`matchlens.ablation` returned.
        bold: mark decreases by the terminal's bold type; by a ``v`` behind the number where False.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs, cuts=["CLS->All"])
    >>> text(result).splitlines()[-1][:25]
    'share: of (original - ran'
    """
    rows = {str(row["cut"]): row for row in records(result.to_frame("table1"))}
    digits = digits_of(result)

    def cell(row: Mapping[str, object], width: int) -> str:
        number, lower, star = _cell(row, result)
        if bold:
            shown = f"{number}{star}".rjust(width)
            return f"{_BOLD}{shown}{_PLAIN}" if lower else shown
        return f"{number}{'v' if lower else ''}{star}".rjust(width)

    lines = [_title(result, rows), ""]
    lines.append(
        f"original {printed(rows['']['mean'], digits)}    "
        f"random ranking {printed(rows['random']['mean'], digits)} (expected value)"
    )
    lines.append("")
    if "agreement" in result.tables:
        lines += agreement_lines(result)
    elif is_matrix(rows):
        lines += _matrix(rows, lambda row: cell(row, 9))
    else:
        lines += _list(rows, cell, digits)
    return "\n".join([*lines, "", *_legend(result, bold), *note_lines(result)]) + "\n"


@typed
def latex(result: Result) -> str:
    """The ablation's table in LaTeX (booktabs): bold for a decrease, * for significance.

    Args:
        result: what :func:`matchlens.ablation` returned.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs, cuts=["CLS->All"])
    >>> "\\\\toprule" in latex(result)
    True
    """
    rows = {str(row["cut"]): row for row in records(result.to_frame("table1"))}
    digits = digits_of(result)

    def cell(row: Mapping[str, object]) -> str:
        number, lower, star = _cell(row, result)
        return (f"\\textbf{{{number}}}" if lower else number) + (f"$^{star}$" if star else "")

    if is_matrix(rows):
        head = ["$X \\rightarrow Y$", *COLUMNS]
        body = [[x, *(cell(rows[f"{x}->{y}"]) for y in COLUMNS)] for x in ROWS]
    else:
        head = ["cut", tex(str(result.options["measure"]))]
        body = [[tex(name), cell(row)] for name, row in rows.items() if name not in {"", "random"}]
    original, random = (printed(rows[name]["mean"], digits) for name in ("", "random"))
    last = f"\\multicolumn{{{len(head)}}}{{l}}{{original {original}, random {random}}}"
    return tabular(
        head,
        [*body, [last]],
        title=_title(result, rows),
        notes=[
            f"original {original}, random {random}",
            *_legend(result, True),
            *note_lines(result),
        ],
        rules=[len(body)],
    )


def sweep_text(result: Result) -> str:
    """A sweep's points as text: a row for each direction and how, a column for each layer or head.

    Args:
        result: what :func:`matchlens.sweep` returned.
    """
    rows, digits = records(result.to_frame("points")), digits_of(result)
    kind, test = str(result.options["kind"]), str(result.options["stars"])
    star = {"q": "q", "unpaired": "p_unpaired"}.get(test, "p_holm")
    by_head = kind == "heads"
    lines = [
        f"{result.options['measure']}: original {printed(result.options['original'], digits)}, "
        f"random ranking {printed(result.options['random'], digits)} (expected value)",
    ]
    blocks: dict[tuple[object, object], list[dict[str, object]]] = {}
    for row in rows:
        blocks.setdefault((row["direction"], row["how"]), []).append(row)
    for (direction, how), block in blocks.items():
        lines += ["", f"{direction}  ({how})"]
        for n in dict.fromkeys(row["n"] for row in block):
            cells = [row for row in block if row["n"] == n]
            values = " ".join(
                f"{_value(row, 'diff' if by_head else 'mean', digits)}"
                f"{'*' if _known(row[star]) <= 0.05 else ''}".rjust(digits + 4)
                for row in cells
            )
            lines.append(f"  {_place(kind, str(cells[0]['cut']), n)} {values}")
    named = {"q": "q <= .05 (Benjamini-Hochberg over the sweep)", "unpaired": "p <= .05, unpaired"}
    if "agreement" in result.tables:
        lines += ["", *agreement_lines(result)]
    if "selected" in result.tables:
        lines += selected_lines(result)
    lines += [
        "",
        f"{'Change of the measure, a column for each head' if by_head else 'The measure'}. "
        f"*: {named.get(test, 'Holm-corrected p <= .05 over the sweep')}, two-tailed t-test over "
        "queries.",
    ]
    if any(row.get("impossible") for row in rows):
        lines.append(IMPOSSIBLE)
    return "\n".join([*lines, *note_lines(result)]) + "\n"


def _place(kind: str, cut: str, n: object) -> str:
    return f"layer {n!s:>2}" if kind in {"only", "heads"} else cut.rpartition("@")[2].ljust(8)


def _value(row: Mapping[str, object], key: str, digits: int) -> str:
    return NOT_APPLICABLE if row.get("impossible") else printed(row[key], digits)


def _known(value: object) -> float:
    return value if isinstance(value, float) else 1.0


def _cell(row: Mapping[str, object], result: Result) -> tuple[str, bool, str]:
    """The number, whether it is lower than the original at the printed precision, the star."""
    digits = digits_of(result)
    if row.get("impossible"):
        return NOT_APPLICABLE, False, ""
    mean, original = row["mean"], row["original"]
    lower = (
        isinstance(mean, float)
        and isinstance(original, float)
        and round(mean, digits) < round(original, digits)
    )
    key = "significant_paper" if result.options["stars"] == "unpaired" else "significant"
    return printed(mean, digits), lower, "*" if row[key] else ""


def is_matrix(rows: Mapping[str, object]) -> bool:
    """Whether the cuts, with the original and the random ranking, are the paper's 30 cells."""
    return set(rows) == {"", "random", *(f"{x}->{y}" for x in ROWS for y in COLUMNS)}


def _matrix(
    rows: Mapping[str, Mapping[str, object]], cell: Callable[[Mapping[str, object]], str]
) -> list[str]:
    lines = ["X \\ Y   " + "".join(name.rjust(9) for name in COLUMNS)]
    for x in ROWS:
        lines.append(x.ljust(8) + "".join(cell(rows[f"{x}->{y}"]) for y in COLUMNS))
    return lines


def _list(
    rows: Mapping[str, Mapping[str, object]],
    cell: Callable[[Mapping[str, object], int], str],
    digits: int,
) -> list[str]:
    names = [name for name in rows if name not in {"", "random"}]
    width = max(len(name) for name in names)
    head = f"{'cut'.ljust(width)} {'value':>9}  {'change':>7}  {'share':>5}"
    lines = [f"{head}  95% interval      p (Holm)"]
    for name in names:
        row = rows[name]
        low, high = (printed(row[key], digits) for key in ("ci_low", "ci_high"))
        lines.append(
            f"{name.ljust(width)} {cell(row, 9)}  {printed(row['diff'], digits):>7}  "
            f"{printed(row['share'], 2):>5}  {f'[{low}, {high}]':<16}  "
            f"{printed(row['p_holm'], 4)}"
        )
    return lines


def _title(result: Result, rows: Mapping[str, Mapping[str, object]]) -> str:
    model, pairs = result.identity["model"], result.identity["pairs"]
    assert isinstance(model, Mapping)  # noqa: S101
    assert isinstance(pairs, Mapping)  # noqa: S101
    sources = ", ".join(str(source["collection"]) for source in pairs["sources"])
    return (
        f"{result.options['measure']} of {model['name']} on {sources}: "
        f"{rows['']['queries']} queries, {pairs['number']} pairs ({_sampling(pairs['sampling'])})"
    )


def _sampling(sampling: Mapping[str, object]) -> str:
    how = sampling["candidates"]
    if how == "per_grade":
        return f"at most {sampling['per_grade']} a grade, seed {sampling['seed']}"
    if how == "given":
        return "the pairs as given"
    return f"the run's top {sampling['depth']}" if how == "run" else "all judged passages"


def _legend(result: Result, bold: bool) -> Sequence[str]:
    rows = records(result.to_frame("table1"))
    wrong = sum(bool(row.get("impossible")) for row in rows)
    cells = len(rows) - 2 - wrong
    apart = ", each way of cutting apart" if "agreement" in result.tables else ""
    test = (
        "p <= .05, two-tailed unpaired Student t-test over queries, uncorrected (`paper` preset)"
        if result.options["stars"] == "unpaired"
        else f"Holm-corrected p <= .05 over {cells} cells{apart}, two-tailed paired t-test over "
        "queries"
    )
    example = Direction.parse("Q->D")
    listed = not (apart or is_matrix(dict.fromkeys(str(row["cut"]) for row in rows)))
    lower = f"{'Bold' if bold else 'v'}: lower than the original at the printed precision. "
    return (
        f"X -> Y cut in all layers unless said: X no longer reads Y ({example}: {example.words}).",
        f"{'' if apart else lower}*: {test}.",
        *([SHARE] if listed else []),
        *([IMPOSSIBLE] if wrong else []),
    )

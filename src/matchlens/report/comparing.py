"""Results folders side by side, as text, LaTeX, a page and figures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from matchlens.errors import visible
from matchlens.report import html
from matchlens.report.numbers import columns, digits_of, printed
from matchlens.report.sections import Section, section_html, section_latex
from matchlens.results import Result, records

Row = Mapping[str, object]
KINDS = {"same": "The same", "differs": "Differs", "cannot": "Cannot be compared"}
STAR = "*: significant by the folder's own test."


def comparison_text(result: Result) -> str:
    """The comparison for a terminal: what differs first, then the tables.

    Args:
        result: what :func:`matchlens.compare` returned.
    """
    lines = [_title(result), ""]
    for row in records(result.to_frame("said")):
        lines.append(f"{KINDS[str(row['kind'])]}: {row['sentence']}.")
    for section in sections(result):
        lines += ["", section.title, "", *columns((section.head, *section.rows), section.text)]
        lines += ["", *textwrap.wrap(section.note, 100)] if section.note else []
    return "\n".join(map(visible, lines)) + "\n"


def comparison_latex(result: Result) -> dict[str, str]:
    """A LaTeX table (booktabs) a section, file name to content.

    Args:
        result: what :func:`matchlens.compare` returned.
    """
    return {
        f"comparison/{section.name}.tex": section_latex(section) for section in sections(result)
    }


def comparison_page(result: Result, figures: Mapping[str, str]) -> str:
    """The comparison as a page of its own.

    Args:
        result: what :func:`matchlens.compare` returned.
        figures: caption to SVG, made by this package.
    """
    pieces = [html.element("h1", _title(result)), said_html(result)]
    for section in sections(result):
        pieces += [html.element("h2", section.title), section_html(section)]
    for caption, svg in figures.items():
        pieces += [html.element("h2", caption), html.picture(svg, caption)]
    return html.page(_title(result), *pieces)


def said_html(result: Result) -> str:
    """What is the same, what differs, and what follows.

    Args:
        result: what :func:`matchlens.compare` returned.
    """
    said = records(result.to_frame("said"))
    pieces = []
    for kind, words in KINDS.items():
        mine = [f"{row['sentence']}." for row in said if row["kind"] == kind]
        pieces += [html.element("h3", words), html.listed(mine)] if mine else []
    return "".join(pieces)


def comparison_files(result: Result) -> dict[str, str | bytes]:
    """The comparison's text, page, LaTeX and figures, file name to content.

    Args:
        result: what :func:`matchlens.compare` returned.
    """
    from matchlens import figures
    from matchlens.report.comparing_figures import caption_of, comparison_figures

    files: dict[str, str | bytes] = {"compare.txt": comparison_text(result)}
    files |= comparison_latex(result)
    drawn = {}
    for name, figure in comparison_figures(result):
        for ending, content in figures.render(figure).items():
            files[f"comparison/figures/{name}.{ending}"] = content
            if ending == "svg":
                drawn[caption_of(name)] = content.decode()
    return {**files, "compare.html": comparison_page(result, drawn)}


def sections(result: Result) -> list[Section]:
    """The tables as they are printed; those that the folders do not have are left out.

    Args:
        result: what :func:`matchlens.compare` returned.
    """
    makers = {
        "folders": _folders,
        "table1": _table1,
        "paired": _paired,
        "curves": _curves,
        "overlaps": _overlaps,
        "heads": _heads,
        "claims": _claims,
        "differences": _differences,
    }
    found = []
    for name, make in makers.items():
        if name in result.tables and len(result.tables[name]):
            found += list(make(result, records(result.to_frame(name))))
    return found


def _title(result: Result) -> str:
    names = [str(row["folder"]) for row in records(result.to_frame("folders"))]
    return f"{len(names)} results folders side by side: {', '.join(names)}"


def _folders(result: Result, rows: Sequence[Row]) -> Iterator[Section]:
    digits = digits_of(result)
    head = ("folder", "model", "collections", "layers x heads", "pairs", "measure", "original")
    body = [
        (
            *(str(row[key]) for key in ("folder", "model", "collections")),
            f"{_whole(row['layers'])} x {_whole(row['heads'])}",
            _whole(row["pairs"]),
            str(row["measure"] or "-"),
            printed(row["original"], digits),
        )
        for row in rows
    ]
    yield Section("folders", "The folders", head, tuple(body), 3)


def _table1(result: Result, rows: Sequence[Row]) -> Iterator[Section]:
    digits, folders = digits_of(result), list(dict.fromkeys(str(row["folder"]) for row in rows))
    cells = {(row["folder"], row["cut"]): row for row in rows}
    body = []
    for cut in dict.fromkeys(str(row["cut"]) for row in rows):
        line = [cut or "original"]
        for folder in folders:
            row = cells.get((folder, cut))
            line.append("-" if row is None else printed(row["mean"], digits))
            line.append(_change(row, digits) if cut and row is not None else "")
        body.append(tuple(line))
    head = ("cut", *(word for folder in folders for word in (folder, "change")))
    yield Section("table1", "Table 1: the measure under each cut", head, tuple(body), 1, STAR)


def _change(row: Row, digits: int) -> str:
    return f"{printed(row['diff'], digits)}{'*' if row['significant'] else ' '}".rstrip()


def _paired(result: Result, rows: Sequence[Row]) -> Iterator[Section]:
    digits = digits_of(result)
    head = ("first", "second", "condition", "first", "second", "difference", "95%", "p")
    body = []
    for row in rows:
        low, high = (printed(row[key], digits) for key in ("ci_low", "ci_high"))
        star = "*" if row["significant"] else ""
        body.append(
            (
                str(row["first"]),
                str(row["second"]),
                str(row["condition"]) or "original",
                *(printed(row[key], digits) for key in ("first_mean", "second_mean")),
                f"{printed(row['diff'], digits)}{star}",
                f"[{low}, {high}]",
                printed(row["p_holm"], 3),
            )
        )
    note = (
        "original: the measure without a cut; else its change under the cut. difference: second "
        "less first, over the same queries; 95%: bootstrap over queries; p: two-tailed paired "
        "t-test, Holm-corrected over the cuts; *: p <= .05."
    )
    yield Section("paired", "Query by query", head, tuple(body), 3, note)


def _curves(result: Result, rows: Sequence[Row]) -> Iterator[Section]:
    digits = digits_of(result)
    numbers = sorted({int(str(row["n"])) for row in rows})
    cells = {(row["direction"], row["how"], row["folder"], row["n"]): row for row in rows}
    body = []
    for direction, how in dict.fromkeys((row["direction"], row["how"]) for row in rows):
        for folder in dict.fromkeys(row["folder"] for row in rows):
            mine = [cells.get((direction, how, folder, n)) for n in numbers]
            if any(mine):
                named = str(direction) if how == "zero" else f"{direction} ({how})"
                values = [
                    "-"
                    if row is None
                    else f"{printed(row['mean'], digits)}{'*' if row['significant'] else ''}"
                    for row in mine
                ]
                body.append((named, str(folder), *values))
    head = ("direction", "folder", *map(str, numbers))
    title = "Figure 1a: the measure with layers 0 to n - 1 cut, a column for each n"
    yield Section("curves", title, head, tuple(body), 2, STAR)


def _overlaps(result: Result, rows: Sequence[Row]) -> Iterator[Section]:
    head = ("first", "second", "direction", "heads", "found", "found", "both", "by chance", "p")
    body = []
    for row in rows:
        low, high = (printed(row[key], 2) for key in ("rho_low", "rho_high"))
        body.append(
            (
                *(str(row[key]) for key in ("first", "second", "direction")),
                *(_whole(row[key]) for key in ("heads", "first_heads", "second_heads", "both")),
                printed(row["expected"], 1),
                printed(row["p"], 3),
                printed(row["rho"], 2),
                f"[{low}, {high}]",
            )
        )
    note = (
        "both: matching heads that both folders found; by chance: of two lists drawn at random; p: "
        "of an overlap as large (hypergeometric); rho: Spearman's, of the AUC over all heads."
    )
    title = "Matching heads: how far the lists agree"
    yield Section("overlaps", title, (*head, "rho", "95%"), tuple(body), 3, note)


def _heads(result: Result, rows: Sequence[Row]) -> Iterator[Section]:
    folders = list(dict.fromkeys(str(row["folder"]) for row in rows))
    found: dict[tuple[object, ...], dict[object, Row]] = {}
    for row in rows:
        found.setdefault((row["direction"], row["layer"], row["head"]), {})[row["folder"]] = row
    order = sorted(found, key=lambda key: (str(key[0]), -len(found[key]), key[1], key[2]))
    body = []
    for key in order:
        cells = [_head(found[key].get(folder)) for folder in folders]
        body.append((str(key[0]), f"{key[1]}.{key[2]}", *cells))
    head = ("direction", "head", *folders)
    note = "kind and AUC (relevant against easy) on the half of the queries that describes; ?: does"
    note = f"{note} not hold there; -: not found."
    yield Section("heads", "Matching heads", head, tuple(body), 2 + len(folders), note)


def _head(row: Row | None) -> str:
    if row is None:
        return "-"
    return f"{row['kind']} {printed(row['auc'], 2)}{'' if row['held'] else '?'}"


def _claims(result: Result, rows: Sequence[Row]) -> Iterator[Section]:
    folders = list(dict.fromkeys(str(row["folder"]) for row in rows))
    cells = {(row["folder"], row["id"]): row for row in rows}
    words = {str(row["id"]): str(row["claim"]) for row in rows}
    body = []
    for name, claim in words.items():
        body.append((claim, *(_claim(cells.get((folder, name))) for folder in folders)))
    yield Section("claims", "Claims", ("claim", *folders), tuple(body), 1 + len(folders))


def _claim(row: Row | None) -> str:
    if row is None:
        return "-"
    low, high = (printed(row.get(key), 3) for key in ("low", "high"))
    between = f" [{low}, {high}]" if row.get("low") is not None else ""
    unit = f" {row['unit']}" if row.get("unit") else ""
    value = "" if row.get("value") is None else f": {printed(row['value'], 3)}{between}{unit}"
    return f"{row['verdict']}{value}"


def _differences(result: Result, rows: Sequence[Row]) -> Iterator[Section]:
    folders = list(dict.fromkeys(str(row["folder"]) for row in rows))
    cells = {(row["aspect"], row["folder"]): str(row["value"]) for row in rows}
    body = [
        (str(aspect), *(cells.get((aspect, folder), "-") for folder in folders))
        for aspect in dict.fromkeys(row["aspect"] for row in rows)
    ]
    title = "What differs in the manifests"
    yield Section("differences", title, ("", *folders), tuple(body), 1 + len(folders))


def _whole(value: object) -> str:
    return str(int(value)) if isinstance(value, int | float) else "-"

"""The figures of the circuits study: 2 and its companion, the nulls, the map, the shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from matchlens import figures
from matchlens.qk import CONTRASTS
from matchlens.report.circuits import (
    ARROWS,
    FAR,
    VARIANT_WORDS,
    circuits_text,
    logit_words,
    title_of,
)
from matchlens.report.main_tables import main_table
from matchlens.report.sections import section_latex
from matchlens.results import Result
from matchlens.studies.circuits import COMPANIONS, TOP, VARIANTS, colour_of, most_aligned

TERM_WORDS: Mapping[str, str] = {
    "matching": "matching (x, y)",
    "cross_reader": "cross: reader's own (x), mean read token",
    "cross_read": "cross: mean reader, read token's own (y)",
    "bias_query": "bias b_Q",
    "bias_key": "bias b_K",
}
MAP_NOTE = (
    f"▲ {FAR:g} standard deviations or more above both nulls (Gaussian factors, random singular "
    "vectors), ● as far below both. Named layer.head: the largest."
)
MOST_BARS = 40
MINUS = " \N{MINUS SIGN} "


def circuits_files(result: Result) -> dict[str, str | bytes]:
    """The study's text and figures, file name to content.

    Args:
        result: what :func:`matchlens.circuits` returned.
    """
    files: dict[str, str | bytes] = {
        "circuits/circuits.txt": circuits_text(result),
        "circuits/heads.tex": section_latex(main_table(result), title_of(result)),
    }
    for name, figure in circuits_figures(result):
        for ending, content in figures.render(figure).items():
            files[f"circuits/figures/{name}.{ending}"] = content
    return files


def _words(contrast: str) -> str:
    return f"{contrast.replace('-', MINUS)}: {CONTRASTS[contrast]}"


def circuits_figures(result: Result) -> Iterator[tuple[str, Figure]]:
    """The figures by name, Figure 2 first, each drawn when it is asked for.

    Args:
        result: what :func:`matchlens.circuits` returned.
    """
    heads, variant = result.to_frame("heads"), str(result.options["variant"])
    column, words = VARIANTS[variant], VARIANT_WORDS[variant]
    contrast = str(result.options["contrast"])
    note = f"Logits of the mean tokens: {logit_words(result)}."
    for name, one in (("2", contrast), ("2-companion", COMPANIONS[contrast])):
        yield name, _scatter(heads, one, column, words, note)
    in_sds = "trace(A), in standard deviations of random Gaussian factors"
    yield "2-nulls", _scatter(heads, contrast, "z", in_sds, note)
    if "base_change" in heads:
        yield (
            "base",
            figures.head_scatter(
                heads,
                x="base_alignment",
                y="alignment",
                x_words="alignment before fine-tuning, trace(A)",
                y_words="alignment, trace(A)",
            ),
        )
    sure = [(heads[key].abs() >= FAR) for key in ("z", "rotation_z")]
    shown = heads.assign(diff=heads["alignment"], q=float("nan"), significant=sure[0] & sure[1])
    shown = pd.DataFrame(shown).dropna(subset=["diff"])
    if len(shown):
        yield "alignment", figures.head_map(shown, words=VARIANT_WORDS["all"], note=MAP_NOTE)
    yield "shares", _shares(result, heads, variant)


def _scatter(heads: pd.DataFrame, contrast: str, y: str, words: str, note: str) -> Figure:
    arrow = ARROWS[contrast[:2]].replace("->", "→")
    return figures.head_scatter(
        heads,
        x=contrast,
        y=y,
        x_words=_words(contrast),
        y_words=words,
        colour=colour_of(contrast),
        colour_words=f"{arrow} attention mass, relevant{MINUS}easy",
        note=note,
    )


def _shares(result: Result, heads: pd.DataFrame, variant: str) -> Figure:
    """The shares of the heads that were looked at, else of the most aligned ones."""
    given = result.options["heads_looked_at"]
    names = list(given) if isinstance(given, list | tuple) else []
    if not names:
        names = [f"{layer}.{head}" for layer, head in most_aligned(heads, variant, TOP)]
    names = names[: MOST_BARS // len(ARROWS)]
    table = result.to_frame("shares")
    table["name"] = table["layer"].astype(str) + "." + table["head"].astype(str)
    rank = {name: place for place, name in enumerate(names)}
    mine = table[table["name"].isin(names)].copy()
    mine["rank"] = [rank[name] for name in mine["name"]]
    order = {term: place for place, term in enumerate(TERM_WORDS)}
    mine["order"] = [order[term] for term in mine["term"]]
    places = {direction: place for place, direction in enumerate(ARROWS)}
    mine["place"] = [places[direction] for direction in mine["direction"]]
    mine = pd.DataFrame(mine).sort_values(by=["rank", "place", "order"], kind="stable")
    mine["term"] = [TERM_WORDS[term] for term in mine["term"]]
    mine["direction"] = [ARROWS[direction] for direction in mine["direction"]]
    return figures.shares(pd.DataFrame(mine.drop(columns=["name", "rank", "order", "place"])))

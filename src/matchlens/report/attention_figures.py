"""The figures of the attention study: 1b, 1c, the no-op profile, the lexical profile, the sets."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from matchlens import figures
from matchlens.figures.heads import ATTENTION_NOTE
from matchlens.report.attention import attention_text, title_of
from matchlens.report.main_tables import main_table
from matchlens.report.sections import section_latex
from matchlens.results import Result

WORDS = {
    "mass": "attention mass",
    "norm_mass": "norm mass",
    "same_token": "same-token share",
    "same_stem": "same-stem share",
    "peak": "largest attention",
    "entropy": "entropy (nats)",
}
MINUS = " \N{MINUS SIGN} "
SPECIAL = ("CLS", "SEP1", "SEP2")


def attention_files(result: Result) -> dict[str, str | bytes]:
    """The study's text and figures, file name to content.

    Args:
        result: what :func:`matchlens.attention` returned.
    """
    files: dict[str, str | bytes] = {
        "attention/attention.txt": attention_text(result),
        "attention/matching.tex": section_latex(main_table(result), title_of(result)),
    }
    for name, figure in attention_figures(result):
        for ending, content in figures.render(figure).items():
            files[f"attention/figures/{name}.{ending}"] = content
    return files


def attention_figures(result: Result) -> Iterator[tuple[str, Figure]]:
    """The figures by name, Figure 1b first, each drawn when it is asked for.

    Args:
        result: what :func:`matchlens.attention` returned.
    """
    contrasts = result.to_frame("contrasts")
    first = str(contrasts["contrast"].iloc[0])
    for contrast in dict.fromkeys(contrasts["contrast"]):
        ending = "" if contrast == first else f"-{contrast}"
        yield from _figure_1b(contrasts, str(contrast), ending)
    for direction in ("Q->D", "D->Q"):
        yield from _figure_1c(contrasts, first, direction)
    yield from _distributions(result)
    yield "no-op", _noop(result)
    if "same_stem" in result.tables.get("lexical", ()):
        table = result.to_frame("lexical")
        table = pd.DataFrame(table[table["direction"].isin(["Q->D", "D->Q"])])
        table = table.rename(
            columns={"direction": "panel", "class": "series", "same_stem": "value"}
        )
        yield "lexical", figures.layer_profile(table, quantity="same-stem share of the mass")
    if "set_points" in result.tables and len(result.tables["set_points"]):
        table = result.to_frame("set_points")
        own = result.to_frame("sets").set_index("set")["p_random"]
        table["p_random"] = [own.get(name) for name in table["set"]]
        measure = str(result.options["measure"])
        yield "sets", figures.set_effects(table, measure=measure)


def _of(contrasts: pd.DataFrame, meter: str, contrast: str, direction: str) -> pd.DataFrame:
    mine = (
        (contrasts["meter"] == meter)
        & (contrasts["contrast"] == contrast)
        & (contrasts["direction"] == direction)
    )
    return pd.DataFrame(contrasts[mine]).reset_index(drop=True)


def _figure_1b(contrasts: pd.DataFrame, contrast: str, ending: str) -> Iterator[tuple[str, Figure]]:
    words = contrast.replace("-", MINUS)
    sides = {name: _of(contrasts, "mass", contrast, name) for name in ("Q->D", "D->Q")}
    table = pd.DataFrame(sides["Q->D"][["layer", "head"]])
    for name, key in (("Q->D", "x"), ("D->Q", "y")):
        table[key] = sides[name]["diff"]
        table[f"{key}_star"] = sides[name]["q"] <= 0.05
    yield (
        f"1b{ending}",
        figures.head_scatter(
            table,
            x="x",
            y="y",
            x_words=f"Q→D mass, {words}",
            y_words=f"D→Q mass, {words}",
            x_significant="x_star",
            y_significant="y_star",
        ),
    )
    for name, one in sides.items():
        shown = one.assign(significant=one["q"] <= 0.05).dropna(subset=["diff"])
        if len(shown):
            label = f"{name.replace('->', '→')} attention mass, {words}"
            figure = figures.head_map(pd.DataFrame(shown), words=label, note=ATTENTION_NOTE)
            yield f"1b-{name.replace('->', '-')}{ending}", figure


def _figure_1c(
    contrasts: pd.DataFrame, contrast: str, direction: str
) -> Iterator[tuple[str, Figure]]:
    known = set(contrasts["meter"])
    if "entropy" not in known:
        return
    across = "peak" if "peak" in known else "mass"
    words = contrast.replace("-", MINUS)
    table = pd.DataFrame(_of(contrasts, across, contrast, direction)[["layer", "head"]])
    table["x"] = _of(contrasts, across, contrast, direction)["diff"]
    table["y"] = _of(contrasts, "entropy", contrast, direction)["diff"]
    colour = ""
    if "same_token" in known:
        colour = "same_token"
        table[colour] = _of(contrasts, "same_token", contrast, direction)["diff"]
    arrow = direction.replace("->", "→")
    yield (
        f"1c-{direction.replace('->', '-')}",
        figures.head_scatter(
            table,
            x="x",
            y="y",
            x_words=f"{arrow} {WORDS[across]}, {words}",
            y_words=f"{arrow} entropy (nats), {words}",
            colour=colour,
            colour_words=f"same-token share, {words}" if colour else "",
        ),
    )


def _distributions(result: Result) -> Iterator[tuple[str, Figure]]:
    table = result.to_frame("distributions")
    if table.empty:
        return
    for direction, group in table.groupby("direction", sort=False):
        keys = ["layer", "head", "direction"]
        separation = pd.DataFrame(group[[*keys, "auc", "ks"]]).drop_duplicates(subset=keys)
        figure = figures.class_distributions(
            pd.DataFrame(group),
            pd.DataFrame(separation),
            quantity=f"{str(direction).replace('->', '→')} attention mass",
            width="page",
        )
        yield f"1c-distributions-{str(direction).replace('->', '-')}", figure


def _noop(result: Result) -> Figure:
    table = result.to_frame("noop")
    rows = []
    for kind, words in (("mass", "mass"), ("norm", "norm mass")):
        if f"{kind}_CLS" not in table:
            continue
        for part in SPECIAL:
            for layer, group in table.groupby("layer"):
                share = group[f"{kind}_{part}"]
                rows.append(
                    {
                        "panel": words,
                        "layer": layer,
                        "series": part,
                        "value": share.mean(),
                        "low": share.quantile(0.25),
                        "high": share.quantile(0.75),
                    }
                )
    return figures.layer_profile(pd.DataFrame(rows), quantity="share of what Q and D read")

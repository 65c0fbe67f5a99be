"""What the circuits study found, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd

from matchlens.qk import CONTRASTS
from matchlens.report.numbers import columns, note_lines, printed
from matchlens.results import Result, records
from matchlens.studies.circuits import COMPANIONS, VARIANTS, colour_of, most_aligned
from matchlens.studies.contrasts import Thresholds

FAR = 3.0
"""Standard deviations of a null beyond which an alignment is no chance."""
SHOWN = 12
"""Heads in the text's table, at most."""
PAIRS = 8
"""Token pairs a head in the text, at most."""
ARROWS: Mapping[str, str] = {"QD": "Q->D", "DQ": "D->Q", "QQ": "Q->Q", "DD": "D->D"}
"""Reading directions as the other studies write them."""
VARIANT_WORDS: Mapping[str, str] = {
    "all": "alignment, trace(A)",
    "positive": "alignment, u·v > 0 only",
    "above": "alignment, u·v > 0.3 only",
}


def circuits_text(result: Result) -> str:
    """Figure 2's associations, the most aligned heads, the hypothesis, what heads match.

    Args:
        result: what :func:`matchlens.circuits` returned.
    """
    lines = [
        title_of(result),
        *_associations(result),
        *_aligned(result),
        *_hypothesis(result),
        *_matches(result),
        "",
        *note_lines(result),
    ]
    return "\n".join(lines) + "\n"


def title_of(result: Result) -> str:
    """Of which model and pairs.

    Args:
        result: what :func:`matchlens.circuits` returned.
    """
    model, pairs = result.identity["model"], result.identity["pairs"]
    assert isinstance(model, Mapping)  # noqa: S101
    assert isinstance(pairs, Mapping)  # noqa: S101
    sources = ", ".join(str(source["collection"]) for source in pairs["sources"])
    return f"Query-key circuits of {model['name']} on {sources}: {pairs['number']} pairs"


def logit_words(result: Result) -> str:
    """How the logits of the means were computed, in words."""
    weights = "weights and biases" if result.options["biases"] else "weights only"
    return f"{weights}, {'divided' if result.options['divided'] else 'not divided'} by sqrt(d_h)"


def prose(text: str, indent: str = "") -> list[str]:
    """A sentence in lines of at most 100 characters, each behind the indent."""
    return textwrap.wrap(
        text, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _associations(result: Result) -> list[str]:
    contrast = str(result.options["contrast"])
    lines = [
        "",
        *prose(
            f"Figure 2: {VARIANT_WORDS[str(result.options['variant'])]}, against contrasts of the "
            f"mean tokens' logits ({logit_words(result)})"
        ),
        *(f"  {name}: {CONTRASTS[name]}" for name in (contrast, COMPANIONS[contrast])),
        "  colour: attention mass of the contrast's first reader, relevant less easy passages",
        "",
    ]
    body = [["Spearman over heads", "rho", "95% (heads)", "95% (queries)", "layers alone", "p"]]
    for row in records(result.to_frame("associations")):
        name = str(row["contrast"])
        words = {"contrast": name, "colour": f"{ARROWS[name[:2]]} colour", "alignment": "alignment"}
        low, high = (printed(row[key], 2) for key in ("low", "high"))
        first, last = (printed(row.get(key), 2) for key in ("query_low", "query_high"))
        cells = [printed(row["rho"], 2), f"[{low}, {high}]", f"[{first}, {last}]"]
        cells.append(printed(row["by_layer"], 2))
        couple = f"{words[str(row['first'])]} and {words[str(row['second'])]}"
        body.append([couple, *cells, printed(row["p"], 4)])
    return [
        *lines,
        *columns(body),
        "",
        "p: permutations inside layers, uncorrected; layers alone: the mean under them. 95%: heads",
        "drawn anew inside their layers; queries drawn anew, on which contrast and colour depend.",
    ]


def _aligned(result: Result) -> list[str]:
    heads, options = result.to_frame("heads"), result.options
    contrast, variant = str(options["contrast"]), str(options["variant"])
    column = VARIANTS[variant]
    far = [int((heads[key].to_numpy() >= FAR).sum()) for key in ("z", "rotation_z", "crossed_z")]
    below = int((heads["z"].to_numpy() <= -FAR).sum())
    first = most_aligned(heads, variant, SHOWN)
    by_name = heads.set_index(["layer", "head"])
    based = "base_alignment" in heads
    names = ["head", "alignment", "/null sd", "/rotation", "/crossed", "trace/sum s"]
    colour = colour_of(contrast)
    names += [contrast, COMPANIONS[contrast], ARROWS[contrast[:2]], "q"]
    names += ["before", "change"] if based else []
    body = [names]
    for layer, head in first:
        row = by_name.loc[(layer, head)]
        cells = [(column, 1), ("z", 1), ("rotation_z", 1), ("crossed_z", 1), ("normalised", 2)]
        cells += [(contrast, 1), (COMPANIONS[contrast], 1), (colour, 3), (f"{colour}_q", 3)]
        cells += [("base_alignment", 1), ("base_change", 1)] if based else []
        body.append([f"{layer}.{head}", *(printed(float(row[key]), n) for key, n in cells)])
    lines = [
        "",
        *prose(
            f"Alignment against chance: of {len(heads)} heads, {far[0]} lie {FAR:g} standard "
            f"deviations or more above random Gaussian factors ({below} below), {far[1]} above "
            f"random singular vectors, {far[2]} above crossed heads of their layer"
        ),
        "",
        *columns(body),
        "",
        *_standing(heads, contrast, column),
    ]
    if based:
        before = options["base"]
        assert isinstance(before, Mapping)  # noqa: S101
        lines.append(f"before: the same head of {before['name']}; change: since then.")
    return lines


def _standing(heads: pd.DataFrame, contrast: str, column: str) -> list[str]:
    """Whether heads whose attention tells relevant from easy stand to the upper right."""
    limits, colour = Thresholds(), colour_of(contrast)
    tells = (heads[f"{colour}_q"] <= limits.q) & (heads[f"{colour}_auc"] >= limits.auc)
    tells &= heads[colour] > 0
    mine = tells.to_numpy(dtype=bool)
    right = ((heads[contrast] > 0) & (heads["z"] >= FAR)).to_numpy(dtype=bool)
    said = (
        f"{mine.sum()} heads read {ARROWS[contrast[:2]]} more in relevant than in easy passages "
        f"(q <= {limits.q}, AUC >= {limits.auc}, on the half that colours)"
    )
    if not mine.any() or mine.all():
        return prose(f"{said}.")
    (up, number, middle), (up_others, others, middle_others) = (
        (int(right[rows].sum()), int(rows.sum()), float(np.median(heads[column].to_numpy()[rows])))
        for rows in (mine, ~mine)
    )
    return prose(
        f"{said}: {up} of {number} stand to the upper right (contrast above 0, alignment {FAR:g} "
        f"null standard deviations or more), of the other heads {up_others} of {others}; median "
        f"alignment {printed(middle, 1)} against {printed(middle_others, 1)}."
    )


def _hypothesis(result: Result) -> list[str]:
    logits = result.to_frame("logits")
    body = [["", "matching", "cross", "biases", "constant", "near 0"]]
    for direction in dict.fromkeys(logits["direction"]):
        mine = pd.DataFrame(logits[logits["direction"] == direction])
        middle = [
            printed(float(np.nanmedian(mine[key].to_numpy(dtype=float))), 2)
            for key in ("matching", "cross", "biases", "constant")
        ]
        near = f"{np.count_nonzero(mine['holds'].to_numpy())} of {len(mine)}"
        body.append([ARROWS[str(direction)], *middle, near])
    cross = result.options["cross"]
    return [
        "",
        f"The hypothesis: shares of the logits' variance ({result.options['pairs_of_hypothesis']} "
        "pairs), medians over heads",
        "",
        *columns(body),
        "",
        *prose(
            f"near 0: heads in which the share of each cross term, which the paper takes for 0, is "
            f"at most {cross} either way. constant: apart, constant^2 / mean(logit^2)."
        ),
    ]


def _matches(result: Result) -> list[str]:
    if "vocabulary" not in result.tables:
        return []
    heads = result.to_frame("heads").set_index(["layer", "head"])
    matches = result.to_frame("matches")
    contextual = "same_token_QD" in heads
    lines = [
        "",
        "What heads match in the vocabulary: the strongest pairs (query token -> document token)",
        "",
    ]
    for row in records(result.to_frame("vocabulary")):
        layer, head = row["layer"], row["head"]
        mine = matches[(matches["layer"] == layer) & (matches["head"] == head)].head(PAIRS)
        pairs = ", ".join(
            str(one["reader"])
            if one["reader"] == one["read"]
            else f"{one['reader']}->{one['read']}"
            for one in records(pd.DataFrame(mine))
        )
        said = f"itself the best match for {printed(row['self_rate'], 3)} of {row['tokens']} tokens"
        if contextual:
            share = float(heads.loc[(layer, head), "same_token_QD"])  # type: ignore[arg-type]
            said += f"; same-token share in context {printed(share, 2)}"
        lines += [f"{layer}.{head}: {said}", *prose(pairs, indent="  ")]
    return lines

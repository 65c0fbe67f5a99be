"""The paper's own setting and numbers, beside those of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from matchlens.errors import InputError
from matchlens.parts import DECODER, Part
from matchlens.results import Result, records
from matchlens.studies.claims.decisions import number

NAME = "wexir25"
MODEL = "castorini/monobert-large-msmarco"
MODEL_WORDS = "MonoBERT-large (24 layers of 16 heads)"
DATASETS = (
    "msmarco-passage/trec-dl-2019/judged",
    "msmarco-passage/trec-dl-2020/judged",
    "msmarco-passage-v2/trec-dl-2021/judged",
    "msmarco-passage-v2/trec-dl-2022/judged",
)
PRESET = "paper"
MEASURE = "nDCG@10"


@dataclass(frozen=True)
class Printed:
    """The numbers that the paper prints in a cell."""

    low: float
    high: float
    star: bool

    @property
    def words(self) -> str:
        """The cell as text.

        >>> Printed(0.66, 0.66, True).words, Printed(0.78, 0.82, False).words
        ('.66*', '.78 to .82')
        """
        ends = [f"{value:.2f}".removeprefix("0") for value in (self.low, self.high)]
        text = ends[0] if self.low == self.high else " to ".join(ends)
        return f"{text}{'*' if self.star else ''}"


OTHER = Printed(0.78, 0.82, False)
"""Every cell of Table 1 that is not named below."""
CELLS: Mapping[str, Printed] = {
    "": Printed(0.81, 0.81, False),
    "random": Printed(0.48, 0.48, False),
    "CLS->All": Printed(0.48, 0.48, True),
    "Q->All": Printed(0.66, 0.66, True),
    "D->All": Printed(0.62, 0.62, True),
    "D->D": Printed(0.67, 0.67, True),
}
"""Vast et al. 2025, Table 1 (nDCG@10, TREC DL 2019 to 2022)."""


def beside_the_paper(ablation: Result) -> Result:
    """Table 1 of a study beside the paper's.

    Returns:
        The table ``comparison``, a row for each cell: cut, paper (as text), paper_low,
        paper_high, paper_star, ours, difference (ours minus the nearest number the paper allows; 0
        inside its range), drop_paper and drop_ours (share of the original that is lost; from the
        middle of the paper's range), star (unpaired, uncorrected, as the paper's), star_agrees,
        star_holm.

    Source: Vast et al. 2025, Table 1.
    """
    from matchlens.studies.presets import table1

    rows = {str(row["cut"]): row for row in records(ablation.to_frame("table1"))}
    decoder = f"{DECODER}->{DECODER}" in rows  # DEC is in CLS's place
    names = {cut: cut.replace(str(Part.CLS), DECODER) if decoder else cut for cut in table1()}
    if lacking := [cut for cut in names.values() if cut not in rows]:
        raise InputError(
            f"the ablation lacks the cut {lacking[0]!r}; expected the 30 cells of Table 1: run it "
            "with preset 'paper' and without cuts of its own"
        )
    out = []
    original = float(str(rows[""]["mean"]))
    for cut, name in {"": "", "random": "random", **names}.items():
        printed, row = CELLS.get(cut, OTHER), rows[name]
        possible = row["mean"] is not None
        ours = float(str(row["mean"])) if possible else float("nan")
        below = min(ours - printed.low, 0.0) if possible else float("nan")
        apart = ours - printed.high if ours > printed.high else below
        tested = possible and cut not in ("", "random")
        star = bool(row["significant_paper"])
        out.append(
            {
                "cut": name,
                "paper": printed.words,
                "paper_low": printed.low,
                "paper_high": printed.high,
                "paper_star": printed.star,
                "ours": ours,
                "difference": apart,
                "drop_paper": 1 - (printed.low + printed.high) / 2 / CELLS[""].low,
                "drop_ours": 1 - ours / original if original else float("nan"),
                "star": star if tested else None,
                "star_agrees": star == printed.star if tested else None,
                "star_holm": bool(row["significant"]) if tested else None,
            }
        )
    table = pd.DataFrame(out)
    for name in ("star", "star_agrees", "star_holm"):
        table[name] = table[name].astype("boolean")
    return Result(
        NAME,
        ablation.identity,
        {"measure": ablation.options["measure"], "preset": ablation.options["preset"]},
        tuple(honestly(ablation)),
        ablation.pairs,
        pd.DataFrame(ablation.scores[ablation.scores["cut"] == ""]),
        {"comparison": table},
    )


def honestly(ablation: Result) -> list[str]:
    """What differs between the paper's setting and the study's, in sentences."""
    model, pairs = ablation.identity["model"], ablation.identity["pairs"]
    assert isinstance(model, Mapping)  # noqa: S101
    assert isinstance(pairs, Mapping)  # noqa: S101
    shape = f"{ablation.options['layers']} layers of {ablation.options['heads']} heads"
    notes = []
    other = f"another model: {model['name']} ({model['type']}, {shape}) instead of {MODEL_WORDS}"
    notes.append(f"the model is the paper's, {MODEL}" if model["name"] == MODEL else other)
    names = [str(source["collection"]) for source in pairs["sources"]]
    shared = [name for name in names if name in DATASETS]
    ranked = {
        (str(row["collection"]), row["qid"])
        for row in records(ablation.pairs)
        if number(row, "grade") >= 0
    }
    numbers = Counter(collection for collection, _ in ranked)
    counts = ", ".join(
        f"{name} ({numbers[name]} {'query' if numbers[name] == 1 else 'queries'})"
        for name in dict.fromkeys(names)
    )
    if len(shared) == len(DATASETS) == len(names):
        notes.append(f"the collections are the paper's: {counts}")
    else:
        notes.append(
            f"other collections: {counts} instead of TREC DL 2019 to 2022"
            + (f"; {len(shared)} of its 4 are among them" if shared else "")
        )
    if ablation.options["measure"] != MEASURE:
        notes.append(f"another measure: {ablation.options['measure']} instead of {MEASURE}")
    if model["max_length"] != 512:
        notes.append(f"pairs of at most {model['max_length']} tokens instead of 512")
    if (dtype := model["dtype"]) != "float32":
        notes.append(f"weights in {dtype}")
    return notes

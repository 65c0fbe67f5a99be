"""The conclusions from a results folder: claims, headline numbers, results.json, the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from matchlens.arguments import typed
from matchlens.errors import InputError
from matchlens.ranking.effects import MARGIN, check_margin
from matchlens.report.views.ablation import costliest
from matchlens.report.views.study import latex, text
from matchlens.results import Result, read_manifest, records, to_json
from matchlens.saving import locked
from matchlens.studies.claims.claims import claims, headline, summary

NAME = "study"
FORMAT = 1
OTHERS = (NAME, "comparison", "wexir25")
"""Results in a folder that derive from the others."""
MODEL = ("name", "sha256", "type", "dtype", "max_length")


def load_studies(folder: str | Path) -> dict[str, Result]:
    """Load the results of a folder's studies, in the order in which they were run."""
    results = Result.load_all(folder, without=OTHERS)
    if not results:
        raise InputError(
            f"{str(folder)!r} holds no study; expected a folder that a study was written to, for "
            "example by matchlens ablation --out DIR"
        )
    return results


def conclude(
    folder: str | Path, *, margin: float | None = None, about: Mapping[str, object] | None = None
) -> Result:
    """Decide the claims and gather the headline numbers of a results folder, from its tables alone.

    Args:
        folder: a results folder.
        margin: share of (original - random), query by query, that counts as no change; what the
            folder says, else .06, where None.
        about: what the manifest says of the study; what it says already where None.

    Returns:
        The result ``study`` with its tables ``claims``, ``headline`` and ``summary`` and its
        texts; it is not saved.

    Raises:
        InputError: if the folder cannot be read, or the margin is not between 0 and 1.
    """
    results = load_studies(folder)
    before = read_manifest(Path(folder))["studies"].get(NAME, {}).get("options", {})
    options = dict(before if about is None else about)
    if margin is None:
        margin = float(str(before.get("margin", MARGIN)))
    check_margin(margin)
    options["margin"] = margin
    decided = claims(results, margin=margin)
    first = next(iter(results.values()))
    result = Result(
        NAME,
        first.identity,
        options,
        (f"changes within {margin:.0%} of (original - random) count as none in the claims",),
        first.pairs,
        pd.DataFrame(first.scores[first.scores["cut"] == ""]),
        {"claims": decided},
    )
    numbers = headline({**results, NAME: result})
    sentences = summary(results, decided)
    if "ablation" in results and (costs := costliest(results["ablation"])):
        row = pd.DataFrame({"kind": ["first"], "sentence": [costs]})
        sentences = pd.concat([row, sentences], ignore_index=True)
    result.tables = {"claims": decided, "headline": numbers, "summary": sentences}
    result.texts = {
        "results.json": to_json(as_json(result, results)),
        f"{NAME}/claims.txt": text(result),
        f"{NAME}/claims.tex": latex(result),
    }
    return result


@typed
def write_report(
    folder: str | Path, *, margin: float | None = None, command: Mapping[str, object] | None = None
) -> Path:
    """Rebuild a results folder's claims, ``results.json`` and page from its stored tables.

    Args:
        folder: a results folder that holds one study or more.
        margin: share of (original - random) that counts as no change in the claims; as before
            where None.
        command: what the manifest keeps of the command that asked for it.

    Returns:
        The page's path, ``report.html``.

    Raises:
        InputError: if the folder is in use, or cannot be read or written.

    >>> import tempfile
    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=4, per_grade=1)
    >>> out = tempfile.TemporaryDirectory()
    >>> _ = matchlens.ablation(matchlens.load("demo"), pairs, cuts=["Q->D"]).save(out.name)
    >>> matchlens.write_report(out.name).name
    'report.html'
    """
    from matchlens.report import page

    read_manifest(folder)  # a folder that holds no results is not locked
    with locked(folder):
        result = conclude(folder, margin=margin)
        result.command = command or {}
        result.save(folder)
        return page.write(Path(folder))


def as_json(result: Result, results: Mapping[str, Result]) -> dict[str, object]:
    """Return the content of ``results.json``; its schema stands in ``results.schema.json``."""
    identity: Mapping[str, Any] = result.identity
    model, pairs, versions = (identity[key] for key in ("model", "pairs", "versions"))
    return {
        "format": FORMAT,
        "matchlens": versions["matchlens"],
        "model": {key: model[key] for key in MODEL},
        "pairs": {
            "number": pairs["number"],
            "queries": len(result.pairs[["collection", "qid"]].drop_duplicates()),
            "sha256": pairs["sha256"],
            "collections": [str(source["collection"]) for source in pairs["sources"]],
        },
        "studies": {
            name: {"notes": list(study.notes), "seed": study.options.get("seed")}
            for name, study in results.items()
        },
        "summary": [str(row["sentence"]) for row in records(result.tables["summary"])],
        "claims": records(result.tables["claims"]),
        "headline": records(result.tables["headline"]),
    }

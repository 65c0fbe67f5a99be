"""A whole results folder of a tiny model, whose texts, ids and names are hostile."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

import matchlens
import tiny
from matchlens.corpora import EASY_GRADE, Pair, PairSet
from matchlens.results import Result
from matchlens.studies.attention.contrasts import Thresholds
from matchlens.studies.claims.claims import claims, summary

SCRIPT = "<script>window.hurt=1</script>"
IMAGE = '"><img src=x onerror="window.hurt=2">'
BREAK = "</script><script>window.hurt=3</script><!--"
TEMPLATE = "{{ 7*7 }}{% raw %}${alert(1)}"
TURN = "abc\u202egnp.exe\u2066"
NULS = "a\x00b\x07c\x9b\ufeff\u2028d"
ATTRIBUTE = "x' onfocus='window.hurt=4' autofocus='\" onmouseover=\"window.hurt=5"
FORMULA = '=HYPERLINK("http://example.org")'
HOSTILE = (SCRIPT, IMAGE, BREAK, TEMPLATE, TURN, NULS, ATTRIBUTE, FORMULA)
LONG = "w" * 100_000
MODEL = "m<svg onload=window.hurt=6>"
COLLECTION = "c<iframe srcdoc='<script>parent.hurt=7</script>'>"
IDS = (0, 1, 2, 3, 4, 8, 10, 13)
"""Numbers of queries of which four fall into each half."""
GRADES = (3, 2, 0, 0, 1, EASY_GRADE, EASY_GRADE)


def pairs(queries: int = 8) -> PairSet:
    """Queries with passages of every class, hostile in every field that is shown."""
    words = tiny.WORDS
    made = []
    for q in range(queries):
        query = f"{words[q]} {words[q + 1]} {HOSTILE[q % len(HOSTILE)]}"
        for k, grade in enumerate(GRADES):
            nasty = HOSTILE[(q + k) % len(HOSTILE)]
            others = " ".join((*HOSTILE[q:], *HOSTILE[:q]))
            mine = [words[q], words[q + 1]] if grade > 1 else [words[q]] if grade == 0 else []
            text = " ".join([*mine, words[(3 * q + 5 * k) % len(words)], *mine, others])
            if grade == 3:
                text += f" {LONG}"
            docid = f"d{q}.{k}{nasty[:30]}"
            made.append(
                Pair(f"q{IDS[q]}{SCRIPT}", docid, query, text, grade, collection=COLLECTION)
            )
    ideals: dict[tuple[str, str], tuple[int, ...]] = {}
    for pair in made:
        if pair.grade != EASY_GRADE:
            key = (pair.collection, pair.qid)
            ideals[key] = (*ideals.get(key, ()), pair.grade)
    ordered = {key: tuple(sorted(grades, reverse=True)) for key, grades in ideals.items()}
    sampling = {"candidates": "per_grade", "per_grade": 2, "easy": 2, "seed": 0, "ideal": "sample"}
    source = {"collection": COLLECTION, "topics": {"file": f"{IMAGE}.tsv"}}
    return PairSet(tuple(made), ordered, sampling, {"pairs": len(made)}, (source,))


def write(folder: Path, where: Path) -> Path:
    """Every study on them, saved into one folder.

    Args:
        folder: the results folder.
        where: where the model is saved.
    """
    saved = tiny.save(where / MODEL, layers=2, heads=4)
    model = matchlens.load(saved, device="cpu")
    given = pairs()
    found = [
        matchlens.ablation(model, given),
        matchlens.sweep(model, given, "up-to", directions=["Q->D", "D->Q", "D->D"]),
        matchlens.sweep(model, given, "from", directions=["CLS->{Q,D}"]),
        matchlens.sweep(model, given, "heads"),
        matchlens.controls(model, given, ["Q->D", "D->D"], draws=1),
        matchlens.attention(model, given, thresholds=Thresholds(q=1.0, auc=0.4, length=1.0)),
        matchlens.circuits(model, given, top=2, matches=4),
    ]
    by = {result.study: result for result in found}
    scored = by["ablation"].scores
    matching = by["attention"].to_frame("matching")
    found.append(matchlens.look(model, given, looks=4, scored=scored, matching=matching))
    for result in found:
        result.save(folder)
    judged = claims(by)
    judged.loc[0, "found"] = f"{judged.loc[0, 'found']} {SCRIPT}"
    study = replace(
        found[0],
        study="study",
        tables={"claims": judged, "summary": summary(by, judged)},
        scores=scored.iloc[:0],
        options={"size": "default"},
        notes=(f"a note with {IMAGE}",),
    )
    study.save(folder)
    return folder


def without(folder: Path, target: Path, *studies: str) -> Path:
    """A copy of a results folder that holds only some studies."""
    for name in studies:
        Result.load(folder, name).save(target)
    return target


def frame(folder: Path, study: str, table: str) -> pd.DataFrame:
    """A stored table."""
    return pd.read_parquet(folder / study / f"{table}.parquet")


@cache
def made(where: Path) -> Path:
    """The folder, written once a run of the tests, whatever the number of its processes.

    Args:
        where: the folder for temporary files of this process.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        where = where.parent  # of all processes
    with (where / "page-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (where / "page-results").exists():
            (where / "page-model").mkdir()
            write(where / "page-half", where / "page-model").rename(where / "page-results")
    return where / "page-results"

"""The first and the last section: questions, findings and claims; how the folder was made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matchlens.corpora import EASY_GRADE
from matchlens.report.exhibits import notes_of
from matchlens.report.results_folder import ResultsFolder, Row, listed_mappings
from matchlens.report.table import stored
from matchlens.report.texts import (
    NONE,
    chance,
    counted,
    interval,
    listed,
    model_name,
    num,
    number,
    prose,
    shown,
    spelled,
)
from matchlens.report.views.ablation import costliest

PLACES: Mapping[str, str] = {
    "ablation": "table-1",
    "sweep-up-to": "figure-1a",
    "sweep-from": "figure-1a",
    "sweep-heads": "heads",
    "controls": "controls",
    "screen": "screen",
    "attention": "figure-1b",
    "attention/noop": "no-op",
    "attention/lexical": "lexical",
    "attention/stages": "lexical",
    "attention/negatives": "lexical",
    "attention/matching": "matching",
    "circuits": "figure-2",
    "circuits/logits": "hypothesis",
}
"""Where on the page a study's or a table's numbers stand."""
VERDICTS = {"holds": ("✓", "yes"), "does not hold": ("✗", "no")}
ORDER = (
    *("table-1", "figure-1a", "figure-1b", "no-op", "lexical", "matching", "figure-2"),
    "controls",
)
"""The exhibits whose first sentences stand in for a summary."""
PAPER = (
    "Vast, Van Cooten, Soulier, Piwowarski: Understanding Matching Mechanisms in Cross-Encoders. "
    "WExIR at SIGIR 2025, arXiv 2507.14604."
)
MOST = 120
"""Lines of a list that are shown at most."""
_CLAIMS = (
    "id claim verdict value low high unit n n_of p p_holm needed draws agreement found definition "
    "source"
)


def opening(folder: ResultsFolder, leads: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the page's opening, from the study's summary, else from the exhibits."""
    model = model_name(folder.model)
    alone = set(folder.studies) - {"study"} == {"explain"}
    names = [shown(name, 80) for name in folder.collections]
    title = f"Why {model} ranks A above B"
    title = title if alone else f"How {model} matches queries and documents"
    sentences: dict[object, list[str]] = {"first": [], "asked": [], "found": []}
    for row in folder.rows("study", "summary"):
        sentences.setdefault(row["kind"], []).append(prose(row["sentence"]))
    ablation = folder.get("ablation")
    if not sentences["first"] and ablation is not None and folder.rows("ablation", "table1"):
        sentences["first"] = [prose(costliest(ablation))]
    first = [
        sentence
        for name in ORDER
        for sentence in leads.get(name, ())[: 2 if name == "table-1" else 1]
    ]
    nothing = ["No study in this folder has a table that this page knows."]
    claims = folder.rows("study", "claims")
    absent = "The paper's claims were not judged here (matchlens study does that)."
    subject = model if names or not alone else ""
    return {
        "title": title,
        "sentence": next(filter(None, sentences["first"]), title),
        "subject": f"{subject} on {listed(names)}" if names else subject,
        "facts": _facts(folder),
        "run": sentences["asked"]
        or _run(folder, model, listed(names or ["an unnamed collection"])),
        "found": sentences["found"] or first or nothing,
        "claims": list(map(_claim, claims)),
        "tables": [stored("claims", "The claims", claims, _CLAIMS)] if claims else [],
        "absent": "" if claims else absent,
    }


def _claim(row: Row) -> Mapping[str, object]:
    verdict, n = shown(row["verdict"], 40), row.get("n")
    sign, kind = VERDICTS.get(verdict, ("?", "open"))
    p, holm = row.get("p"), row.get("p_holm")
    corrected = "" if holm is None else f", {chance(holm)} by Holm over the claims"
    names = re.split(r"[,;]\s*|\s+and\s+", shown(row.get("source") or "", 200))
    sources = [name.strip() for name in names if name.strip()]
    return {
        "claim": prose(row["claim"]),
        "verdict": verdict,
        "sign": sign,
        "kind": kind,
        "value": num(row.get("value"), 3 if number(row.get("value")) % 1 else 0),
        "interval": interval(row.get("low"), row.get("high"), 3),
        "unit": shown(row.get("unit") or "", 60),
        "n": "" if n is None else f"{int(number(n)):,} {shown(row.get('n_of') or '', 40)}",
        "p": "" if p is None else f"{chance(p)} uncorrected{corrected}",
        "found": prose(row.get("found") or ""),
        "agreement": shown(row.get("agreement") or "", 120),
        "definition": prose(row.get("definition") or ""),
        "sources": [(name, _place(name)) for name in sources],
    }


def _place(source: str) -> str:
    """The exhibit that shows a table; empty where none does."""
    return PLACES.get(source) or PLACES.get(source.partition("/")[0], "")


def _measure(folder: ResultsFolder) -> tuple[str, str, str, str] | None:
    """The measure with the original and the random ranking, the ablation's where it was run.

    Last stands of how many pairs these are, where a study ranked fewer than there are.
    """
    for name, result in {"ablation": folder.get("ablation"), **folder.studies}.items():
        original, random = (folder.option(name, key) for key in ("original", "random"))
        if result is None or original is None:
            continue
        digits, measure = folder.digits(name), folder.option(name, "measure") or "the measure"
        run, ranked = folder.option(name, "pairs_run"), len(result.pairs)
        if "grade" in result.pairs and not folder.option(name, "rank_easy"):
            ranked = int((result.pairs["grade"] != EASY_GRADE).sum())
        few = isinstance(run, int) and run < ranked
        of = f"{run:,} of {counted(ranked, 'pair')}" if few else ""
        return shown(measure, 40), num(original, digits), num(random, digits), of
    return None


def _facts(folder: ResultsFolder) -> tuple[tuple[str, str], ...]:
    facts: list[tuple[str, str]] = []
    queries, pairs = _queries(folder), folder.about("pairs").get("number")
    facts += [("queries", f"{queries:,}")] if queries else []
    facts += [("pairs", f"{pairs:,}")] if isinstance(pairs, int) else []
    layers, heads = (
        next((folder.option(n, key) for n in folder.studies if folder.option(n, key)), None)
        for key in ("layers", "heads")
    )
    facts += [("layers × heads", f"{layers} × {heads}")] if layers and heads else []
    if (measure := _measure(folder)) is not None:
        of = f" ({measure[3]})" if measure[3] else ""
        facts += [
            (f"{measure[0]}, original{of}", measure[1]),
            (f"random ranking{of}", measure[2]),
        ]
    return tuple(facts)


def _queries(folder: ResultsFolder) -> int:
    frames = [
        result.pairs
        for result in folder.studies.values()
        if {"collection", "qid"} <= set(result.pairs)
    ]
    return len(frames[0][["collection", "qid"]].drop_duplicates()) if frames else 0


def _run(folder: ResultsFolder, model: str, collections: str) -> tuple[str, ...]:
    pairs = folder.about("pairs")
    sentences = [
        f"How does {model} match a query with a document? It was run on {collections}: "
        f"{counted(_queries(folder), 'query')} with "
        f"{counted(number(pairs.get('number') or 0), 'passage')}"
        f"{_sampling(pairs.get('sampling'))}."
    ]
    if (measure := _measure(folder)) is not None:
        on = f", on {measure[3]}" if measure[3] else ""
        sentences.append(
            f"Rankings are measured by {measure[0]}{on}: the untouched model reaches "
            f"{measure[1]}, a random ranking {measure[2]} (expected value)."
        )
    studies = listed([shown(name, 40) for name in folder.studies] or ["none"])
    return (*sentences, f"Studies in this folder: {studies}.")


def _sampling(sampling: object) -> str:
    if not isinstance(sampling, Mapping):
        return ""
    how = {
        "per_grade": f"at most {sampling.get('per_grade')} a grade and query",
        "run": f"the run's top {sampling.get('depth')}",
        "given": "as given",
    }.get(str(sampling.get("candidates")), "all judged ones")
    easy = sampling.get("easy")
    more = f", and {easy} random ones for each query as easy negatives" if easy else ""
    return f" ({how}{more}; seed {sampling.get('seed')})"


def provenance(folder: ResultsFolder, absent: Sequence[str]) -> dict[str, object]:
    """Return what the last section shows: identity, checks, notes, commands, how to cite."""
    versions = folder.about("versions")
    pairs = {key: value for key, value in folder.about("pairs").items() if key != "sources"}
    seeds = {
        str(result.options["seed"])
        for result in folder.studies.values()
        if result.options.get("seed") is not None
    }
    lines = [
        shown(item["line"], 4000)
        for item in listed_mappings(folder.manifest.get("commands"))
        if isinstance(item.get("line"), str)
    ]
    collections = [
        (f"Collection {shown(item.get('collection', ''), 80)}", _flat(item))
        for item in listed_mappings(folder.about("pairs").get("sources"))
    ]
    return {
        "groups": [
            ("Model", _flat(folder.about("model"))),
            ("Pairs", _flat(pairs)),
            *collections,
            ("Versions", _flat(versions)),
        ],
        "checks": _checks(folder),
        "seeds": ", ".join(sorted(seeds)) or "none",
        "truncated": _truncated(folder),
        "absent": absent,
        "notes": [(shown(n, 60), notes_of(result)) for n, result in folder.studies.items()],
        "commands": lines[:MOST],
        "cite": f"matchlens {shown(versions.get('matchlens', '?'), 40)}, report on "
        f"{model_name(folder.model)}.",
        "paper": PAPER,
    }


def _checks(folder: ResultsFolder) -> list[dict[str, object]]:
    """The check's outcomes, equal ones once: the studies that saw them, a row for each question."""
    outcomes: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for name, result in folder.studies.items():
        rows = tuple(_check_rows(result.options.get("check")))
        if rows:
            outcomes.setdefault(rows, []).append(shown(name, 60))
    return [{"studies": ", ".join(names), "rows": rows} for rows, names in outcomes.items()]


def _check_rows(check: object) -> list[tuple[str, ...]]:
    """What was checked, seen, expected, and whether it was right; in any shape."""
    if not isinstance(check, Mapping):
        return [("outcome", shown(spelled(check), 400), "", "")] if check else []
    rows = []
    for name, value in check.items():
        if not (isinstance(value, Mapping) and "what" in value):
            key = shown(str(name).replace("_", " "), 120)
            rows.append((key, shown(spelled(value), 400), "", ""))
            continue
        observed, right = value.get("seen"), value.get("ok")
        verdict = "not tested" if observed is None else "right" if right is True else "wrong"
        spelled_out = NONE if observed is None else shown(spelled(observed), 200)
        rows.append(
            (prose(value["what"]), spelled_out, shown(value.get("expected") or "", 200), verdict)
        )
    return rows


def _truncated(folder: ResultsFolder) -> str:
    for result in folder.studies.values():
        if "truncated" in result.pairs and len(result.pairs):
            count = int(result.pairs["truncated"].to_numpy(dtype=bool).sum())
            return f"{count:,} of {len(result.pairs):,} pairs were cut to the length limit."
    return "The folder does not say how many pairs were cut to the length limit."


def _flat(value: object, path: str = "") -> list[tuple[str, str]]:
    """Nested mappings as names and texts."""
    items: list[tuple[str, object]] = []
    if isinstance(value, Mapping):
        items = [(f"{path}, {key}" if path else str(key), part) for key, part in value.items()]
        items = [(shown(name.replace("_", " "), 120), part) for name, part in items]
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        items = [(f"{path} {place}", part) for place, part in enumerate(value, start=1)]
    elif value is not None or path:
        return [(path or "outcome", shown(spelled(value), 400))]
    return [pair for name, part in items for pair in _flat(part, name)][:MOST]

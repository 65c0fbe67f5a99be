"""The opening: what was asked, what was found, and the claims."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from matchlens.report.page.parts import Column, Table, number
from matchlens.report.page.results_folder import ResultsFolder, Row
from matchlens.report.page.texts import chance, counted, interval, listed, num, prose, shown

PLACES: Mapping[str, str] = {
    "ablation": "table-1",
    "sweep-up-to": "figure-1a",
    "sweep-from": "figure-1a",
    "sweep-heads": "heads",
    "controls": "controls",
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
VERDICTS = {"holds": "✓", "does not hold": "✗", "undecided": "?"}


@dataclass(frozen=True)
class Opening:
    """The page's opening.

    Args:
        title: what the page is about.
        model: the model's name.
        collections: the collections' names.
        facts: name and value, the few numbers to begin with.
        asked: what was asked, in sentences.
        found: what was found, in sentences.
        claims: what each claim shows.
        tables: the claims to download.
        absent: why there are no claims; empty where there are.
    """

    title: str
    model: str
    collections: str
    facts: tuple[tuple[str, str], ...]
    asked: tuple[str, ...]
    found: tuple[str, ...]
    claims: tuple[Mapping[str, object], ...]
    tables: tuple[Table, ...]
    absent: str


def opening(held: ResultsFolder, leads: Mapping[str, tuple[str, ...]]) -> Opening:
    """Sentences from the study's summary, else made here from the tables.

    Args:
        held: the folder.
        leads: what the page's exhibits say, by their id, where there is no summary.
    """
    model = shown(held.model, 120)
    names = [shown(name, 80) for name in held.collections]
    unnamed = "" if set(held.studies) == {"explain"} else "an unnamed collection"
    collections = listed(names or [unnamed])
    summary = held.rows("study", "summary")
    asked = tuple(prose(row["sentence"]) for row in summary if row["kind"] == "asked")
    found = tuple(prose(row["sentence"]) for row in summary if row["kind"] == "found")
    claims = held.rows("study", "claims")
    columns = (
        Column("id", "id", kind="text"),
        Column("claim", "claim", kind="text"),
        Column("verdict", "verdict", kind="text"),
        Column("value", "value", 3),
        Column("low", "95% low", 3),
        Column("high", "95% high", 3),
        Column("unit", "unit", kind="text"),
        Column("n", "n", 0),
        Column("n_of", "of", kind="text"),
        Column("p", "p, uncorrected", kind="p"),
        Column("p_holm", "p, Holm over the claims", kind="p"),
        Column("needed", "queries needed", 0),
        Column("draws", "verdict on each draw", kind="text"),
        Column("agreement", "draws of the sample", kind="text"),
        Column("found", "found", kind="text"),
        Column("definition", "definition", kind="text"),
        Column("source", "source", kind="text"),
    )
    return Opening(
        title=_title(held, model),
        model=model,
        collections=collections,
        facts=_facts(held),
        asked=asked or _asked(held, model, collections),
        found=found or _found(leads),
        claims=tuple(map(_claim, claims)),
        tables=(Table("claims", "The claims", columns, tuple(claims)),) if claims else (),
        absent=""
        if claims
        else "The paper's claims were not judged here (matchlens study does that).",
    )


def _title(held: ResultsFolder, model: str) -> str:
    if set(held.studies) == {"explain"}:
        return f"Why {model} ranks A above B"
    return f"How {model} matches queries and documents"


def _claim(row: Row) -> Mapping[str, object]:
    verdict = shown(row["verdict"], 40)
    n = row.get("n")
    digits = 3 if number(row.get("value")) % 1 else 0
    return {
        "id": shown(row["id"], 80),
        "claim": prose(row["claim"]),
        "verdict": verdict,
        "sign": VERDICTS.get(verdict, "?"),
        "kind": {"holds": "yes", "does not hold": "no"}.get(verdict, "open"),
        "value": num(row.get("value"), digits),
        "interval": interval(row.get("low"), row.get("high"), 3),
        "unit": shown(row.get("unit") or "", 60),
        "n": "" if n is None else f"{int(number(n)):,} {shown(row.get('n_of') or '', 40)}",
        "p": _chances(row),
        "found": prose(row.get("found") or ""),
        "agreement": shown(row.get("agreement") or "", 120),
        "definition": prose(row.get("definition") or ""),
        "sources": [(one, _place(one)) for one in _sources(row)],
    }


def _chances(row: Row) -> str:
    """Both p of a claim, each with its name; empty where nothing was tested."""
    if row.get("p") is None:
        return ""
    holm = row.get("p_holm")
    corrected = "" if holm is None else f", Holm {chance(holm)}"
    return f"{chance(row.get('p'))} uncorrected{corrected}"


def _sources(row: Row) -> list[str]:
    """The tables that a claim is from."""
    names = re.split(r"[,;]\s*|\s+and\s+", shown(row.get("source") or "", 200))
    return [name.strip() for name in names if name.strip()]


def _place(source: str) -> str:
    """The exhibit that shows a table; empty where none does."""
    return PLACES.get(source) or PLACES.get(source.partition("/")[0], "")


def _main(held: ResultsFolder) -> str:
    """The study whose options speak for all: the ablation where it is there."""
    for name in ("ablation", *held.studies):
        if held.option(name, "original") is not None:
            return name
    return ""


def _facts(held: ResultsFolder) -> tuple[tuple[str, str], ...]:
    facts: list[tuple[str, str]] = []
    pairs = held.about("pairs")
    queries = _queries(held)
    if queries:
        facts.append(("queries", f"{queries:,}"))
    if isinstance(pairs.get("number"), int):
        facts.append(("pairs", f"{int(number(pairs['number'])):,}"))
    name = _main(held)
    layers, heads = (_shape(held, key) for key in ("layers", "heads"))
    if layers and heads:
        facts.append(("layers × heads", f"{layers} × {heads}"))
    if name:
        digits = held.digits(name)
        measure = shown(held.option(name, "measure") or "measure", 40)
        facts.append((f"{measure}, original", num(held.option(name, "original"), digits)))
        facts.append(("random ranking", num(held.option(name, "random"), digits)))
    return tuple(facts)


def _shape(held: ResultsFolder, key: str) -> object:
    return next((held.option(n, key) for n in held.studies if held.option(n, key)), None)


def _queries(held: ResultsFolder) -> int:
    frames = [one.pairs for one in held.studies.values() if {"collection", "qid"} <= set(one.pairs)]
    return len(frames[0][["collection", "qid"]].drop_duplicates()) if frames else 0


def _asked(held: ResultsFolder, model: str, collections: str) -> tuple[str, ...]:
    pairs = held.about("pairs")
    said = [
        f"How does {model} match a query with a document? It was asked on {collections}: "
        f"{counted(_queries(held), 'query', 'queries')} with "
        f"{counted(int(number(pairs.get('number') or 0)), 'passage')}"
        f"{_sampling(pairs.get('sampling'))}."
    ]
    name = _main(held)
    if name:
        digits = held.digits(name)
        measure = shown(held.option(name, "measure") or "the measure", 40)
        said.append(
            f"Rankings are measured by {measure}: the untouched model reaches "
            f"{num(held.option(name, 'original'), digits)}, a random ranking "
            f"{num(held.option(name, 'random'), digits)} (expected value)."
        )
    said.append(
        f"Studies in this folder: {listed([shown(n, 40) for n in held.studies] or ['none'])}."
    )
    return tuple(said)


def _sampling(given: object) -> str:
    if not isinstance(given, Mapping):
        return ""
    how = given.get("candidates")
    if how == "per_grade":
        said = f"at most {given.get('per_grade')} a grade and query"
    elif how == "run":
        said = f"the run's top {given.get('depth')}"
    else:
        said = "all judged ones"
    easy = given.get("easy")
    more = f", and {easy} random ones a query as easy negatives" if easy else ""
    return f" ({said}{more}; seed {given.get('seed')})"


def _found(leads: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The first sentences of the exhibits."""
    order = (
        "table-1",
        "figure-1a",
        "figure-1b",
        "no-op",
        "lexical",
        "matching",
        "figure-2",
        "controls",
    )
    said = []
    for name in order:
        said += list(leads.get(name, ()))[: 2 if name == "table-1" else 1]
    return tuple(said) or ("No study in this folder has a table that this page knows.",)

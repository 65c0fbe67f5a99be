"""The headline numbers of a study, each a cell of a stored table, and what they say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from matchlens.ranking.effects import HOLDS, NOT, UNDECIDED
from matchlens.results import Result, records
from matchlens.studies.contrasts import is_earlier
from matchlens.studies.verdicts import number

Results = Mapping[str, Result]
COLUMNS = ("id", "value", "unit", "n", "definition", "study", "table", "row", "column")


def headline(results: Results) -> pd.DataFrame:
    """Every headline number, with the cell that it is.

    Args:
        results: study name to result; the whole study's own (``study``, with its table ``claims``)
            among them.

    Returns:
        A row for each number: id, value, unit, n (queries or heads; null where it has none),
        definition, study, table, row (the cell's row as JSON of its key columns), column.
    """
    table = pd.DataFrame(list(_numbers(results)), columns=pd.Index(COLUMNS))
    table["n"] = table["n"].astype("Int64")
    return table


@dataclass(frozen=True)
class _Reader:
    """Reads cells of stored tables; each table is turned into rows once."""

    results: Results
    rows: dict[tuple[str, str], list[dict[str, object]]] = field(default_factory=dict)

    def of(self, study: str, table: str) -> list[dict[str, object]]:
        """The rows of a table; none where it was not made."""
        held = self.results.get(study)
        if held is None or table not in held.tables:
            return []
        if (study, table) not in self.rows:
            self.rows[study, table] = records(held.tables[table])
        return self.rows[study, table]

    def numbers(
        self, place: str, keys: Sequence[str], column: str, about: _About
    ) -> Iterator[dict[str, object]]:
        """A column of a table as headline numbers, without those that are not known.

        Args:
            place: study/table.
            keys: the columns that name a row.
            column: the numbers.
            about: a row to its number's id, unit, n and definition.
        """
        study, _, table = place.partition("/")
        for row in self.of(study, table):
            if row[column] is None:
                continue
            name, unit, n, words = about(row)
            key = json.dumps({key: row[key] for key in keys}, ensure_ascii=False)
            cell = (name, row[column], unit, n, words, study, table, key, column)
            yield dict(zip(COLUMNS, cell, strict=True))


_About = Callable[[Mapping[str, object]], tuple[str, str, object, str]]

TABLE_1_WORDS = {
    "": ("original", "mean over queries, no cut"),
    "random": ("random ranking", "mean over queries of the expectation over all orders"),
}
SET_WORDS = {
    "size": ("heads", "number of matching heads in the direction"),
    "diff": ("change of the measure", "all of them cut in the direction"),
    "p_random": ("p (measure)", "share of sets, random ones and this, that lower it as much"),
    "p_tau": ("p (order)", "share of sets, random ones and this, that disturb it as much"),
}


def _numbers(results: Results) -> Iterator[dict[str, object]]:
    reader = _Reader(results)

    def table_1(row: Mapping[str, object]) -> tuple[str, str, object, str]:
        cut = str(row["cut"])
        name, words = TABLE_1_WORDS.get(cut, (cut, f"mean over queries with {cut} cut"))
        return f"table1/{name}", _measure(results["ablation"]), row["queries"], words

    def figure_1a(row: Mapping[str, object]) -> tuple[str, str, object, str]:
        words = f"mean over queries with {row['direction']} cut in the first {row['n']} layers"
        return (
            f"figure1a/{row['cut']}",
            _measure(results["sweep-up-to"]),
            row["queries"],
            words,
        )

    def figure_2(row: Mapping[str, object]) -> tuple[str, str, object, str]:
        couple = f"{row['first']} with {row['second']}"
        return (
            f"figure2/{row['contrast']}/{row['first']}~{row['second']}",
            "Spearman's rho",
            row["heads"],
            f"over heads, {couple}, contrast {row['contrast']}",
        )

    yield from reader.numbers("ablation/table1", ["cut"], "mean", table_1)
    yield from reader.numbers("sweep-up-to/points", ["cut"], "mean", figure_1a)
    for column, (unit, words) in SET_WORDS.items():
        yield from reader.numbers(
            "attention/sets",
            ["set"],
            column,
            lambda row, c=column, u=unit, w=words: (f"matching/{row['set']}/{c}", u, None, w),
        )
    couple = ["contrast", "first", "second"]
    yield from reader.numbers("circuits/associations", couple, "rho", figure_2)
    yield from reader.numbers(
        "study/claims",
        ["id"],
        "value",
        lambda row: (f"claims/{row['id']}", str(row["unit"]), row["n"], str(row["definition"])),
    )


def _measure(result: Result) -> str:
    return str(result.options["measure"])


def summary(results: Results, claims: pd.DataFrame) -> pd.DataFrame:
    """What was asked and what was found, in plain sentences made of the numbers.

    Args:
        results: study name to result.
        claims: the claims' table.

    Returns:
        Columns kind (``asked`` or ``found``) and sentence, in reading order.
    """
    said = [("asked", one) for one in _asked(results)]
    said += [("found", one) for one in _found(results, claims)]
    return pd.DataFrame(said, columns=pd.Index(["kind", "sentence"]))


def _asked(results: Results) -> Iterator[str]:
    one = next(iter(results.values()))
    model, pairs = one.identity["model"], one.identity["pairs"]
    assert isinstance(model, Mapping)  # noqa: S101
    assert isinstance(pairs, Mapping)  # noqa: S101
    names = ", ".join(str(source["collection"]) for source in pairs["sources"])
    rows = records(one.pairs)
    ranked = [row for row in rows if number(row, "grade") >= 0]
    queries = len({(row["collection"], row["qid"]) for row in ranked})
    easy = len(rows) - len(ranked)
    more = f" and {easy} random ones (easy negatives, not ranked)" if easy else ""
    yield (
        f"How does {model['name']} match a query with a document? It was run on {queries} queries "
        f"of {names}, with {len(ranked)} candidate passages{more}."
    )
    short = sum(bool(row["truncated"]) for row in rows)
    limit = model["max_length"]
    yield (
        f"No pair is longer than the limit of {limit} tokens."
        if not short
        else f"{short} of {len(rows)} pairs were cut to the limit of {limit} tokens."
    )


def _printed(value: float) -> str:
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def _found(results: Results, claims: pd.DataFrame) -> Iterator[str]:
    if "ablation" in results:
        yield from _table_1(results["ablation"])
    if "attention" in results and not is_earlier(results["attention"].tables):
        rows = records(results["attention"].tables["matching"])
        parts = []
        for direction in dict.fromkeys(row["direction"] for row in rows):
            mine = [row for row in rows if row["direction"] == direction and row["matching"]]
            kinds = Counter(kind for row in mine for kind in str(row["kind"]).split(", "))
            told = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if kind)
            held = sum(bool(row["held"]) for row in mine)
            parts.append(
                f"{direction} {len(mine)}{f' ({told})' if told else ''}, of which {held} hold on "
                "the other half of the queries"
            )
        if parts:
            yield f"Matching heads, of {len(rows) // len(parts)}: {'; '.join(parts)}."
    named: dict[str, list[str]] = {HOLDS: [], NOT: [], UNDECIDED: []}
    for row in records(claims):
        named[str(row["verdict"])].append(str(row["id"]))
    words = {HOLDS: "hold", NOT: "do not", UNDECIDED: "are undecided"}
    said = [f"{len(ids)} {words[key]} ({', '.join(ids)})" for key, ids in named.items() if ids]
    yield f"Of the paper's {len(claims)} claims, for this model: {'; '.join(said)}."
    yield from _draws(claims)


def _draws(claims: pd.DataFrame) -> Iterator[str]:
    """Whether the verdicts that were reached on several draws of the sample agree."""
    several = {str(row["id"]): str(row["draws"]).split(", ") for row in records(claims)}
    several = {name: verdicts for name, verdicts in several.items() if len(verdicts) > 1}
    if several:
        apart = [name for name, verdicts in several.items() if len(set(verdicts)) > 1]
        others = f"; they disagree on {', '.join(apart)}" if apart else ""
        yield (
            f"{len(next(iter(several.values())))} draws of the sample give one verdict on "
            f"{len(several) - len(apart)} of the {len(several)} claims that rest on few "
            f"cuts{others}."
        )


def _table_1(result: Result) -> Iterator[str]:
    measure = str(result.options["measure"])
    original, random = (float(str(result.options[key])) for key in ("original", "random"))
    yield (
        f"Untouched, it reaches {measure} {_printed(original)}; a random ranking of the same "
        f"candidates has {_printed(random)}."
    )
    rows = records(result.tables["table1"])
    every = [row for row in rows if row["cut"] not in ("", "random")]
    cells = [row for row in every if not row.get("impossible")]
    fallen = [row for row in cells if row["significant"] and number(row, "diff") < 0]
    if len(cells) < len(every):
        yield (
            f"{len(every) - len(cells)} of {len(every)} cuts are none in this model: there is "
            "nothing of that kind to read."
        )
    fallen.sort(key=lambda row: number(row, "diff"))
    if not fallen:
        yield f"Of {len(cells)} cuts, none lowers it significantly (Holm-corrected, paired)."
        return
    named = ", ".join(f"{row['cut']} ({_printed(number(row, 'mean'))})" for row in fallen[:5])
    rest = f" and {len(fallen) - 5} more" if len(fallen) > 5 else ""
    lower = "lowers" if len(fallen) == 1 else "lower"
    yield (
        f"Of {len(cells)} cuts, {len(fallen)} {lower} it significantly (Holm-corrected, paired): "
        f"{named}{rest}."
    )

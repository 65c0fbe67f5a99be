"""The headline numbers of a study, each a cell of a stored table, and what they say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from matchlens.results import Result, records
from matchlens.studies.verdicts import HOLDS, NOT, UNDECIDED

Results = Mapping[str, Result]
COLUMNS = ("id", "value", "unit", "n", "definition", "study", "table", "row", "column")


def headline(results: Results) -> pd.DataFrame:
    """Every headline number, with the cell that it is.

    Args:
        results: study name to result; the whole study's own (``study``, with its table ``claims``)
            among them.

    Returns:
        A row a number: id, value, unit, n (queries or heads; null where it has none), definition,
        study, table, row (the cell's row as JSON of its key columns), column.
    """
    rows = [dict(zip(COLUMNS, one, strict=True)) for one in _numbers(results)]
    table = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
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
    "p_random": ("p", "share of sets, random ones and this, that do as much damage"),
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
    ranked = one.pairs[one.pairs["grade"] >= 0]
    queries = len(ranked[["collection", "qid"]].drop_duplicates())
    easy = len(one.pairs) - len(ranked)
    more = f" and {easy} random ones (easy negatives, not ranked)" if easy else ""
    yield (
        f"How does {model['name']} match a query with a document? It was run on {queries} queries "
        f"of {names}, with {len(ranked)} candidate passages{more}."
    )
    short = int(one.pairs["truncated"].sum())
    limit = model["max_length"]
    yield (
        f"No pair is longer than the limit of {limit} tokens."
        if not short
        else f"{short} of {len(one.pairs)} pairs were cut to the limit of {limit} tokens."
    )


def _printed(value: object, digits: int = 3) -> str:
    text = f"{float(str(value)):.{digits}f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def _found(results: Results, claims: pd.DataFrame) -> Iterator[str]:
    if "ablation" in results:
        result = results["ablation"]
        table = result.to_frame("table1")
        measure = str(result.options["measure"])
        original, random = (float(str(result.options[key])) for key in ("original", "random"))
        yield (
            f"Untouched, it reaches {measure} {_printed(original)}; a random ranking of the same "
            f"candidates has {_printed(random)}."
        )
        cells = table[~table["cut"].isin(["", "random"])]
        fallen = cells[cells["significant"] & (cells["diff"] < 0)].sort_values("diff")
        if len(fallen):
            named = ", ".join(
                f"{row['cut']} ({_printed(row['mean'])})" for row in records(fallen.head(5))
            )
            rest = f" and {len(fallen) - 5} more" if len(fallen) > 5 else ""
            yield (
                f"Of {len(cells)} cuts, {len(fallen)} lower it significantly (Holm-corrected, "
                f"paired): {named}{rest}."
            )
        else:
            yield f"Of {len(cells)} cuts, none lowers it significantly (Holm-corrected, paired)."
    if "attention" in results and len(results["attention"].tables["matching"]):
        found = results["attention"].to_frame("matching")
        parts = []
        for direction, group in found.groupby("direction", sort=False):
            mine = group[group["matching"]]
            lexical = int((mine["kind"] == "lexical").sum())
            parts.append(
                f"{direction} {len(mine)} ({lexical} lexical), of which {int(mine['held'].sum())} "
                "hold on the other half of the queries"
            )
        yield f"Matching heads, of {len(group)}: {'; '.join(parts)}."
    counts = Counter(claims["verdict"])
    named = {
        word: ", ".join(claims.loc[claims["verdict"] == word, "id"])
        for word in (HOLDS, NOT, UNDECIDED)
    }
    said = [
        f"{counts[word]} {words} ({named[word]})"
        for word, words in ((HOLDS, "hold"), (NOT, "do not"), (UNDECIDED, "are undecided"))
        if counts[word]
    ]
    yield f"Of the paper's {len(claims)} claims, for this model: {'; '.join(said)}."

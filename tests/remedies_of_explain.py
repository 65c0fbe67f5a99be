"""The errors of the command explain, and what their messages say."""

from __future__ import annotations

from pathlib import Path

from remedies import C

TYPED = {"--query": ["a cat"], "--passage": ["the cat sat", "rain"]}
FILES = {
    "two.jsonl": '{"query": "a", "text": "x"}\n{"query": "b", "text": "y"}\n',
    "one.jsonl": '{"query": "a", "text": "x"}\n{"query": "a", "text": "y"}\n',
    "bad.tsv": "a\tx\nno tab\n",
    "three.TSV": "a\tx\t1\na\ty\t0\n",
    "empty.tsv": "",
    "one.tsv": "a\tx\na\ty\n",
}


def why(w, options: dict[str, list[str]]) -> str:
    """The command on the tiny model, with few points and no cuts."""
    for name, text in FILES.items():
        Path(name).write_text(text)
    words = [word for name, values in options.items() for one in values for word in (name, one)]
    fixed = ["explain", "-m", str(w.model_folder), "--points", "1", "--no-swap", "-q"]
    return w.command(w.capfd, [*fixed, *words])


def pairs(name: str) -> dict[str, list[str]]:
    return {"--pairs": [name]}


PLACE = "cli/explaining.py:"
EXPLAIN = [
    C(
        f"{PLACE}_texts",
        "--pairs came",
        why,
        {**TYPED, **pairs("one.jsonl")},
        [TYPED, pairs("one.jsonl")],
    ),
    C(f"{PLACE}_texts", "queries came", why, pairs("two.jsonl"), [pairs("one.jsonl")]),
    C(
        f"{PLACE}_texts",
        "query and",
        why,
        {**TYPED, "--passage": ["the cat sat"]},
        [TYPED, pairs("one.jsonl")],
    ),
    C(f"{PLACE}_texts", "has no text", why, {**TYPED, "--passage": ["the cat", " "]}, [TYPED]),
    C(f"{PLACE}_lines", "both with text", why, pairs("bad.tsv"), [pairs("one.tsv")]),
    C(
        f"{PLACE}_lines",
        "columns came",
        why,
        pairs("three.TSV"),
        [pairs("one.tsv"), pairs("one.jsonl")],
    ),
    C(f"{PLACE}_lines", "no pairs", why, pairs("empty.tsv"), [pairs("one.tsv")]),
    C(
        f"{PLACE}_numbers",
        "",
        why,
        {**TYPED, "--compare": ["0"]},
        lambda m: [{**TYPED, "--compare": [m.rpartition(" ")[2]]}],
    ),
]

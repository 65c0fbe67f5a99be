"""Options that several commands share, and what they turn into."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from matchlens.cli.progress import progress  # noqa: F401 - commands call it with the options
from matchlens.errors import InputError, visible

if TYPE_CHECKING:
    from matchlens.corpora import Collection, PairSet
    from matchlens.directions import Cut
    from matchlens.models.folder import ModelFolder

MOST_BATCH = 100_000_000
"""Tokens of one layer call: more fit into no memory, and the number may be a stranger's."""
MODEL, CORPUS, SAMPLING, RUNNING = "Model", "Collection", "Candidates", "Running"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Local folder, Hugging Face id (downloaded), or 'demo' (built in).",
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a Hugging Face model.")
]
Device = Annotated[
    str | None, typer.Option(help="Torch device, such as cpu or cuda:0 [CUDA if present].")
]
Dtype = Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        "--prompt",
        metavar="FILE",
        help="For a decoder: a JSON object of what differs from its type's own prompt, such as "
        '{"instruction": "..."}.',
    ),
]
MaxLength = Annotated[
    int | None, typer.Option(help="Most tokens of a pair [the model's own limit].")
]
Negate = Annotated[
    bool,
    typer.Option(
        "--negate",
        help="Lower logits of the model mean more relevant: the score is the negated one (of two "
        "labels, z0 - z1).",
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label",
        metavar="NAME",
        help="The classifier's label that means relevance, by name or number [one label: it; two: "
        "the second, z1 - z0].",
    ),
]
BatchTokens = Annotated[
    int | None, typer.Option(help="Most tokens of one layer call; changes speed and memory only.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Run in N processes, each with the model and its share of the threads [1: in this "
        "one; with ray one a GPU, else one a node].",
    ),
]
RunnerName = Annotated[
    str, typer.Option("--runner", metavar="NAME", help="local, or ray: on a Ray cluster.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="The cluster, as `ray start --head` prints it."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Cuts = Annotated[
    list[str] | None,
    typer.Option(
        "--cut",
        "-c",
        metavar="CUT",
        help="A cut, in quotes: 'Q->D', '{Q,D}->{Q,D}@0:8', 'Q->D#8.1,4.9~mask'. Repeatable.",
    ),
]
Hows = Annotated[
    list[str] | None,
    typer.Option(
        "--how",
        metavar="HOW",
        help="zero, mask, mean, resample or sink. Repeatable: several are compared [zero].",
    ),
]
MostPairs = Annotated[
    int | None,
    typer.Option(
        "--pairs", metavar="N", help="At most N pairs: whole queries are drawn; 0: all of them."
    ),
]
Explain = Annotated[bool, typer.Option("--explain", help="Say what it costs, and stop.")]
Dataset = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="An ir_datasets id. Repeatable.")
]
QueryField = Annotated[str | None, typer.Option(help="Field of the dataset's queries to use.")]
DocFields = Annotated[
    str | None, typer.Option(help="Fields of the dataset's documents, joined: title,body.")
]
Topics = Annotated[list[Path] | None, typer.Option(metavar="FILE", help="qid<TAB>query a line.")]
Qrels = Annotated[list[Path] | None, typer.Option(metavar="FILE", help="TREC qrels.")]
Passages = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Passages: .jsonl, .jsonl.gz or .tsv. Repeatable."),
]
RunFile = Annotated[
    list[Path] | None, typer.Option("--run", metavar="FILE", help="A TREC run (for --depth).")
]
Demo = Annotated[bool, typer.Option("--demo", help="The built-in collection.")]
PerGrade = Annotated[
    int | None, typer.Option(help="Most candidates a grade and query [10].", show_default=False)
]
AllJudged = Annotated[bool, typer.Option("--all-judged", help="Every judged passage.")]
Depth = Annotated[int | None, typer.Option(metavar="K", help="The first K passages of the run.")]
Easy = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Add N random passages a query (easy negatives) [0; attention, circuits: 10].",
    ),
]
Queries = Annotated[int | None, typer.Option(metavar="N", help="At most N queries, by the seed.")]
Ideal = Annotated[
    str | None,
    typer.Option(help="Ideal ranking of: sample or full qrels [sample; full for a run]."),
]
QueryPrefix = Annotated[str, typer.Option(help="Put before every query.")]
PassagePrefix = Annotated[str, typer.Option(help="Put before every passage.")]
Seed = Annotated[int, typer.Option(help="Of the sample, the tests and the intervals.")]
Measure = Annotated[str, typer.Option(help="Any ir_measures measure.")]
Rel = Annotated[
    int | None,
    typer.Option(
        metavar="GRADE",
        help="Lowest relevant grade, of binary measures and of contrasts [2 where the judgements "
        "reach 2, else 1].",
    ),
]


def cuts_for(texts: Sequence[str], folder: ModelFolder) -> None:
    """Check cut texts against a model's shape, before it is loaded.

    Raises:
        InputError: on a syntax error, a layer or head out of range, or a text given twice.
    """
    from matchlens.directions import Cut

    layers, heads = folder.shape
    for place, text in enumerate(texts):
        cut: Cut = Cut.parse(text)
        cut.check(layers, heads, f"model {folder.name!r}")
        if not text.isprintable():  # results are keyed by the text, in TSV files and tables too
            raise InputError(
                f"cut {text!r} holds a tab, a line break or an odd space; write plain spaces or "
                "none"
            )
        if text in texts[:place]:
            raise InputError(f"cut {text!r} is given twice; give each cut once")


def most_pairs(given: int | None, default: int | None) -> int | None:
    """What ``--pairs`` says: a number, or None for all.

    Raises:
        InputError: if it is negative.
    """
    if given is not None and given < 0:
        raise InputError(f"--pairs is {given}; expected 1 or more, or 0 for all")
    return default if given is None else given or None


def texts_and_sizes(query_prefix: str, passage_prefix: str, batch_tokens: int | None) -> None:
    """Check options that need no model.

    Raises:
        InputError: if a prefix is not Unicode, or a batch would hold no token.
    """
    from matchlens.corpora.lines import is_unicode, shown

    for name, text in (("--query-prefix", query_prefix), ("--passage-prefix", passage_prefix)):
        if not is_unicode(text):
            raise InputError(f"{name} {shown(text)} is not UTF-8; expected text in UTF-8")
    if batch_tokens is not None and not 1 <= batch_tokens <= MOST_BATCH:
        raise InputError(f"--batch-tokens is {batch_tokens}; expected 1 to {MOST_BATCH:,} tokens")


def collections(
    *,
    demo: bool,
    dataset: Sequence[str] | None,
    query_field: str | None,
    doc_fields: str | None,
    topics: Sequence[Path] | None,
    qrels: Sequence[Path] | None,
    passages: Sequence[Path] | None,
    run: Sequence[Path] | None,
    uses_run: bool,
) -> list[Collection]:
    """The collections that the options name; exactly one way of naming them.

    Several collections in files are called by the topics' file names, with as many folders before
    them as tell them apart. ``uses_run`` says whether anything asks for what is in a run.

    Raises:
        InputError: if the options do not go together, or a collection cannot be read.
    """
    from matchlens.corpora import demo as built_in
    from matchlens.corpora import irds, trec

    files = {"--topics": topics, "--qrels": qrels, "--passages": passages}
    given = [name for name, paths in {**files, "--run": run}.items() if paths]
    ways = [demo, bool(dataset), bool(given)]
    if sum(ways) != 1:
        raise InputError(
            f"{sum(ways)} collections named; expected exactly one of: --demo; --dataset ID; "
            "--topics FILE --qrels FILE --passages FILE [--run FILE]"
        )
    if (query_field is not None or doc_fields is not None) and not dataset:
        raise InputError(
            "--query-field and --doc-fields go with --dataset; give --dataset, or leave them out"
        )
    if demo:
        return [built_in.load()]
    if dataset:
        fields = None if doc_fields is None else [word.strip() for word in doc_fields.split(",")]
        return [irds.load(name, query_field=query_field, doc_fields=fields) for name in dataset]
    if missing := [name for name, paths in files.items() if not paths]:
        raise InputError(
            f"{', '.join(missing)} missing; expected all of --topics, --qrels, --passages"
        )
    topics, qrels, passages, run = topics or [], qrels or [], passages or [], run or []
    if len(topics) != len(qrels) or len(run) not in {0, len(topics)}:
        raise InputError(
            f"{len(topics)} --topics, {len(qrels)} --qrels and {len(run)} --run; expected as many "
            "of each (or no --run)"
        )
    if run and not uses_run:
        raise InputError(
            "--run is given and nothing uses it; give --depth K to rerank its first K passages, "
            "or --easy N for random passages outside it, or leave it out"
        )
    runs = run or [None] * len(topics)
    names = _names(topics)
    return [
        trec.load(topic, qrel, passages, one, name=name)
        for topic, qrel, one, name in zip(topics, qrels, runs, names, strict=True)
    ]


def _names(topics: Sequence[Path]) -> list[str | None]:
    """The shortest ends of the topics' paths that differ; None where the file name will do."""
    tails = [(*path.absolute().parts[1:-1], path.name.lstrip(".").split(".")[0]) for path in topics]
    names: list[str | None] = []
    for place, tail in enumerate(tails):
        others = tails[:place] + tails[place + 1 :]
        if tail in others:
            raise InputError(
                f"two collections would be called {'/'.join(tail[-1:])!r}, after --topics "
                f"{str(topics[place])!r}; expected another name for each: rename or copy one file"
            )
        length = 1
        while any(tail[-length:] == one[-length:] for one in others):
            length += 1
        names.append("/".join(tail[-length:]) if length > 1 else None)
    return names


def pairs(
    found: Sequence[Collection],
    *,
    per_grade: int | None,
    all_judged: bool,
    depth: int | None,
    preset_per_grade: int,
    preset_depth: int | None,
    **rest: object,
) -> PairSet:
    """The candidates that the options choose, over all collections.

    Raises:
        InputError: if the options do not go together, or nothing is left.
    """
    from matchlens.corpora import PairSet, choose

    ways = [name for name, on in _ways(per_grade, all_judged, depth) if on]
    if len(ways) > 1:
        raise InputError(f"{' and '.join(ways)} exclude each other; give only one of them")
    if not ways:
        depth = preset_depth
    cap = (per_grade or preset_per_grade) if per_grade != 0 else 0
    sets = [
        choose(
            one,
            per_grade=None if all_judged or depth is not None else cap,
            all_judged=all_judged,
            depth=depth,
            **rest,  # type: ignore[arg-type]
        )
        for one in found
    ]
    return sets[0] if len(sets) == 1 else PairSet.join(sets)


def _ways(per_grade: int | None, all_judged: bool, depth: int | None) -> Iterator[tuple[str, bool]]:
    yield "--per-grade", per_grade is not None
    yield "--all-judged", all_judged
    yield "--depth", depth is not None


def say(line: str, quiet: bool) -> None:
    """Lines for a person, on stderr."""
    if not quiet:
        print(inert(line), file=sys.stderr)  # noqa: T201


def show(text: str) -> None:
    """A table or another text for a person, on stdout."""
    typer.echo(inert(text), nl=False)


def inert(text: str) -> str:
    """Lines in which nothing can act on a terminal, but for our own bold type.

    >>> bold = chr(27) + "[1mb" + chr(27) + "[0m"
    >>> inert("a" + chr(27) + "[2J" + bold) == "a" + chr(0xFFFD) + "[2J" + bold
    True
    """
    pieces = _OURS.split(text)
    return "".join(one if place % 2 else visible(one) for place, one in enumerate(pieces))


_OURS = re.compile("(\n|\x1b\\[[01]m)")

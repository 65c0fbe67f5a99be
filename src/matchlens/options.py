"""The options that several commands share, in groups that a command's settings inherit."""

# No `from __future__ import annotations`: see matchlens.settings.

from pathlib import Path

from matchlens.errors import InputError
from matchlens.sets import SET_EXAMPLE, Sets, cut_sets, set_texts, sets_of_texts
from matchlens.settings import (
    CANDIDATES,
    COLLECTION,
    HIDDEN,
    LONGEST,
    MODEL,
    MOST_BATCH,
    RANKING,
    RESULTS,
    RUNNING,
    STUDY,
    Effect,
    Settings,
    one_of,
    option,
    settings,
    unicode_text,
    within,
)

PARTS_HELP = (
    "Own parts, by characters: JSON such as "
    '{"TITLE": {"of": "D", "spans": {"d1": [[0, 12]]}}}; explain numbers '
    'the passages from 0 and calls the query "query".'
)


@settings(panel=RUNNING, effect=Effect.RUN)
class Quiet(Settings):
    """Whether a command is quiet."""

    quiet: bool = option("--quiet", "-q", default=False, help="No progress, no notes.")


@settings(panel=RUNNING, effect=Effect.RUN)
class Yes(Settings):
    """Whether a command asks for confirmation."""

    yes: bool = option("--yes", "-y", default=False, help="Do not ask for confirmation.")


@settings(panel=RUNNING, effect=Effect.RUN)
class DryRun(Settings):
    """Whether only the costs are estimated."""

    dry_run: bool = option(default=False, help="Print an estimate of the costs, and stop.")
    explain: bool = option(default=False, help="The old name of --dry-run.", panel=HIDDEN)


@settings(panel=RUNNING, effect=Effect.RUN)
class Placement(Settings):
    """Which processes run the pairs."""

    workers: int | None = option(
        default=None,
        metavar="N",
        help="Run in N processes, each with the model and its share of the threads [1: in this "
        "process; with ray one for each GPU, else one for each node].",
        check=within(1),
    )
    runner: str = option(
        default="local",
        metavar="NAME",
        help="local, or ray: on a Ray cluster.",
        check=one_of("local", "ray"),
    )
    ray_address: str | None = option(
        default=None,
        metavar="ADDRESS",
        help="Address of the cluster, as `ray start --head` prints it.",
    )

    def __post_init__(self) -> None:
        """Check that an address comes with Ray."""
        super().__post_init__()
        if self.ray_address is not None and self.runner != "ray":
            raise InputError(
                "--ray-address goes with --runner ray; give both, or leave --ray-address out"
            )


PLACEMENT = ("workers", "runner", "ray_address")
"""Options that say where a command runs: a manifest does not contain them and cannot set them."""


@settings(panel=RUNNING, effect=Effect.SPEED)
class BatchTokens(Settings):
    """Size of a batch."""

    batch_tokens: int | None = option(
        default=None,
        help="Largest number of tokens in a layer call; affects speed and memory only.",
        check=within(1, MOST_BATCH),
    )


@settings(panel=RUNNING)
class Device(Settings):
    """Where the model runs."""

    device: str | None = option(
        default=None, help="Torch device, such as cpu or cuda:0 [CUDA if present]."
    )


@settings(panel=RESULTS, effect=Effect.RUN)
class Out(Settings):
    """Where results are written."""

    out: Path | None = option(
        default=None, metavar="DIR", help="Results folder, new or to be continued."
    )


@settings(panel=RANKING)
class Seed(Settings):
    """The seed."""

    seed: int = option(default=0, help="Seed of the sample, the tests and the intervals.")


@settings(panel=MODEL, effect=Effect.INPUT)
class Precision(Settings):
    """Which weights are loaded, and in which type."""

    revision: str | None = option(
        default=None, help="Branch, tag or commit of a Hugging Face model."
    )
    dtype: str = option(
        default="float32",
        help="float32, float64, bfloat16, float16, or auto: float32, and what bfloat16 would gain.",
    )


@settings(panel=MODEL, effect=Effect.INPUT)
class ModelSettings(Precision, Device, Quiet):
    """A model and how it reads a pair."""

    model: str = option(
        "--model",
        "-m",
        default="demo",
        metavar="MODEL",
        help="Local folder, Hugging Face id (downloaded), or 'demo' (built in).",
    )
    max_length: int | None = option(
        default=None, help="Largest number of tokens in a pair [the model's own limit]."
    )
    prompt: Path | None = option(
        default=None,
        metavar="FILE",
        help="For a decoder: a JSON object of what differs from the prompt of its type, such as "
        '{"instruction": "..."}.',
    )
    negate: bool = option(
        default=False,
        help="Lower logits of the model mean more relevant: negate the score (of two labels, "
        "z0 - z1).",
    )
    label: str | None = option(
        default=None,
        metavar="NAME",
        help="The classifier's label that means relevance, by name or number [one label: that "
        "one; two: the second, z1 - z0].",
    )


@settings(panel=COLLECTION, effect=Effect.INPUT)
class Prefixes(Settings):
    """Prefixes of texts."""

    query_prefix: str = option(default="", help="Put before every query.", check=unicode_text)
    passage_prefix: str = option(default="", help="Put before every passage.", check=unicode_text)


@settings(panel=COLLECTION, effect=Effect.INPUT)
class CollectionSettings(Settings):
    """Queries, judgements and passages."""

    demo: bool = option(default=False, help="The built-in collection.")
    dataset: list[str] | None = option(
        default=None, metavar="ID", help="An ir_datasets id, or a BEIR folder. Repeatable."
    )
    topics: list[Path] | None = option(
        default=None, metavar="FILE", help="Queries: qid<TAB>query on each line. Repeatable."
    )
    qrels: list[Path] | None = option(default=None, metavar="FILE", help="TREC qrels. Repeatable.")
    passages: list[Path] | None = option(
        default=None, metavar="FILE", help="Passages: .jsonl, .jsonl.gz or .tsv. Repeatable."
    )


@settings(panel=CANDIDATES, effect=Effect.INPUT)
class Queries(Settings):
    """How many queries are drawn."""

    queries: int | None = option(
        default=None, metavar="N", help="At most N queries, drawn with the seed."
    )


@settings(panel=COLLECTION, effect=Effect.INPUT)
class Fields(Settings):
    """Which fields and runs of a collection are used."""

    query_field: str | None = option(default=None, help="Field of the dataset's queries to use.")
    doc_fields: str | None = option(
        default=None, help="Fields of the dataset's documents, joined: title,body."
    )
    fields: str | None = option(
        default=None,
        metavar="NAMES",
        help="Fields of the passages that become parts, in capitals: title,body gives "
        "'Q->TITLE' and 'Q->BODY'.",
    )
    parts: Path | None = option(default=None, metavar="FILE", help=PARTS_HELP)
    run: list[Path] | None = option(
        default=None, metavar="FILE", help="A TREC run (for --depth and --easy). Repeatable."
    )


@settings(panel=CANDIDATES, effect=Effect.INPUT)
class Candidates(Queries):
    """Which passages of each query are candidates."""

    per_grade: int | None = option(
        default=None, help="Largest number of candidates per grade and query [10]."
    )
    all_judged: bool = option(default=False, help="All judged passages are candidates.")
    depth: int | None = option(default=None, metavar="K", help="The first K passages of the run.")
    easy: int | None = option(
        default=None,
        metavar="N",
        help="Add N random passages to each query (easy negatives), which ablation and sweep rank, "
        "too [0; for attention, circuits, look and study 10].",
    )
    ideal: str | None = option(
        default=None,
        help="Ideal ranking: of the sample or the full qrels [sample; full for a run].",
    )


@settings(panel=RANKING)
class StudySettings(
    ModelSettings, CollectionSettings, Fields, Prefixes, Candidates, Out, Seed, BatchTokens,
    Placement, DryRun,
):  # fmt: skip
    """The options that every study takes. A study adds its own in a subclass."""

    measure: list[str] | None = option(
        default=None,
        metavar="NAME",
        help="A measure of ir_measures. Repeatable for ablation and sweep: one run, a column each "
        "[nDCG@10].",
    )
    rel: int | None = option(
        default=None,
        metavar="GRADE",
        help="Lowest relevant grade, of binary measures and of contrasts [2 where the judgements "
        "reach 2, else 1].",
    )
    preset: str = option(
        default="default",
        help="default; paper (512 tokens, uncorrected unpaired test, 2 digits); authors (the "
        "groups of the authors' code on the top 100 of a run, 128 tokens); zhan2020 (whole "
        "segments, cut by mask).",
        panel=STUDY,
    )
    runs: bool = option(default=False, help="Write a TREC run for each cut.", panel=RESULTS)

    @property
    def measures(self) -> list[str]:
        """The measures, the main one first."""
        return self.measure or ["nDCG@10"]

    @property
    def only_measure(self) -> str:
        """The measure of a study of a single one."""
        if len(self.measures) > 1:
            raise InputError(
                f"--measure came {len(self.measures)} times; expected one: give several to "
                "ablation or sweep, or leave out all but one"
            )
        return self.measures[0]


@settings
class CutSets(Settings):
    """Sets of cuts that are applied together."""

    cut_file: list[Path] | None = option(
        default=None,
        metavar="FILE",
        help="Named sets of cuts that are applied together: JSON such as "
        f"{SET_EXAMPLE}. Repeatable.",
        effect=Effect.RUN,  # what is in it is recorded, as cut_set
    )
    cut_set: list[str] | None = option(
        default=None, metavar="JSON", help=f"One such set: '{SET_EXAMPLE[1:-1]}'. Repeatable."
    )

    def __post_init__(self) -> None:
        """Read the files of sets, so that a manifest contains what they say."""
        super().__post_init__()
        sets = sets_of_texts(self.cut_set or (), "--cut-set")
        for file in self.cut_file or ():
            for name, cuts in cut_sets(file).items():
                if sets.setdefault(name, cuts) != cuts:
                    raise InputError(
                        f"cut file {str(file)!r} has a set called {name[:60]!r}, and another set "
                        "has that name; give each its own name"
                    )
        for text in (texts := set_texts(sets)):
            if len(text) > LONGEST:
                raise InputError(
                    f"a set of cuts has {len(text):,} characters; expected at most {LONGEST:,}: "
                    "write its cuts as directions or layers instead of single heads"
                )
        object.__setattr__(self, "cut_set", texts or None)

    @property
    def sets(self) -> Sets:
        """The sets of cuts by name."""
        return sets_of_texts(self.cut_set or (), "--cut-set")


@settings
class Cuts(CutSets):
    """What is cut."""

    cut: list[str] | None = option(
        "--cut",
        "-c",
        default=None,
        metavar="CUT",
        help="A cut, in quotes: 'Q->D', '{Q,D}->{Q,D}@0:8', 'Q->D#8.1,4.9~mask'. Repeatable.",
    )


@settings
class Hows(Settings):
    """How attention is cut."""

    how: list[str] | None = option(
        default=None,
        metavar="HOW",
        help="zero, mask, mean, resample or sink. Repeatable: several are compared [zero].",
    )


@settings
class MostPairs(Settings):
    """How many pairs are used."""

    pairs: int | None = option(
        default=None,
        metavar="N",
        help="At most N pairs: whole queries are drawn; of a run fewer passages of each, down to "
        "10, and then queries; 0: all pairs [all; where heads or controls are cut, for the terms "
        "of circuits and for look 450].",
        check=within(0),
    )

    def most(self, default: int | None) -> int | None:
        """The largest number of pairs, None for all; ``default`` where the option is absent."""
        return default if self.pairs is None else self.pairs or None


@settings
class RandomSets(Settings):
    """How many random sets of heads."""

    random: int = option(default=100, metavar="N", help="Random sets of heads for each named one.")


@settings
class Base(Settings):
    """A second model."""

    base: str | None = option(
        default=None,
        metavar="MODEL",
        help="A model of the same shape before fine-tuning, without rotary positions: folder or "
        "Hugging Face id.",
    )

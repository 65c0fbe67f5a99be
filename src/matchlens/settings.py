"""The options of every command: declared once, for the command line, the manifest and ``rerun``.

A class of settings declares its options with :func:`option` and :func:`argument`. The command line
is made from it, a manifest stores it as JSON (:meth:`Settings.asked`), and ``rerun`` reads it back
(:func:`from_json`), so that no option is described twice.
"""

# No `from __future__ import annotations`: a class in another module inherits these annotations,
# and typer could not resolve their texts there.
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args, get_origin

import typer

from matchlens.corpora.lines import is_unicode, shown
from matchlens.directions import SET_EXAMPLE, Sets, cut_sets, set_texts, sets_of_texts
from matchlens.errors import InputError

T = TypeVar("T")
Check = Callable[[str, Any], None]

STUDY, MODEL, COLLECTION, CANDIDATES = "Study", "Model", "Collection", "Candidates"
RANKING, RESULTS, RUNNING, HIDDEN = "Ranking and tests", "Results", "Running", ""
PANELS = (STUDY, MODEL, COLLECTION, CANDIDATES, RANKING, RESULTS, RUNNING, HIDDEN)
"""The groups of options in ``--help``, in order; those of the last one are not shown."""

MOST_BATCH = 100_000_000
"""Tokens of one layer call: more fit into no memory, and the number may come from a stranger."""
LONGEST, MOST_VALUES = 4096, 1000
"""Characters of a value, and values of an option, that a manifest may contain."""


class Effect(Enum):
    """What an option changes, which decides where it is recorded."""

    INPUT = "the model or the pairs: the identity of a results folder covers it"
    RESULT = "the results"
    SPEED = "speed and memory only; a manifest records it"
    RUN = "where and how loudly a command runs; a manifest never contains it"


@dataclasses.dataclass(frozen=True)
class Option:
    """How an option appears on the command line.

    Args:
        name: of its field.
        kind: type of one value.
        several: whether it may be given several times.
        default: its value where it is not given; ``...`` where it must be.
        flags: such as ``--model`` and ``-m``; empty for an argument.
        help: one line.
        panel: its group in ``--help``.
        metavar: what stands for the value in ``--help``.
        effect: what it changes.
        check: called with the flag and a value; raises InputError.
    """

    name: str = ""
    kind: type = str
    several: bool = False
    default: Any = None
    flags: tuple[str, ...] = ()
    help: str = ""
    panel: str = STUDY
    metavar: str | None = None
    effect: Effect = Effect.RESULT
    check: Check | None = None

    @property
    def flag(self) -> str:
        """The flag that error messages name."""
        return self.flags[0].partition("/")[0] if self.flags else self.metavar or self.name

    @property
    def recorded(self) -> bool:
        """Whether a manifest contains it."""
        return self.effect is not Effect.RUN

    def words(self, value: Any) -> list[str]:
        """The option as it is typed in a shell."""
        if self.kind is bool:
            return [(self.flag if value else self.flags[0].rpartition("/")[2])]
        values = value if self.several else [value]
        return [f"{self.flag}={one}" if self.flags else str(one) for one in values]

    def from_json(self, value: Any) -> Any:
        """A value from JSON.

        Raises:
            InputError: if it does not have the option's type.
        """
        types = {int: int, float: (int, float), bool: bool}.get(self.kind, str)
        values = value if isinstance(value, list) else [value]
        if self.name == "measure":  # one text in manifests of earlier versions
            value = values
        fits = isinstance(value, list) == self.several and len(values) <= MOST_VALUES
        for one in values:
            fits = fits and isinstance(one, types) and isinstance(one, bool) == (self.kind is bool)
            fits = fits and not (isinstance(one, str) and (len(one) > LONGEST or "\0" in one))
            fits = fits and not (isinstance(one, int) and abs(one) >= 2**63)
        if not fits:
            words = {int: "a whole number", float: "a number", bool: "true or false"}
            expected = "a list, each " * self.several + words.get(self.kind, "a text")
            raise InputError(
                f"the option {self.name!r} has the value {str(value)[:60]!r}; expected {expected} "
                f"(numbers below 2**63, texts of at most {LONGEST} characters): give another "
                "value, or run the study anew"
            )
        if self.kind in (Path, float):
            values = [self.kind(one) for one in values]
        return values if self.several else values[0]


def option(
    *flags: str,
    default: Any,
    help: str,
    metavar: str | None = None,
    panel: str | None = None,
    effect: Effect | None = None,
    check: Check | None = None,
) -> Any:
    """Declare an option of a class of :func:`settings`.

    Args:
        flags: such as ``"--model", "-m"``; made from the field's name where there are none.
        default: its value where it is not given; ``...`` where it must be.
        help: one line for ``--help``; a default that is computed stands in brackets.
        metavar: what stands for the value in ``--help``.
        panel: its group in ``--help``, one of :data:`PANELS`; that of the class where None.
        effect: what it changes; that of the class where None.
        check: called with the flag and a value that is not None; raises InputError.
    """
    return {"flags": flags or ("",), "default": default, "help": help, "metavar": metavar,
            "panel": panel, "effect": effect, "check": check}  # fmt: skip


def argument(metavar: str, *, help: str, check: Check | None = None) -> Any:
    """Declare an argument without a flag, which must be given.

    Args:
        metavar: what stands for it in ``--help``.
        help: one line.
        check: called with the metavar and the value; raises InputError.
    """
    return {"default": ..., "help": help, "metavar": metavar, "check": check}


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, argument))
def settings(cls: Any = None, *, panel: str = STUDY, effect: Effect = Effect.RESULT) -> Any:
    """Make a frozen dataclass of a class whose fields are options.

    Args:
        cls: the class, where the decorator is used without parentheses.
        panel: the group of its options in ``--help``.
        effect: what its options change.

    >>> @settings
    ... class Small(Settings):
    ...     seed: int = option(default=0, help="Seed of the sample.")
    >>> Small(seed=3).asked(), Small().words()
    ({'seed': 3}, [])
    """
    if cls is None:
        return lambda cls: settings(cls, panel=panel, effect=effect)
    hints = inspect.get_annotations(cls, eval_str=True)
    for name, hint in hints.items():
        declared = cls.__dict__[name]
        if not isinstance(declared, dict):
            raise TypeError(f"{cls.__name__}.{name} is no option; declare it with option()")
        kind, several = _kind(hint)
        given = {key: value for key, value in declared.items() if value is not None}
        flags = tuple(one or f"--{name.replace('_', '-')}" for one in declared.get("flags", ()))
        own = {"panel": panel, "effect": effect, **given, "default": declared["default"]}
        one = Option(name, kind, several, **{**own, "flags": flags})
        texts: Any = {"help": one.help, "metavar": one.metavar}
        typed = (
            typer.Option(*flags, **texts, rich_help_panel=one.panel, hidden=one.panel == HIDDEN)
            if flags
            else typer.Argument(**texts)
        )
        hints[name] = Annotated[hint, typed]
        default = dataclasses.MISSING if one.default is ... else one.default
        setattr(cls, name, dataclasses.field(default=default, metadata={"option": one}))
    cls.__annotations__ = hints
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def _kind(hint: Any) -> tuple[type, bool]:
    """The type of one value, and whether there may be several: (Path, True) of list[Path]."""
    several = False
    while get_args(hint):
        several |= get_origin(hint) is list
        hint = next(one for one in get_args(hint) if one is not type(None))
    return hint, several


@settings
class Settings:
    """The options of one command.

    Raises:
        InputError: if a value is out of range.
    """

    def __post_init__(self) -> None:
        """Check each value alone."""
        for one in options_of(type(self)):
            value = getattr(self, one.name)
            if one.check is not None and value is not None:
                one.check(one.flag, value)

    def given(self) -> dict[str, Any]:
        """The options that are not at their default, by name, in the order of ``--help``."""
        values = {one.name: (getattr(self, one.name), one) for one in options_of(type(self))}
        return {name: value for name, (value, one) in values.items() if value != one.default}

    def asked(self) -> dict[str, Any]:
        """The same as JSON, without those that a manifest never contains."""
        recorded = self.recorded()
        return {name: recorded[name] for name in self.given() if name in recorded}

    def recorded(self) -> dict[str, Any]:
        """All options that a manifest contains, as JSON."""
        known = (one.name for one in options_of(type(self)) if one.recorded)
        return {name: plain(getattr(self, name)) for name in known}

    def words(self) -> list[str]:
        """The options that are not at their default, as they are typed in a shell."""
        known, given = options_of(type(self)), self.given()
        typed = [(one, one.words(given[one.name])) for one in known if one.name in given]
        words = [word for one, words in typed if one.flags for word in words]
        places = [word for one, words in typed if not one.flags for word in words]
        return [*words, *(["--", *places] if places else [])]


@cache
def options_of(cls: type[Settings]) -> list[Option]:
    """The options of a class of settings, in the order of ``--help``: its own first.

    >>> [one.name for one in options_of(Placement)]
    ['workers', 'runner', 'ray_address']
    """
    fields: Any = dataclasses.fields(cls)  # type: ignore[arg-type]
    options: dict[str, Option] = {one.name: one.metadata["option"] for one in fields}
    names = [name for base in cls.__mro__ for name in inspect.get_annotations(base)]
    found = [options[name] for name in dict.fromkeys(names) if name in options]
    return sorted(found, key=lambda one: (bool(one.flags), PANELS.index(one.panel)))


def files_of(cls: type[Settings]) -> list[str]:
    """The names of the options that name files to read.

    >>> files_of(ModelSettings)
    ['prompt']
    """
    return [one.name for one in options_of(cls) if one.kind is Path and one.recorded]


def from_json(cls: type[Settings], values: Mapping[str, Any], **more: Any) -> Any:
    """Settings from the JSON of :meth:`Settings.asked`, which a stranger may have written.

    Args:
        cls: the class of the settings.
        values: the options that are not at their default.
        more: values of options that a manifest never contains.

    Raises:
        InputError: if there is no such option, or a value has another type or is out of range.

    >>> from_json(ModelSettings, {"max_length": 64}, quiet=True).words()
    ['--max-length=64', '--quiet']
    """
    known = {one.name: one for one in options_of(cls) if one.recorded}
    missing = {name for name, one in known.items() if one.default is ...} - {*values}
    for name in [*(name for name in values if name not in known), *sorted(missing)]:
        raise InputError(
            f"a command with{'out' * (name in missing)} an option {str(name)[:60]!r} cannot be run "
            "again; expected a command and options that matchlens has: run the study anew"
        )
    return cls(**{name: known[name].from_json(value) for name, value in values.items()}, **more)


def plain(value: Any) -> Any:
    """A value as JSON has it.

    >>> plain([Path("a/b")]), plain(None), plain(2)
    (['a/b'], None, 2)
    """
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def within(least: int, most: int | None = None) -> Check:
    """Accept numbers from ``least`` to ``most``."""

    def check(flag: str, value: int) -> None:
        if value < least or (most is not None and value > most):
            end = "or more" if most is None else f"to {most:,}"
            raise InputError(f"{flag} is {value}; expected {least} {end}")

    return check


def one_of(*words: str) -> Check:
    """Accept these words."""

    def check(flag: str, value: str) -> None:
        if value not in words:
            expected = ", ".join(words)
            raise InputError(f"{flag} {value!r} is not known; expected one of {expected}")

    return check


def unicode_text(flag: str, value: str) -> None:
    """Accept text that can be encoded."""
    if not is_unicode(value):
        raise InputError(f"{flag} {shown(value)} is not UTF-8; expected text in UTF-8")


# Options that several commands take


@settings(panel=RUNNING, effect=Effect.RUN)
class Quiet(Settings):
    """Whether a command is quiet."""

    quiet: bool = option("--quiet", "-q", default=False, help="No progress, no notes.")


@settings(panel=RUNNING, effect=Effect.RUN)
class Yes(Settings):
    """Whether a command asks."""

    yes: bool = option("--yes", "-y", default=False, help="Do not ask.")


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
    """How much runs at once."""

    batch_tokens: int | None = option(
        default=None,
        help="Most tokens of one layer call; affects speed and memory only.",
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
    """What is random."""

    seed: int = option(default=0, help="Seed of the sample, the tests and the intervals.")


@settings(panel=MODEL, effect=Effect.INPUT)
class Precision(Settings):
    """Which weights are loaded, and in which type."""

    revision: str | None = option(
        default=None, help="Branch, tag or commit of a Hugging Face model."
    )
    dtype: str = option(default="float32", help="float32, float64, bfloat16 or float16.")


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
        default=None, help="Most tokens of a pair [the model's own limit]."
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
    """What is put before texts."""

    query_prefix: str = option(default="", help="Text before every query.", check=unicode_text)
    passage_prefix: str = option(default="", help="Text before every passage.", check=unicode_text)


@settings(panel=COLLECTION, effect=Effect.INPUT)
class CollectionSettings(Settings):
    """Queries, judgements and passages."""

    demo: bool = option(default=False, help="The built-in collection.")
    dataset: list[str] | None = option(
        default=None,
        metavar="ID",
        help="An ir_datasets id, or a BEIR folder. Repeatable.",
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
    parts: Path | None = option(
        default=None,
        metavar="FILE",
        help="Parts of one's own, by characters: JSON such as "
        '{"TITLE": {"of": "D", "spans": {"d1": [[0, 12]]}}}.',
    )
    run: list[Path] | None = option(
        default=None, metavar="FILE", help="A TREC run (for --depth and --easy). Repeatable."
    )


@settings(panel=CANDIDATES, effect=Effect.INPUT)
class Candidates(Queries):
    """Which passages of each query are candidates."""

    per_grade: int | None = option(
        default=None, help="Most candidates of each grade and query [10]."
    )
    all_judged: bool = option(default=False, help="Every judged passage.")
    depth: int | None = option(default=None, metavar="K", help="The first K passages of the run.")
    easy: int | None = option(
        default=None,
        metavar="N",
        help="Add N random passages to each query (easy negatives) [0; for attention, circuits, "
        "look and study 10].",
    )
    ideal: str | None = option(
        default=None, help="Ideal ranking of: sample or full qrels [sample; full for a run]."
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
        help="Any ir_measures measure. Repeatable for ablation and sweep: one run, a column each "
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
    runs: bool = option(default=False, help="Write a TREC run for every cut.", panel=RESULTS)

    @property
    def measures(self) -> list[str]:
        """The measures, the main one first."""
        return self.measure or ["nDCG@10"]

    @property
    def only_measure(self) -> str:
        """The measure of a study that takes one.

        Raises:
            InputError: if there are several.
        """
        if len(self.measures) > 1:
            raise InputError(
                f"--measure came {len(self.measures)} times; expected one: give several to "
                "ablation or sweep, or leave out all but one"
            )
        return self.measures[0]


@settings
class CutSets(Settings):
    """Cuts that are made together."""

    cut_file: list[Path] | None = option(
        default=None,
        metavar="FILE",
        help="Cuts that are made together, each set with a name: JSON such as "
        f"{SET_EXAMPLE}. Repeatable.",
        effect=Effect.RUN,  # what is in it is recorded, as cut_set
    )
    cut_set: list[str] | None = option(
        default=None,
        metavar="JSON",
        help=f"One such set: '{SET_EXAMPLE[1:-1]}'. Repeatable.",
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
        help="At most N pairs: whole queries are drawn; 0: all of them [all; where heads or "
        "controls are cut, for the terms of circuits and for look 450].",
        check=within(0),
    )

    def most(self, default: int | None) -> int | None:
        """The largest number of pairs, None for all; ``default`` where the option is not given."""
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
        help="A model of the same shape before fine-tuning: folder or Hugging Face id.",
    )

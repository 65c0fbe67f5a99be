"""The options of every command: declared once, for the command line, the manifest and ``rerun``.

A class of settings declares its options with :func:`option` and :func:`argument`. It defines the
command line, a manifest stores it as JSON (:meth:`Settings.as_json`), and ``rerun`` reads it back
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
from matchlens.errors import InputError

T = TypeVar("T")
Check = Callable[[str, Any], None]

STUDY, MODEL, COLLECTION, CANDIDATES = "Study", "Model", "Collection", "Candidates"
RANKING, RESULTS, RUNNING, HIDDEN = "Ranking and tests", "Results", "Running", ""
PANELS = (STUDY, MODEL, COLLECTION, CANDIDATES, RANKING, RESULTS, RUNNING, HIDDEN)
"""The groups of options in ``--help``, in order; those of the last one are not shown."""

MOST_BATCH = 100_000_000
"""Tokens of one layer call: more fit into no memory, and the number may come from a stranger."""
LONGEST, MOST_VALUES = 2**17, 1000
"""Characters of a value, and values of an option, that a manifest may contain: passages may be
typed, and no word of a Linux command line is longer."""


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
        several: whether it may be repeated.
        default: its value where it is absent; ``...`` where it is required.
        flags: such as ``--model`` and ``-m``; empty for an argument.
        help: one line.
        panel: its group in ``--help``.
        metavar: the placeholder of the value in ``--help``.
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
        """The option as typed in a shell."""
        if self.kind is bool:
            return [(self.flag if value else self.flags[0].rpartition("/")[2])]
        values = value if self.several else [value]
        return [f"{self.flag}={each}" if self.flags else str(each) for each in values]

    def from_json(self, value: Any) -> Any:
        """A value from JSON."""
        types = {int: int, float: (int, float), bool: bool}.get(self.kind, str)
        values = value if isinstance(value, list) else [value]
        if self.name == "measure":  # one text in manifests of earlier versions
            value = values
        fits = isinstance(value, list) == self.several and len(values) <= MOST_VALUES
        for item in values:
            fits = fits and isinstance(item, types)
            fits = fits and isinstance(item, bool) == (self.kind is bool)
            fits = fits and not (isinstance(item, str) and (len(item) > LONGEST or "\0" in item))
            fits = fits and not (isinstance(item, int) and abs(item) >= 2**63)
        if not fits:
            words = {int: "a whole number", float: "a number", bool: "true or false"}
            expected = "a list, each " * self.several + words.get(self.kind, "a text")
            raise InputError(
                f"the option {self.name!r} has the value {str(value)[:60]!r}; expected {expected} "
                f"(numbers below 2**63, texts of at most {LONGEST} characters): give another "
                "value, or run the study anew"
            )
        if self.kind in (Path, float):
            values = [self.kind(item) for item in values]
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
    """Declare an option of a class of :func:`settings`; the arguments are those of :class:`Option`.

    Flags are derived from the field's name where there are none, panel and effect are those of the
    class where None, and ``help`` has a computed default in brackets.
    """
    return {"flags": flags or ("",), "default": default, "help": help, "metavar": metavar,
            "panel": panel, "effect": effect, "check": check}  # fmt: skip


def argument(metavar: str, *, help: str, check: Check | None = None) -> Any:
    """Declare an argument without a flag, which is required; see :class:`Option`."""
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
    >>> Small(seed=3).as_json(), Small().words()
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
        stated = {key: value for key, value in declared.items() if value is not None}
        flags = tuple(flag or f"--{name.replace('_', '-')}" for flag in declared.get("flags", ()))
        own = {"panel": panel, "effect": effect, **stated, "default": declared["default"]}
        parsed = Option(name, kind, several, **{**own, "flags": flags})
        texts: Any = {"help": parsed.help, "metavar": parsed.metavar}
        typed = (
            typer.Option(
                *flags, **texts, rich_help_panel=parsed.panel, hidden=parsed.panel == HIDDEN
            )
            if flags
            else typer.Argument(**texts)
        )
        hints[name] = Annotated[hint, typed]
        default = dataclasses.MISSING if parsed.default is ... else parsed.default
        setattr(cls, name, dataclasses.field(default=default, metadata={"option": parsed}))
    cls.__annotations__ = hints
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def _kind(hint: Any) -> tuple[type, bool]:
    """The type of one value, and whether there may be several: (Path, True) of list[Path]."""
    several = False
    while get_args(hint):
        several |= get_origin(hint) is list
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    return hint, several


@settings
class Settings:
    """The options of one command."""

    def __post_init__(self) -> None:
        """Check each value alone."""
        for known in options_of(type(self)):
            value = getattr(self, known.name)
            if known.check is not None and value is not None:
                known.check(known.flag, value)

    def _changed(self) -> list[Option]:
        """The options that are not at their default, in the order of ``--help``."""
        return [each for each in options_of(type(self)) if getattr(self, each.name) != each.default]

    def as_json(self) -> dict[str, Any]:
        """The options that are not at their default and that a manifest contains, as JSON."""
        recorded = self.recorded()
        return {each.name: recorded[each.name] for each in self._changed() if each.recorded}

    def recorded(self) -> dict[str, Any]:
        """All options that a manifest contains, as JSON."""
        names = (each.name for each in options_of(type(self)) if each.recorded)
        return {name: plain(getattr(self, name)) for name in names}

    def words(self) -> list[str]:
        """The options that are not at their default, as typed in a shell."""
        typed = [
            (bool(each.flags), each.words(getattr(self, each.name))) for each in self._changed()
        ]
        words = [word for has_flag, texts in typed if has_flag for word in texts]
        places = [word for has_flag, texts in typed if not has_flag for word in texts]
        return [*words, *(["--", *places] if places else [])]


@cache
def options_of(cls: type[Settings]) -> list[Option]:
    """The options of a class of settings, in the order of ``--help``: its own first."""
    fields: Any = dataclasses.fields(cls)  # type: ignore[arg-type]
    options: dict[str, Option] = {field.name: field.metadata["option"] for field in fields}
    names = [name for base in cls.__mro__ for name in inspect.get_annotations(base)]
    own_first = [options[name] for name in dict.fromkeys(names) if name in options]
    return sorted(own_first, key=lambda each: (bool(each.flags), PANELS.index(each.panel)))


def files_of(cls: type[Settings]) -> list[str]:
    """The names of the options that name files to read."""
    return [each.name for each in options_of(cls) if each.kind is Path and each.recorded]


def from_json(cls: type[Settings], values: Mapping[str, Any], **more: Any) -> Any:
    """Settings from the JSON of :meth:`Settings.as_json`, which a stranger may have written."""
    known = {each.name: each for each in options_of(cls) if each.recorded}
    missing = {name for name, each in known.items() if each.default is ...} - {*values}
    for name in [*(name for name in values if name not in known), *sorted(missing)]:
        raise InputError(
            f"a command with{'out' * (name in missing)} an option {str(name)[:60]!r} cannot be run "
            "again; expected a command and options that matchlens has: run the study anew"
        )
    return cls(**{name: known[name].from_json(value) for name, value in values.items()}, **more)


def plain(value: Any) -> Any:
    """A value as JSON stores it."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def within(lowest: int, highest: int | None = None) -> Check:
    """Accept numbers from ``lowest`` to ``highest``."""

    def check(flag: str, value: int) -> None:
        if value < lowest or (highest is not None and value > highest):
            end = "or more" if highest is None else f"to {highest:,}"
            raise InputError(f"{flag} is {value}; expected {lowest} {end}")

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

"""Which label of a classifier is relevance, and how the score is made of its logits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matchlens.errors import InputError

_INDEPENDENT = ("multi_label_classification", "regression")
"""Problem types whose labels do not share one softmax: a label's logit says nothing of another."""
_PLAIN = re.compile(r"(label[ _-]?)?\d+", re.IGNORECASE)
"""Names that say nothing, as the library makes them: LABEL_0, LABEL_1."""
_YES = {
    *("relevant", "relevance", "positive", "pos", "yes", "true"),
    *("match", "matching", "entailment"),
}
_NO = {"irrelevant", "negative", "neg", "no", "false", "mismatch", "contradiction", "other", "none"}
_NOT = re.compile(r"(not|non|no|un|ir|in|dis|mis) ?(?=.{3})")


@dataclass(frozen=True)
class Label:
    """The label that was chosen for relevance; ``alone``: its logit is the score, no log-odds."""

    number: int
    name: str
    alone: bool
    count: int

    @property
    def text(self) -> str:
        """How the score is made of the logits, for a manifest."""
        if self.count == 1:
            return "z"
        if self.alone:
            formula = f"z{self.number}"
        elif self.count == 2:
            formula = f"z{self.number} - z{1 - self.number}"
        else:
            formula = f"z{self.number} - logsumexp(the other {self.count - 1})"
        return f"{formula} (label {self.name!r})"


def names(config: Any) -> list[str]:
    """What a config calls its labels, in the order of the logits."""
    known = getattr(config, "id2label", None) or {}
    called = [str(known.get(number, f"LABEL_{number}")) for number in range(len(known))]
    turned = {number: name for name, number in (getattr(config, "label2id", None) or {}).items()}
    if all(map(_PLAIN.fullmatch, called)) and {*range(len(called))} <= turned.keys():
        return [str(turned[number]) for number in range(len(called))]  # it says more
    return called


def choose(config: Any, name: str, label: str | int | None, negate: bool = False) -> Label | None:
    """The label that a person names; None where one label or two need no choice."""
    called = names(config)
    shown = ", ".join(f"{number}: {title!r:.40}" for number, title in enumerate(called[:6]))
    shown += ", ..." if len(called) > 6 else ""
    problem = getattr(config, "problem_type", None)
    if label is not None:
        number = _number(called, label)
        if number is None:
            raise InputError(
                f"model {name!r}: --label {str(label)[:60]!r} names none of its labels, or several"
                f"; expected one of {shown}, by name or by number"
            )
        alone = problem in _INDEPENDENT or len(called) == 1
        return Label(number, called[number], alone, len(called))
    if not called:
        raise InputError(f"model {name!r} has 0 labels; expected one or more (id2label)")
    remedy = f"name the label that means relevance (--label, one of {shown})"
    if len(called) > 2:
        raise InputError(
            f"model {name!r} has {len(called)} labels (num_labels or id2label in config.json); "
            f"{remedy}"
        )
    if len(called) == 2 and problem in _INDEPENDENT:
        raise InputError(
            f"model {name!r} has two labels that are no opposites (problem_type {problem!r}); "
            f"{remedy}"
        )
    numbers, why = getattr(config, "label2id", None) or {}, ""
    if any(str(numbers.get(title, place)) != str(place) for place, title in enumerate(called)):
        why = f"calls its labels {shown} in id2label, and label2id gives them other numbers"
    elif _reversed(called):
        why = f"calls its labels {shown}"
    if why and not negate:
        raise InputError(
            f"model {name!r} {why}, so a high score would mean less relevant; {remedy}"
        )
    return None


def no_labels(name: str) -> InputError:
    """The error of a label that is named for a model that is asked in words."""
    return InputError(
        f"model {name!r} has no labels: its score is the logit of its prompt's answers; "
        "leave the label out (--label)"
    )


def doubt(config: Any) -> str:
    """What to warn of where nobody named a label and the two names do not say which is relevance.

    >>> from types import SimpleNamespace
    >>> doubt(SimpleNamespace(id2label={0: "ham", 1: "spam"})).split(";")[0]
    "its labels are called 'ham' and 'spam'"
    >>> doubt(SimpleNamespace(id2label={0: "LABEL_0", 1: "LABEL_1"}))
    ''
    """
    called = names(config)
    if len(called) != 2 or all(_PLAIN.fullmatch(title.strip()) for title in called):
        return ""
    first, second = map(_meaning, called)
    if (first != second and (second > 0 or first < 0)) or _negates(called[0], called[1]):
        return ""
    return (
        f"its labels are called {called[0][:40]!r} and {called[1][:40]!r}; the score takes the "
        "second for relevance (z1 - z0): name the one that is relevance with label=... (--label)"
    )


def _number(called: Sequence[str], label: str | int) -> int | None:
    """The place of a label, by its name or else its number."""
    if called.count(label) == 1:
        return called.index(label)
    if label in called or isinstance(label, bool):
        return None
    text = str(label)
    number = int(text) if re.fullmatch(r"[0-9]{1,6}", text) else -1
    return number if 0 <= number < len(called) else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()


def _meaning(name: str) -> int:
    """1 where a name says relevant, -1 where it says the opposite, 0 where it says neither."""
    words = _plain(name)
    if words in _NO or (_NOT.match(words) and _NOT.sub("", words, count=1) in _YES):
        return -1
    return 1 if words in _YES else 0


def _negates(name: str, other: str) -> bool:
    """Whether a name is another one with a "not" before it."""
    words, opposite = _plain(name), _plain(other)
    return bool(_NOT.match(words)) and _NOT.sub("", words, count=1) == opposite


def _reversed(called: Sequence[str]) -> bool:
    """Whether the names say that a higher score means less relevant."""
    if len(called) == 1:
        return _meaning(called[0]) < 0
    first, second = called
    if _PLAIN.fullmatch(first.strip()) and _PLAIN.fullmatch(second.strip()):
        return int(re.sub(r"\D", "", first)) > int(re.sub(r"\D", "", second))
    if _meaning(first) == _meaning(second):
        return _negates(second, first)
    return _meaning(first) > 0 or _meaning(second) < 0

"""Named sets of cuts that are applied together, which the text of one cut cannot express."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matchlens.arguments import typed
from matchlens.directions import LONGEST, Cut
from matchlens.errors import InputError, one_line
from matchlens.files import read_json

SET_EXAMPLE = '[{"name": "sinks", "cuts": ["CLS->D", "SEP2->D#3.1"]}]'
MOST_SETS, MOST_CUTS = 1_000, 1_000
"""Sets of cuts in a file, and cuts in a set."""
RESERVED = ("original", "random")
"""Names of conditions that are no cuts."""
Sets = dict[str, tuple["Cut", ...]]
"""Sets of cuts that are applied together, by name."""


@typed
def cut_sets(
    source: str | Path | Mapping[str, Sequence[str | Cut]] | None,
) -> Sets:
    """Read named sets of cuts that are applied together.

    A set can express what the text of one cut cannot: directions of different layers and heads in
    one condition.

    Args:
        source: a JSON file with a list of objects, each with ``name`` and ``cuts``, a list of
            texts; or cuts by the name of their set; None for no set.

    Raises:
        InputError: if the file or a set cannot be used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "cuts.json")
    ...     _ = file.write_text(SET_EXAMPLE)
    ...     [(name, [str(cut) for cut in cuts]) for name, cuts in cut_sets(file).items()]
    [('sinks', ['CLS->D', 'SEP2->D#3.1'])]
    """
    if source is None:
        return {}
    if isinstance(source, Mapping):
        named = [{"name": name, "cuts": [str(cut) for cut in source[name]]} for name in source]
        return _sets(named, "sets") if named else {}
    return _sets(*read_json(source, "cut file", SET_EXAMPLE))


def check_once(texts: Iterable[str]) -> None:
    """Refuse a cut that comes twice, in whatever spelling: tests are corrected over both."""
    spellings: dict[str, str] = {}
    for text in texts:
        cut = str(Cut.parse(text))
        if cut in spellings and cut:
            same = "" if spellings[cut] == text else f" ({spellings[cut]!r} is the same)"
            raise InputError(f"cut {text!r} is given twice{same}; give each cut once")
        spellings[cut] = text


def sets_of_texts(texts: Iterable[str], where: str) -> Sets:
    """Sets of cuts from JSON texts of one set each, as :func:`set_texts` writes them."""
    listed = []
    for text in texts:
        try:
            listed.append(json.loads(text))
        except (ValueError, RecursionError):
            listed.append(None)
    return _sets(listed, where) if listed else {}


def set_texts(sets: Mapping[str, Iterable[str | Cut]]) -> list[str]:
    """Each set of cuts as one line of JSON."""
    return [
        json.dumps({"name": name, "cuts": [str(cut) for cut in cuts]}, ensure_ascii=False)
        for name, cuts in sets.items()
    ]


def set_file(sets: Mapping[str, Iterable[str | Cut]]) -> str:
    """The content of a file that :func:`cut_sets` reads."""
    return "[\n" + ",\n".join(f"  {text}" for text in set_texts(sets)) + "\n]\n"


def _sets(listed: object, where: str) -> Sets:
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_SETS:
        raise InputError(
            f"{where} holds no list of 1 to {MOST_SETS:,} sets; expected JSON such as {SET_EXAMPLE}"
        )
    sets: Sets = {}
    for number, entry in enumerate(listed, 1):
        if not isinstance(entry, dict) or set(entry) != {"name", "cuts"}:
            raise InputError(
                f"{where}, set {number} is no object with name and cuts alone; expected, for "
                f"example, {SET_EXAMPLE[1:-1]}"
            )
        name, texts = entry["name"], entry["cuts"]
        usable = isinstance(name, str) and name.strip() and name.isprintable()
        if not usable or name in RESERVED or "->" in name or len(name) > LONGEST:
            raise InputError(
                f"{where}, set {number} has the name {one_line(repr(name))[:60]}; expected a "
                f"printable text of 1 to {LONGEST} characters without '->', and not "
                f"{' or '.join(map(repr, RESERVED))}"
            )
        if name in sets:
            raise InputError(f"{where} has two sets called {name[:60]!r}; give each its own name")
        listed_texts = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        if not listed_texts or not 1 <= len(texts) <= MOST_CUTS:
            raise InputError(
                f"{where}, set {number} has no list of 1 to {MOST_CUTS:,} texts for cuts; expected "
                'cuts such as ["CLS->D", "SEP2->D#3.1"]'
            )
        try:
            sets[name] = tuple(Cut.parse(text) for text in texts)
        except InputError as error:
            raise InputError(f"{where}, set {number}: {error}") from None
    return sets

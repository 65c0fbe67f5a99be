"""Numbers and texts as tables, papers and pages show them; untrusted texts are made harmless."""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite, isnan

from matchlens.directions import Cut, Direction
from matchlens.errors import InputError, counted, printed, visible
from matchlens.results import Result
from matchlens.studies.presets import PRESETS

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
"""Where nothing is known."""
ARROW = "\N{NO-BREAK SPACE}\N{RIGHTWARDS ARROW}\N{NO-BREAK SPACE}"
LONG = 240
"""Characters of a text in a title or a label."""
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_KEPT = {"\N{SOFT HYPHEN}", "\N{ZERO WIDTH JOINER}", "\N{ZERO WIDTH NON-JOINER}"}


SHARE = "share: of (original - random), the mean change divided by what there is to lose."
"""How to read the column of shares."""


def digits_of(result: Result) -> int:
    """Return the decimals that a result's preset prints."""
    return int(str(result.options["digits"]))


def notes(result: Result) -> tuple[str, ...]:
    """Return the notes, whose choices a preset has before them."""
    chosen = PRESETS.get(str(result.options.get("preset")))
    if chosen is None or not chosen.whose:
        return result.notes
    return (f"preset {chosen.name!r}: the choices are {chosen.whose}", *result.notes)


def note_lines(result: Result) -> list[str]:
    """Return a line for each note."""
    return [f"Note: {note}." for note in notes(result)]


DEMO = "cross-encoder/ms-marco-MiniLM-L-12-v2 (the demo model, int8)"


def model_name(name: object) -> str:
    """Name a model in a sentence; the built-in one by the model that it is made from.

    >>> model_name("demo"), model_name("me/mine")
    ('cross-encoder/ms-marco-MiniLM-L-12-v2 (the demo model, int8)', 'me/mine')
    """
    return DEMO if name == "demo" else shown(name, 120)


def subject(result: Result) -> str:
    """Say which model was run on which collections, and on how many pairs."""
    model, pairs = result.identity.get("model"), result.identity.get("pairs")
    if not isinstance(model, Mapping) or not isinstance(pairs, Mapping):
        return ""
    names = [str(source["collection"]) for source in pairs["sources"] if source["collection"]]
    where = f" on {', '.join(names)}" if names else ""
    return f"{model['name']}{where}: {counted(pairs['number'], 'pair')}"


def number(value: object) -> float:
    """Return a table's value as a number, NaN where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    return float(value)


def known(values: Sequence[object]) -> list[float]:
    """Return the finite numbers among values."""
    return [value for value in map(number, values) if isfinite(value)]


def place_of(row: Mapping[str, object]) -> tuple[int, int]:
    """Return the layer and head that a row is about."""
    return int(number(row["layer"])), int(number(row["head"]))


def share(value: object) -> str:
    """Format a share in percent, ``-`` where it is unknown.

    >>> share(0.714), share(None)
    ('71%', '-')
    """
    return f"{value:.0%}" if isinstance(value, int | float) else "-"


def shown(text: object, most: int | None = None) -> str:
    """Spell out control and direction characters, and clip a text to a length.

    >>> shown("a\\x00b\\u202ec"), shown("abcdef", 4)
    ('a⟨U+0000⟩b⟨U+202E⟩c', 'abc…')
    """
    whole = str(text)
    if most is not None and len(whole) > most:
        whole = whole[: most - 1] + "…"
    return "".join(map(_visible, whole))


def plain(text: object, most: int = 300) -> str:
    """A text fit for a terminal's line: no control characters, no marks of direction, not long.

    >>> plain("a\\n b\\x1b[31m" + chr(0x202E))
    'a b\\ufffd[31m\\ufffd'
    """
    line = visible(" ".join(str(text)[: 4 * most].split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def _visible(sign: str) -> str:
    if sign in "\t\n\r":
        return " "
    if unicodedata.category(sign) in _HIDDEN and sign not in _KEPT:
        return f"⟨U+{ord(sign):04X}⟩"
    return sign


def num(value: object, digits: int = 3, *, sign: bool = False) -> str:
    """Format a number as papers do, with a true minus; an en dash where unknown.

    >>> num(-0.0312), num(0.5, 2, sign=True), num(None), num(float("nan")), num(12.0, 1)
    ('−.031', '+.50', '–', '–', '12.0')
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or isnan(value):
        return NONE
    text = printed(value, digits)
    if sign and not text.startswith("-") and text.strip("0.") != "":
        text = f"+{text}"
    return text.replace("-", MINUS)


def chance(p: object) -> str:
    """Format a p value with three decimals, or as a bound where it is smaller.

    >>> chance(0.0421), chance(0.00002), chance(None), chance(1.0)
    ('.042', '<.001', '–', '1.000')
    """
    if isinstance(p, int | float) and 0 <= p < 0.0005:
        return "<.001"
    return num(p, 3)


def equals(name: str, p: object) -> str:
    """Format a named p value, with an equals sign or as a bound.

    >>> equals("p", 0.0), equals("p Holm", 0.5)
    ('p < .001', 'p Holm = .500')
    """
    text = chance(p)
    return f"{name} < {text[1:]}" if text.startswith("<") else f"{name} = {text}"


def interval(low: object, high: object, digits: int = 3) -> str:
    """Format an interval in brackets; an en dash where it is unknown.

    >>> interval(-0.02, 0.01), interval(None, None)
    ('[−.020, .010]', '–')
    """
    ends = num(low, digits), num(high, digits)
    return NONE if NONE in ends else f"[{ends[0]}, {ends[1]}]"


def arrow(text: object) -> str:
    """Write a cut with arrows in place of ``->``, clipped where it is long.

    >>> arrow("Q->D@0:3")
    'Q\\xa0→\\xa0D@0:3'
    """
    return shown(text, LONG).replace("->", ARROW)


def prose(text: object) -> str:
    """Give a sentence that was written for a terminal true arrows and minus signs.

    >>> prose("X -> Y changes it by -.025 [-.04, .01] of (original - random)")
    'X\\xa0→\\xa0Y changes it by −.025 [−.04, .01] of (original − random)'
    """
    words = re.sub(r" ?-> ?", ARROW, re.sub(r"(?<![\w.)])-(?=\.?\d)", MINUS, shown(text)))
    return words.replace("<=", "≤").replace(">=", "≥").replace(" - ", f" {MINUS} ")


def reads(text: object) -> str:
    """Describe a direction or cut in words; empty where it is neither.

    >>> reads("Q->D"), reads("Q->D@0:2"), reads("no cut at all")
    ('the query reads the document', 'the query reads the document, in layers 0 to 1', '')
    """
    try:
        cut = Cut.parse(str(text))
    except InputError:
        return ""
    words = "; ".join(direction.words for direction in cut.directions)
    if cut.layers is not None:
        words += f", in {_layers(cut.layers)}"
    if cut.heads is not None:
        names = [f"{layer}.{head}" for layer, head in cut.heads[:6]]
        more = f" and {len(cut.heads) - 6} more" if len(cut.heads) > 6 else ""
        words += f", in {'head' if len(cut.heads) == 1 else 'heads'} {', '.join(names)}{more}"
    if str(cut.how) != "zero":
        words += f" (by {cut.how})"
    return words


def what_is_cut(text: object) -> str:
    """Name what a cut, or a set of cuts by its name, takes away, as the object of a sentence.

    >>> what_is_cut("D->D"), what_is_cut("D->Q@1"), what_is_cut("CLS->All")
    ('what the document reads of itself', 'what the document reads of the query, in layer 1', \
'all that CLS reads')
    """
    try:
        cut = Cut.parse(str(text))
    except InputError:  # a set of cuts
        return f"what the cuts of {shown(text)} take away"
    objects = []
    for direction in cut.directions:
        reader, verb, read = re.split(" (reads?) ", direction.words, maxsplit=1)
        if direction.right is None:
            objects.append(f"all that {reader} {verb}")
        else:
            own = "itself" if verb == "reads" else "themselves"
            objects.append(f"what {reader} {verb} of {own if read == reader else read}")
    rest = str(replace(cut, directions=(Direction.parse("Q->D"),)))
    return " and ".join(objects) + reads(rest).removeprefix("the query reads the document")


def _layers(layers: Sequence[int]) -> str:
    if not layers:
        return "no layer"
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers))}"


def both(text: object) -> str:
    """Write a direction in symbols and in words.

    >>> both("Q->D")
    'Q\\xa0→\\xa0D: the query reads the document'
    """
    words = reads(text)
    return f"{arrow(text)}: {words}" if words else arrow(text)


def glossed(text: object) -> str:
    """Write a direction in symbols, with its words in parentheses, for the middle of a sentence.

    >>> glossed("Q->D")
    'Q\\xa0→\\xa0D (the query reads the document)'
    """
    words = reads(text)
    return f"{arrow(text)} ({words})" if words else arrow(text)


def wrapped(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """Wrap a text for a terminal, with another indent of its first line where given."""
    start = indent if first is None else first
    return textwrap.wrap(
        text, 100, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False
    )


def listed(values: Sequence[str]) -> str:
    """List words in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"


def slug(text: object) -> str:
    """Turn a text into a part of an id or a file name: small letters, digits and hyphens.

    >>> slug("Q->D"), slug("relevant-easy"), slug("<script>")
    ('q-d', 'relevant-easy', 'script')
    """
    return re.sub(r"[^a-z0-9]+", "-", str(text)[:80].lower()).strip("-") or "x"


def spelled(value: object) -> str:
    """Write an option's value as text.

    >>> spelled(None), spelled(True), spelled(["a", "b"]), spelled({"q": 0.05}), spelled(1e-05)
    ('none', 'yes', 'a, b', 'q .05', '1e-05')
    """
    if value is None or value in ([], ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        text = f"{value:.6g}"
        return text.replace("0.", ".", 1) if abs(value) < 1 else text
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {spelled(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(spelled, value))
    return shown(value)


def embedded(content: object) -> str:
    """Write JSON that is safe inside a script element: nothing in it can close the element.

    >>> embedded("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text

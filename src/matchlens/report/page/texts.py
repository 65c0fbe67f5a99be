"""Text and numbers as the page shows them; what strangers wrote is made harmless and visible."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from math import isnan

from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.report.numbers import printed

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
"""Where nothing is known."""
ARROW = "\N{NO-BREAK SPACE}\N{RIGHTWARDS ARROW}\N{NO-BREAK SPACE}"
LONG = 240
"""Characters of a text in a title or a label."""
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_KEPT = {"\N{SOFT HYPHEN}", "\N{ZERO WIDTH JOINER}", "\N{ZERO WIDTH NON-JOINER}"}


def shown(text: object, most: int | None = None) -> str:
    """A text with its control and direction characters spelled out, cut to a length.

    Args:
        text: what came from a file, a model or a person.
        most: at most so many characters; all where None.

    >>> shown("a\\x00b\\u202ec"), shown("abcdef", 4)
    ('a⟨U+0000⟩b⟨U+202E⟩c', 'abc…')
    """
    whole = str(text)
    if most is not None and len(whole) > most:
        whole = whole[: most - 1] + "…"
    return "".join(map(_visible, whole))


def _visible(sign: str) -> str:
    if sign in "\t\n\r":
        return " "
    if unicodedata.category(sign) in _HIDDEN and sign not in _KEPT:
        return f"⟨U+{ord(sign):04X}⟩"
    return sign


def num(value: object, digits: int = 3, *, sign: bool = False) -> str:
    """A number as papers print it, with a real minus; nothing known is a dash.

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
    """A p value with three decimals, small ones as a bound.

    >>> chance(0.0421), chance(0.00002), chance(None), chance(1.0)
    ('.042', '<.001', '–', '1.000')
    """
    if isinstance(p, int | float) and 0 <= p < 0.0005:
        return "<.001"
    return num(p, 3)


def equals(name: str, p: object) -> str:
    """A named p value: with a bound or an equals sign.

    >>> equals("p", 0.0), equals("p Holm", 0.5)
    ('p < .001', 'p Holm = .500')
    """
    text = chance(p)
    return f"{name} < {text[1:]}" if text.startswith("<") else f"{name} = {text}"


def interval(low: object, high: object, digits: int = 3) -> str:
    """A 95% interval in brackets; a dash where it is not known.

    >>> interval(-0.02, 0.01), interval(None, None)
    ('[−.020, .010]', '–')
    """
    ends = num(low, digits), num(high, digits)
    return NONE if NONE in ends else f"[{ends[0]}, {ends[1]}]"


def arrow(text: object) -> str:
    """A cut with arrows in place of ``->``; a long one is cut.

    >>> arrow("Q->D@0:3")
    'Q\\xa0→\\xa0D@0:3'
    """
    return shown(text, LONG).replace("->", ARROW)


def prose(text: object) -> str:
    """A sentence that was made for a terminal, with real arrows and minus signs.

    >>> prose("D->Q changes it by -.025 [-.04, .01]")
    'D\\xa0→\\xa0Q changes it by −.025 [−.04, .01]'
    """
    return re.sub(r"(?<![\w.)])-(?=\.?\d)", MINUS, shown(text)).replace("->", ARROW)


def reads(text: object) -> str:
    """A direction or cut in words; empty where it has none.

    >>> reads("Q->D"), reads("Q->D@0:2"), reads("no cut at all")
    ('the query reads the document', 'the query reads the document, in layers 0 to 1', '')
    """
    try:
        cut = Cut.parse(str(text))
    except InputError:
        return ""
    said = "; ".join(direction.words for direction in cut.directions)
    if cut.layers is not None:
        said += f", in {_layers(cut.layers)}"
    if cut.heads is not None:
        some = [f"{layer}.{head}" for layer, head in cut.heads[:6]]
        more = f" and {len(cut.heads) - 6} more" if len(cut.heads) > 6 else ""
        said += f", in head{'s' if len(cut.heads) > 1 else ''} {', '.join(some)}{more}"
    if str(cut.how) != "zero":
        said += f" (by {cut.how})"
    return said


def _layers(layers: Sequence[int]) -> str:
    if not layers:
        return "no layer"
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers))}"


def both(text: object) -> str:
    """A direction said in both ways.

    >>> both("Q->D")
    'Q\\xa0→\\xa0D: the query reads the document'
    """
    words = reads(text)
    return f"{arrow(text)}: {words}" if words else arrow(text)


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "query", "queries"), counted(12, "pair")
    ('1 query', '12 pairs')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(values: Sequence[str]) -> str:
    """Words in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"


def slug(text: object) -> str:
    """A text as part of an id or a file name: small letters, digits and hyphens.

    >>> slug("Q->D"), slug("relevant-easy"), slug("<script>")
    ('q-d', 'relevant-easy', 'script')
    """
    return re.sub(r"[^a-z0-9]+", "-", str(text)[:80].lower()).strip("-") or "x"


def spelled(value: object) -> str:
    """An option's value as text.

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
        return ", ".join(f"{key} {spelled(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(spelled, value))
    return shown(value)


def embedded(content: object) -> str:
    """JSON that may stand inside a script element: nothing in it can close the element.

    Args:
        content: plain values.

    >>> embedded("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text

"""The options of the circuits study that can be checked before torch is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matchlens.corpora import Pair, PairSet, thin
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.models.folder import ModelFolder
from matchlens.parts import Part
from matchlens.studies.common import half, half_of
from matchlens.studies.contrasts import CLASSES, Classes, by_half

CONTRASTS = ("QD-DD", "DQ-QQ", "QD-QQ", "DQ-DD")
"""The contrasts of :data:`matchlens.circuits.CONTRASTS`, whose words are there."""
COMPANIONS: Mapping[str, str] = {
    "QD-DD": "DQ-QQ",
    "DQ-QQ": "QD-DD",
    "QD-QQ": "DQ-DD",
    "DQ-DD": "QD-QQ",
}
"""Each contrast's companion: the same with query and document exchanged."""
VARIANTS: Mapping[str, str] = {
    "all": "alignment",
    "positive": "alignment_positive",
    "above": "alignment_above",
}
"""Variants of the alignment, and the column of the heads' table that holds each."""
COLOURING = "relevant-easy"
"""The contrast of attention mass that colours Figure 2."""
RESAMPLED = "contrast_resampled"
"""The array that holds the contrast QD-DD in resamples of the queries."""
TOP = 6
"""Heads whose vocabulary is looked at, where none is named."""
MATCHES = 50
"""Token pairs kept a head."""
CROSS = 0.1
"""A head's cross terms are near 0 where the share of each is at most so far from 0."""

Heads = tuple[tuple[int, int], ...]


def checked(contrast: str, variant: str, top: int, matches: int) -> None:
    """See that the study's own options can be used.

    Raises:
        InputError: if one cannot.
    """
    if contrast not in CONTRASTS:
        raise InputError(
            f"contrast {contrast!r} is not known; expected one of {', '.join(CONTRASTS)}"
        )
    if variant not in VARIANTS:
        raise InputError(f"variant {variant!r} is not known; expected one of {', '.join(VARIANTS)}")
    if top < 0:
        raise InputError(f"top is {top}; expected 1 head or more, or 0 for none")
    if matches < 1:
        raise InputError(f"matches is {matches}; expected at least 1 token pair of each head")


def named_heads(
    given: Iterable[str | tuple[int, int]] | None, layers: int | None = None, heads: int = 0
) -> Heads | None:
    """Heads named as ``layer.head``, several with commas between them, each once.

    Args:
        given: the names, or (layer, head); None: none is named.
        layers: how many layers the model has; not checked where None.
        heads: how many heads a layer has.

    Raises:
        InputError: if a name cannot be read, or the model has no such head.

    >>> named_heads(["8.1,4.9", (0, 3)])
    ((8, 1), (4, 9), (0, 3))
    """
    if given is None:
        return None
    found: list[tuple[int, int]] = []
    for one in given:
        whole = one if isinstance(one, str) else f"{one[0]}.{one[1]}"
        for text in whole.split(","):  # one by one, since a cut's heads are sorted
            try:
                cut = Cut.parse(f"Q->D#{text}")
            except InputError:
                raise InputError(f"head {whole!r}: expected layer.head, as in '8.1,4.9'") from None
            if layers is not None:
                cut.check(layers, heads)
            found += [(int(layer), int(head)) for layer, head in cut.heads or ()]
    if not found:
        raise InputError("no head is named; expected at least one as layer.head, as in '8.1,4.9'")
    return tuple(dict.fromkeys(found))


def document_parts(preset: str) -> tuple[Part, ...]:
    """The parts whose tokens are the document's: the ``authors`` preset counts SEP2 among them.

    Source: science 8.
    """
    return (Part.D, Part.SEP2) if preset == "authors" else (Part.D,)


def checked_halves(pairs: Sequence[Pair], rel: int, seed: int) -> tuple[Classes, Classes]:
    """The classes of both halves of the queries: half 0 gives the means, half 1 the colours.

    Raises:
        InputError: if a half lacks what it is needed for.
    """
    classes = Classes.of(pairs, rel)
    classes.check([COLOURING])
    halves = {qid: half(qid, seed) for qid in classes.qids}
    first, second = (by_half(halves, classes, which) for which in (0, 1))
    number = len(classes.qids)
    if not (first.of_pair >= 0).any():
        raise InputError(
            f"half of the {number} queries, by the seed, give the mean states, and none of them "
            f"has a passage that is {' or '.join(CLASSES)}; give more queries, or another seed"
        )
    try:
        second.check([COLOURING])
    except InputError:
        raise InputError(
            f"half of the {number} queries, by the seed, give the colours of the plot, and none of "
            "them has both relevant and easy passages; give more queries, or another seed"
        ) from None
    return first, second


def other_half(pairs: PairSet, seed: int, most: int | None) -> PairSet:
    """The pairs of the half that colours the plot, easy negatives among them; at most so many.

    Args:
        pairs: all pairs.
        seed: of the halves and the thinning.
        most: at most so many; all where None.

    Raises:
        InputError: if ``most`` is too small for a single query.
    """
    kept = half_of(pairs, 1, seed)
    return kept if most is None else thin(kept, most, seed=seed, easy=True)[0]


def check_base(folder: ModelFolder, base: ModelFolder) -> None:
    """See that a second model has the shape of the first.

    Raises:
        InputError: if it has not; it says both.
    """
    ours, theirs = ((*one.shape, one.config.hidden_size) for one in (folder, base))
    check_shapes(ours, theirs, base.name)


def check_shapes(ours: tuple[object, ...], theirs: tuple[object, ...], name: str) -> None:
    """See that two shapes (layers, heads, width) are equal.

    Raises:
        InputError: if they are not.
    """
    if ours != theirs:
        one, other = (" x ".join(map(str, shape)) for shape in (ours, theirs))
        raise InputError(
            f"base model {name!r} has {other} (layers x heads x width), the model {one}; expected "
            "the model before it was fine-tuned, which has the same shape"
        )

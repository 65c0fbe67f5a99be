"""What the check asks of scores: the library's own, one a pair, and moved by a cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from matchlens.batching import collate
from matchlens.corpora.pair import Pair
from matchlens.errors import InputError, counted
from matchlens.models.checks.item import HALF, SCORES, Item, within
from matchlens.models.checks.passes import Removal, Trial, library, look_on, score, scored, walk
from matchlens.parts import Part

SHORT = 16
"""Below so many tokens the built-in pairs may be cut to the same ones."""
TYPES = "token_type_embeddings"
"""What the library calls a table of token types."""


def scores(trial: Trial) -> Iterator[Item]:
    """Scores without a cut are the library's own, together and alone, in any order."""
    bound = SCORES[trial.reranker.dtype] * trial.scale
    own = trial.library
    if own.logits is None:
        ran = "library_score did not run the library's model, whose scores ours are held against"
        yield Item("library_alone", None, exactly=0, problem=ran)
    else:
        text = f"the library's own pass called matchlens's attention function {own.calls} times"
        yield Item("library_alone", own.calls, exactly=0, problem=text)
        yield from _labels(trial, own.logits)
        yield from _answers(trial, own.logits)
    difference = _difference(trial.plain, own.scores)
    padded = " with padding" if not bool(trial.both.mask.all()) else ""
    text = f"scores without a cut differ from the library's own by {difference:.2g} logits{padded}"
    yield within("scores_together", difference, bound, text)
    difference = max(
        _difference(scored(trial.family, pair), library(trial.family, pair).scores)
        for pair in trial.alone
    )
    text = f"scores of a pair alone differ from the library's own by {difference:.2g} logits"
    yield within("scores_alone", difference, bound, text)
    turned = scored(trial.family, trial.turned)
    difference = _difference(turned.flip(0), trial.plain)
    text = f"in a batch turned round the same pairs score otherwise by {difference:.2g} logits"
    yield Item(
        "order", difference, most=bound, problem=f"{text}: a score does not belong to its pair"
    )
    difference = _difference(trial.plain[:1], trial.plain[1:])
    text = "two different texts have one score: the score does not come from the text"
    limits = trial.reranker.limits
    if limits and trial.reranker.max_length < SHORT:
        limit = min(limits, key=lambda name: limits[name])
        text += f", of which a pair has {trial.reranker.max_length} tokens at most ({limit})"
    yield Item("texts", difference, above=0, problem=text)


def _labels(trial: Trial, logits: Tensor) -> Iterator[Item]:
    """A sequence classifier returns as many logits as its config declares."""
    if logits.ndim != 2:
        return
    declared, returned = trial.family.module.config.num_labels, logits.shape[1]
    text = labels_differ(declared, returned)
    yield Item("labels", returned, exactly=declared, problem=text)


def _answers(trial: Trial, logits: Tensor) -> Iterator[Item]:
    """A causal model's score is read off the tokens that the prompt's answers are."""
    reranker = trial.reranker
    if logits.ndim != 3 or reranker.prompt is None:
        return
    # of one decoder step the only place, of a causal model the last
    backend, last = reranker.tokenizer.backend_tokenizer, logits[:, -1].float()
    expected = torch.zeros_like(last[:, 0])
    words = [word for word in (reranker.prompt.yes, reranker.prompt.no) if word is not None]
    tokens = [backend.encode(word, add_special_tokens=False).ids for word in words]
    if named := reranker.serving.answers:
        tokens = [[token] for token in named if token is not None]
    for (token,), sign in zip(tokens, (1, -1), strict=False):
        expected = expected + sign * last[:, token]
    limit = SCORES[reranker.dtype] * trial.scale
    off = _difference(trial.plain, expected)
    text = f"the score is off the logits of {reranker.prompt.relevance} by {off:.2g}"
    yield within("answers", off, limit, text)


def labels_differ(declared: int, returned: int) -> str:
    """What to say of a model that returns other logits than its config declares labels.

    >>> labels_differ(2, 1).split(", ")[0]
    'its config declares 2 labels and it returns 1 logit a pair'
    """
    return (
        f"its config declares {counted(declared, 'label')} and it returns "
        f"{counted(returned, 'logit')} a pair, so that relevance is not known (write the right "
        "id2label or num_labels into config.json, or save the head that the model was "
        "trained with)"
    )


def bites(trial: Trial) -> Iterator[Item]:
    """Cutting what the score reads leaves it blind; cutting one direction moves it."""
    family = trial.family
    rows = Removal(family.score_parts)
    yield _blind(trial, rows)
    direction, layer = _last_reading(trial)
    cut = trial.onwards(layer, direction)
    # without a cut, both ways: weights that somebody sees are rounded as weights that are cut
    uncut = trial.entering[0][-1], trial.onwards(layer, watch=look_on)
    moved = score(family, trial.both, cut)
    difference = min(_difference(moved, score(family, trial.both, out)) for out in uncut)
    # In half precision scores are coarse: look at what they are read off.
    if difference == 0 and trial.reranker.dtype in HALF:
        difference = min(_difference(cut, out) for out in uncut)
    text = f"cutting {direction} in layer {layer} changes no score"
    yield Item("one_cut", difference, above=0, problem=text)


def _last_reading(trial: Trial) -> tuple[Removal, int]:
    """A direction that the score's rows read in, and the last layer in which they do."""
    # They read the passage where they can. Short windows in all layers may keep it, and the query,
    # out of their sight.
    family = trial.family
    for columns in ((Part.D,), (Part.Q,)):
        direction = Removal(family.score_parts, columns)
        edges = direction.spread(trial.both).cpu()
        for layer in reversed(range(min(family.n_layers, len(trial.library.maps)))):
            if bool((trial.library.maps[layer].amax(1).cpu() * edges).any()):
                return direction, layer
    return Removal(family.score_parts), family.n_layers - 1


def _blind(trial: Trial, rows: Removal) -> Item:
    """The rows that the score reads -> All, in all layers."""
    # Where they are tokens of the query or the passage themselves (mean pooling, or a decoder
    # without a prompt), the scores of two pairs still differ by their words; then no row may know
    # another: one token of the passage is replaced, and the outcome of all other rows must stay.
    family, tolerance = trial.family, SCORES[trial.reranker.dtype]
    read = trial.both.input_ids[:, family.score_rows]
    if not {Part.Q, Part.D} & set(rows.rows) and torch.equal(read[0], read[1]):
        scores_cut = scored(family, trial.both, rows)
        difference, limit = _difference(scores_cut[:1], scores_cut[1:]), tolerance * trial.scale
        text = f"with {rows} cut, two different pairs still differ by {difference:.2g} logits"
        return within("blind", difference, limit, text)
    batch, everything = trial.alone[0], Removal(tuple(Part))
    (place,) = torch.nonzero(batch.parts[0] == Part.D)[0].tolist()
    ids = batch.input_ids.clone()
    ids[0, place] = trial.alone[1].input_ids[0, -1]  # a separator, or another word
    before, after = (
        walk(family, encoded, everything, all_rows=True)[0]
        for encoded in (batch, replace(batch, input_ids=ids))
    )
    others = torch.arange(len(before), device=before.device) != place
    limit = tolerance * max(1.0, float(before.abs().max()))
    difference = _difference(before[others], after[others])
    text = f"with {rows} cut, a token still changes the outcome of others by {difference:.2g}"
    return within("blind", difference, limit, text)


def token_types(trial: Trial) -> Iterator[Item]:
    """Where the model has two token types, they are fed: flipping the passage's moves the score."""
    family = trial.family
    tables = [
        table.weight
        for name, table in family.module.named_modules()
        if name.endswith(TYPES) and isinstance(table, torch.nn.Embedding)
    ]
    if not tables or len(tables[0]) < 2:
        return
    if not family.token_types:
        text = f"the model has {len(tables[0])} token types and is fed none"
        yield Item("token_types_felt", 0, above=0, problem=text)
        return
    types = trial.both.token_type_ids
    turned = torch.where(trial.both.parts == Part.D, 1 - types, types)
    flipped = replace(trial.both, token_type_ids=turned)
    ours, own = scored(family, flipped), library(family, flipped).scores
    limit = SCORES[trial.reranker.dtype] * max(1.0, float(own.abs().max()))
    difference = _difference(ours, own)
    flipping = "with the passage's token types flipped"
    text = f"{flipping}, scores differ from the library's by {difference:.2g}"
    yield within("token_types", difference, limit, text)
    if not torch.equal(tables[0][0], tables[0][1]):  # two equal types cannot be told apart
        difference = min(_difference(ours, trial.plain), _difference(own, trial.library.scores))
        text = "flipping the passage's token types changes no score: they are not fed to the model"
        yield Item("token_types_felt", difference, above=0, problem=text)


def _difference(first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"]) -> float:
    """The largest difference of two tensors; NaN stays NaN."""
    return float((first.double() - second.double()).abs().max())


ASKED = (
    ("how many legs does a spider have", "Spiders have eight legs, insects have six."),
    ("capital of france", "Paris is the capital and the largest city of France."),
    ("what temperature does water boil at", "Water boils at 100 degrees Celsius at sea level."),
    ("who wrote hamlet", "Hamlet is a tragedy written by William Shakespeare around 1600."),
    ("how to treat a bee sting", "Remove the stinger, wash the sting and put ice on it."),
    ("why is the sky blue", "The sky is blue because air scatters blue light more than red."),
    ("price of a postage stamp", "A first class postage stamp costs about 70 cents."),
    ("symptoms of the flu", "Flu brings fever, cough, a sore throat and aching muscles."),
)
"""Queries, each with the passage that answers it; it answers none of the others."""


def relevant_above(reranker: Any) -> Iterator[Item]:
    """How many queries' own passage scores no lower than the next query's, for a warning.

    Every passage is once the relevant one and once the other, so that no liking for a passage or
    a query alone turns all of them round. Nothing is seen where the pairs are too long.
    """
    pairs = [
        Pair("check", f"{number}", query, ASKED[(number + step) % len(ASKED)][1], 1 - step)
        for step in (0, 1)
        for number, (query, _) in enumerate(ASKED)
    ]
    try:
        encoded = reranker.encode(pairs)
    except InputError:  # the limit leaves a passage no token beside the one that the score reads
        encoded = None
    if encoded is None or encoded.truncated.any():
        yield Item("relevant_above", None)
        return
    rows = np.arange(len(pairs))
    batch = collate(encoded, rows, pad_id=reranker.pad_id, device=reranker.device)
    logits = scored(reranker.family, batch)
    relevant, other = (-logits if reranker.negate else logits).unflatten(0, (2, -1))
    yield Item("relevant_above", int((relevant >= other).sum()))

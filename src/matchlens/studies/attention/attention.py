"""Where attention goes, how it differs with relevance, and which heads match (Figures 1b, 1c)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.arguments import typed
from matchlens.corpora import Pair, PairSet
from matchlens.corpora.own import own_parts
from matchlens.directions import Cut, Direction
from matchlens.errors import InputError
from matchlens.meters.names import NAMES, PARTS
from matchlens.parts import AnyPart, Part
from matchlens.plan import Condition, bound
from matchlens.ranking import parse_measure
from matchlens.ranking.effects import ALPHA
from matchlens.results import Result
from matchlens.studies.attention import matching, profiles
from matchlens.studies.attention.contrasts import (
    CONTRASTS,
    MATCHING,
    Classes,
    Thresholds,
    checked_directions,
    checked_names,
    contrast_table,
    places,
)
from matchlens.studies.attention.matching import Causal
from matchlens.studies.attention.profiles import (
    distributions,
    layer_depths,
    moments,
    negatives,
    taken,
)
from matchlens.studies.attention.watching import DERIVED, Reader, Watched, watch
from matchlens.studies.common import (
    Execution,
    identity,
    own_notes,
    pair_table,
    relevant_grade,
    run_options,
    tolerance,
    truncation_note,
)
from matchlens.studies.cuts.cut_modes import reason
from matchlens.studies.cuts.head_sets import RANDOM_SETS, checked_random
from matchlens.studies.cuts.measuring import score_table
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.presets import preset as preset_of

if TYPE_CHECKING:
    from matchlens.engine import Progress, Run
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


MINILM = frozenset(
    {"demo", "cross-encoder/ms-marco-MiniLM-L-12-v2", "cross-encoder/ms-marco-MiniLM-L12-v2"}
)
LISTS: Mapping[str, str] = {
    "matching": "7.9 8.1 4.9 2.1 8.8 6.5 1.7 5.7 5.9 3.1 8.0 6.3 0.8",
    "scoring": "10.1 10.4 10.7 10.10",
    "contextual query": "8.10 9.11",
}
"""The heads of Lu, Chen & Eickhoff 2025, layer and head counted from 0."""


def beside_published(identity: Mapping[str, object], matching: pd.DataFrame) -> pd.DataFrame | None:
    """The heads of Lu et al. 2025 beside those of the study, for ms-marco-MiniLM-L-12-v2.

    They were identified by path patching on pairs that differ in one query term and belong to no
    direction. The list of matching heads is that of the authors' code for the linear model; the
    other two were taken from the paper at second hand.

    Returns:
        One row for each published head and direction of the study: list, layer, head, direction,
        matching, held, kind, auc. None for another model, or where no heads were searched.

    Source: Lu, Chen & Eickhoff 2025 (arXiv 2502.04645), mlu108/CrossEncoderBM25.
    """
    if identity.get("name") not in MINILM or matching.empty:
        return None
    published = pd.DataFrame(
        [
            (name, *map(int, head.split(".")))
            for name, heads in LISTS.items()
            for head in heads.split()
        ],
        columns=pd.Index(["list", "layer", "head"]),
    )
    columns = ["layer", "head", "direction", "matching", "held", "kind", "auc"]
    return published.merge(matching[columns], on=["layer", "head"], how="left")


NAME = "attention"


@typed
def attention(
    model: Reranker,
    pairs: PairSet,
    *,
    meters: Sequence[str] | None = None,
    contrasts: Sequence[str] = CONTRASTS,
    directions: Sequence[str | Direction] = MATCHING,
    preset: str = "default",
    aggregate: str | None = None,
    rel: int | None = None,
    thresholds: Thresholds | None = None,
    causal: bool = True,
    random: int = RANDOM_SETS,
    measure: str = "nDCG@10",
    tie_tol: float | None = None,
    most_pairs: int | None = COSTLY_PAIRS,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    watched: Watched | None = None,
    runner: Runner | None = None,
) -> Result:
    """Measure attention between the input's parts, its contrasts, and the matching heads.

    Args:
        model: a loaded reranker.
        pairs: queries with passages of several grades, with easy negatives for their contrasts
            (``matchlens.choose(collection, easy=10)``).
        meters: some of ``mass``, ``norm_mass``, ``same_token``, ``same_stem``, ``peak``,
            ``entropy``; the preset's where None. ``mass`` is always measured; with ``same_stem``
            come the masses that distinguish the kinds of matching heads.
        contrasts: some of ``relevant-easy``, ``relevant-hard``, ``hard-easy``.
        directions: directions in which matching heads are searched.
        preset: ``default`` (all meters, mean over queries, all pairs), ``paper`` (mass, the same),
            ``authors`` (peak; median over queries; pairs classified rightly; at most 20 a class).
        aggregate: ``mean`` or ``median`` over queries; the preset's where None.
        thresholds: the conditions for a matching head.
        causal: whether the matching heads are cut.
        random: random sets of heads beside each set of matching heads.
        measure: of the rankings under those cuts.
        most_pairs: at most so many pairs for those cuts; all where None.
        watched: the untouched pass over these pairs, where another study shares it; it is run
            where None.

    The arguments ``rel``, ``tie_tol`` (of the rankings under those cuts), ``seed``,
    ``batch_tokens``, ``progress`` and ``runner`` are those of :func:`matchlens.ablation`.

    Returns:
        Tables ``contrasts`` (meter, contrast, direction, layer, head: diff, p, q, auc),
        ``matching`` (every head on both halves of the queries, its kind, and what cutting it does),
        ``conditions`` (heads left after each condition), ``references`` (what the texts alone
        tell), ``published`` (the heads of Lu et al. 2025, where the model is theirs), ``sets``
        and ``set_points`` (the matching heads against random sets), ``noop``, ``lexical``,
        ``kinds`` (where the collection marks exact words and paraphrases), ``stages`` and
        ``negatives`` (depth of lexical and semantic matching; semantic mass of
        negatives), ``moments`` and ``distributions``; and the meters' arrays
        (:meth:`Result.array`).

    Raises:
        InputError: if an option cannot be used, or a contrast has an empty class.

    Source: science 4; Vast et al. 2025, Figures 1b and 1c.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=6, per_grade=2, easy=2)
    >>> model = matchlens.load("demo")
    >>> result = matchlens.attention(model, pairs, meters=["mass"], causal=False)
    >>> result.array("mass").shape
    (60, 12, 12, 5, 5)
    """
    chosen = preset_of(preset)
    names = checked_names(["mass", *(chosen.meters if meters is None else meters)])
    average = aggregate or chosen.aggregate
    texts = checked_directions(directions)
    named = bound({text: [Cut.parse(text)] for text in texts}, own_parts(pairs.pairs))
    limits, rel = thresholds or Thresholds(), relevant_grade(pairs, rel)
    classes = Classes.of(pairs.pairs, rel)
    classes.check(contrasts)
    tol = tolerance(tie_tol, model.dtype)
    to_cut, uncut = None, ""
    if causal:  # before anything runs, so that a slip costs nothing
        checked_random(random)
        parse_measure(measure, rel=rel)
        to_cut, uncut = matching.to_cut(pairs, seed, most_pairs, measure, rel)
    if watched is None:
        watched = watch(
            model, pairs, names, batch_tokens=batch_tokens, progress=progress, runner=runner
        )
    out, arrays = watched.out, watched.only(names)
    if chosen.per_class is not None:
        classes = taken(classes, out.scores.of(""), pairs.pairs, chosen.per_class, seed)
        try:
            classes.check(contrasts)
        except InputError as error:
            raise InputError(
                f"{error}; or use another preset than {chosen.name!r}, which takes only "
                "passages that the model classifies rightly"
            ) from None
    reader = Reader(arrays, watched.parts)
    tables = {"contrasts": _contrasts(reader, classes, contrasts, average)}
    notes = [*pairs.notes, *model.notes, *_notes(model, out, classes, pairs.pairs, named)]
    if uncut:
        notes.append(f"matching heads are not cut: {uncut}")
    lengths = _passage_lengths(model, pairs, out)
    every, by_half, more, own = _matching(reader, classes, texts, lengths, seed, limits)
    tables |= own
    notes += more
    if (published := beside_published(model.identity, every)) is not None:
        tables["published"] = published
    effect = None
    if to_cut is not None and not every.empty and bool(every["matching"].to_numpy().any()):
        effect = matching.cut(
            Execution(model, batch_tokens, progress, runner),
            *to_cut,
            pd.DataFrame(every[every["matching"]]),
            masses=matching.masses_of(reader, pairs, to_cut[0], texts),
            tol=tol,
            seed=seed,
            random=random,
        )
    tables |= _causal(tables, effect)
    tables |= _profiles(reader, classes, pairs)
    among = [text for text in texts if _lexical(reader, *places(text))]
    tables["stages"] = layer_depths(reader, classes, among, seed)
    tables["negatives"] = negatives(reader, classes, by_half, among, seed)
    tables["moments"] = moments({name: arrays[name] for name in names}, classes, reader.parts)
    tables["distributions"] = distributions(reader.of, classes, every, texts)
    return Result(
        study=NAME,
        identity=identity(model.identity, pairs),
        options={
            "meters": list(names),
            "contrasts": list(contrasts),
            "directions": texts,
            "preset": chosen.name,
            "digits": chosen.digits,
            "aggregate": average,
            "rel": rel,
            "per_class": chosen.per_class,
            "thresholds": asdict(limits),
            "causal": effect is not None,
            "random": random,
            "measure": measure,
            "tie_tol": tol,
            "most_pairs": most_pairs,
            "pairs_cut": None if effect is None else effect.pairs,
            "layer_passes_cut": None if effect is None else effect.passes,
            "seed": seed,
            "parts": [str(part) for part in reader.parts],
            **run_options(model, out),
        },
        notes=(*notes, *(() if effect is None else effect.notes)),
        pairs=pair_table(pairs.pairs, out.tokens, out.truncated, seed),
        scores=score_table(out, range(len(pairs.pairs))),
        tables=tables,
        log=(f"{NAME}: {', '.join(names)} of {len(pairs.pairs)} pairs: {watched.seconds:.1f} s",),
        arrays={name: array.path for name, array in arrays.items()},
        held=watched.folder,
    )


def _passage_lengths(model: Reranker, pairs: PairSet, out: Run) -> Float[np.ndarray, " pair"]:
    """Tokens of each passage; the rest of the input is as long in all pairs of a query."""
    firsts: dict[tuple[str, str], int] = {}
    for number, pair in enumerate(pairs.pairs):
        firsts.setdefault((pair.collection, pair.qid), number)
    encoded = model.encode([pairs.pairs[number] for number in firsts.values()])
    outside = {
        query: int((parts != Part.D).sum())
        for query, parts in zip(firsts, encoded.parts, strict=True)
    }
    beside = np.array([outside[pair.collection, pair.qid] for pair in pairs.pairs])
    return (out.tokens - beside).astype(float)


def _lexical(reader: Reader, x: AnyPart, y: AnyPart) -> bool:
    return "same_stem" in reader.arrays and {x, y} <= {Part.Q, Part.D}


def _contrasts(
    reader: Reader, classes: Classes, contrasts: Sequence[str], aggregate: str
) -> pd.DataFrame:
    tables = []
    for name, x, y in _quantities(reader):
        values = reader.of(name, x, y)
        for contrast in contrasts:
            table = contrast_table(values, classes, contrast, aggregate=aggregate)
            table.insert(0, "meter", name)
            table.insert(2, "direction", f"{x}->{y}")
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _quantities(reader: Reader) -> Iterable[tuple[str, AnyPart, AnyPart]]:
    """Every meter in every direction in which it is defined."""
    among = (Part.Q, Part.D)
    derived = DERIVED if "same_stem" in reader.arrays else ()
    for name in (*(name for name in NAMES if name in reader.arrays), *derived):
        limited = name in ("same_token", "same_stem", *DERIVED)
        parts = among if limited else reader.parts
        yield from ((name, x, y) for x in parts for y in parts)


def _causal(tables: dict[str, pd.DataFrame], effect: Causal | None) -> dict[str, pd.DataFrame]:
    if effect is None:
        return {}
    every = tables["matching"].copy()
    every["cut"] = [
        f"{row['direction']}#{row['layer']}.{row['head']}" if row["matching"] else None
        for row in every.to_dict("records")
    ]
    names = {"diff": "effect", "ci_low": "effect_low", "ci_high": "effect_high"}
    names |= {"p_holm": "effect_p_holm", "q": "effect_q", "score_change": "effect_score"}
    single = pd.DataFrame(effect.heads[["cut", *names]]).rename(columns=names)
    every = every.merge(single, on="cut", how="left")
    every["causal"] = every["effect_q"] <= ALPHA
    return {"matching": every, "sets": effect.sets, "set_points": effect.points}


def _matching(
    reader: Reader,
    classes: Classes,
    directions: Sequence[str],
    lengths: Float[np.ndarray, " pair"],
    seed: int,
    limits: Thresholds,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str], dict[str, pd.DataFrame]]:
    """The heads of each direction: their table, the same with kinds of half 0, notes, tables."""
    heads, by_half, counts, notes = [], [], [], []
    tables: dict[str, pd.DataFrame] = {}
    for text in directions:
        numbers = matching.HeadMasses.of(reader, text, lengths)
        table, conditions, more = matching.find(numbers, classes, text, seed, limits)
        heads.append(table)
        counts.append(conditions)
        notes += more
        if table.empty:
            continue
        passed = table["matching"].to_numpy(dtype=bool)
        kinds = matching.kinds_of(numbers, classes.half(0, seed), passed, limits)
        by_half.append(table.assign(kind=kinds["kind"]))
        if "references" not in tables:
            tables["references"] = matching.references(numbers, classes, seed, limits)
    every = pd.concat(heads, ignore_index=True)
    tables |= {"matching": every, "conditions": pd.concat(counts, ignore_index=True)}
    return every, pd.concat(by_half, ignore_index=True) if by_half else every, notes, tables


def _profiles(reader: Reader, classes: Classes, pairs: PairSet) -> dict[str, pd.DataFrame]:
    def between(name: str, rows: Sequence[Part], columns: Sequence[Part]) -> dict:
        return {(x, y): reader.of(name, x, y) for x in rows for y in columns}

    qd = (Part.Q, Part.D)
    norm = between("norm_mass", qd, PARTS) if "norm_mass" in reader.arrays else None
    mass = between("mass", qd, PARTS)
    tables = {"noop": profiles.noop(mass, norm)}
    if "same_stem" in reader.arrays:
        tables["lexical"] = profiles.lexical(mass, between("same_stem", qd, qd), classes)
    by_kind = []
    for x, y in ((Part.Q, Part.D), (Part.D, Part.Q)):
        names = ["mass", *(("same_stem", *DERIVED) if "same_stem" in reader.arrays else ())]
        table = profiles.kinds(
            {name: reader.of(name, x, y) for name in names},
            [pair.kind for pair in pairs.pairs],
            [pair.grade for pair in pairs.pairs],
            classes,
        )
        if not table.empty:
            table.insert(0, "direction", f"{x}->{y}")
            by_kind.append(table)
    if by_kind:
        tables["kinds"] = pd.concat(by_kind, ignore_index=True)
    return tables


def _notes(
    model: Reranker,
    out: Run,
    classes: Classes,
    pairs: Sequence[Pair],
    directions: Mapping[str, Condition],
) -> list[str]:
    counts = [int((classes.of_pair == side).sum()) for side in range(3)]
    unjudged = sum(
        side == 1 and not pair.judged for side, pair in zip(classes.of_pair, pairs, strict=True)
    )
    taken = f" ({unjudged} of them not judged)" if unjudged else ""
    notes = [f"{counts[0]} relevant, {counts[1]} hard{taken} and {counts[2]} easy passages"]
    notes += [*truncation_note(out), *own_notes(out, len(out.tokens))]
    for text, cuts in directions.items():
        if why := reason(cuts, out.reach, out.causal):
            notes.append(f"nothing is measured in {text}, whose mass is 0 in every pair: {why}")
    if model.cls_note:
        notes.append(
            f"{model.cls_note}; what goes to the prompt's words is in no part, and no sink is "
            "looked for among them"
        )
    return notes

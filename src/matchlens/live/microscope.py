"""What the live page shows of its models: scores under cuts, contributions, explanations.

Every number comes from where the commands have it: scores from the run behind ``matchlens score``,
contributions and swaps from ``matchlens explain``.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from matchlens import gating
from matchlens.corpora import Pair, PairSet
from matchlens.corpora.lines import shown
from matchlens.corpora.own import named_parts, own_parts
from matchlens.directions import Cut, Direction, How
from matchlens.errors import InputError
from matchlens.live.experiment import (
    HOWS,
    MOST_PASSAGES,
    Experiment,
    KnownParts,
    directions,
    parsed,
)
from matchlens.live.exporting import page_of, python_lines
from matchlens.live.work import Tell
from matchlens.models.load import Reranker
from matchlens.parts import NAMED, OwnPart, Part
from matchlens.plan import Condition, bound
from matchlens.ranking import Candidates
from matchlens.ranking.ties import rank
from matchlens.report.texts import number, prose
from matchlens.report.views.explain import explained, swap_sentence
from matchlens.results import Result, records
from matchlens.runners import run
from matchlens.studies.attention.contrasts import known_mean
from matchlens.studies.common import TIE_TOL
from matchlens.studies.cuts.cut_modes import reason
from matchlens.studies.explaining import Sharing, explain_pairs

LIVE_POINTS, MOST_LIVE_POINTS = 8, 16
"""Points of the integral while one toggles; ``explain`` takes more."""
VIEW_LINKS = 15
"""Links of a head that the pair view can show."""
KEPT_SCORES, KEPT_BYTES = 20_000, 48 * 2**20
"""Scores, and bytes of other answers, in the caches."""
MOST_QUERIES, MOST_CANDIDATES = 400, 200
"""Most queries and candidates in one answer."""
EXAMPLE = (
    "why does meat brown when seared",
    (
        "When meat is seared, its surface dries out and climbs past roughly 140 C. At that heat "
        "amino acids react with sugars in what is called the Maillard reaction, forming brown "
        "pigments along with hundreds of savory aroma compounds.",
        "It is a myth that seared meat holds in its juices. Weighing tests show a roast loses "
        "about as much moisture whether or not the outside is made brown first.",
        "After the meat has been seared, melt butter in the same pan until it looks brown and "
        "smells of nuts, then pour it over the sliced steak.",
        "Brown rice takes longer to cook than white rice because its bran layer is left on.",
    ),
)
SETS = {
    "query blind to passage": "Q->D",
    "passage blind to query": "D->Q",
    "both blind": "Q->D+D->Q",
    "no interaction": "{Q,D}->{Q,D}",
    "CLS reads no text": "CLS->{Q,D}",
}
"""Sets of cuts that every page offers, as far as the model has their parts."""
Score = tuple[float, int, bool]
"""Logit, tokens, and whether the pair was longer than the limit."""


class Kept:
    """A cache of answers by request, limited in bytes: the least recently used goes first."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._most, self._bytes = most, 0
        self._answers: OrderedDict[str, tuple[Mapping[str, object], int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Mapping[str, object] | None:
        """The answer to an earlier request; None where it is not kept."""
        with self._lock:
            if key not in self._answers:
                return None
            self._answers.move_to_end(key)
            return self._answers[key][0]

    def put(self, key: str, answer: Mapping[str, object]) -> None:
        """Keep an answer, and drop the oldest while all are larger than the limit."""
        size = len(key) + len(json.dumps(answer))
        with self._lock:
            self._bytes += size - self._answers.pop(key, ({}, 0))[1]
            self._answers[key] = (answer, size)
            while self._bytes > self._most:
                self._bytes -= self._answers.popitem(last=False)[1][1]


class Microscope:
    """Models, a collection and sets of cuts, and what can be asked of them.

    Only one thread may ask for what runs a model.

    Args:
        models: loaded rerankers, one or two.
        pairs: queries with candidates to browse.
        sets: sets of cuts by name.
    """

    def __init__(
        self,
        models: Sequence[Reranker],
        pairs: PairSet | None = None,
        sets: Mapping[str, Sequence[Cut]] | None = None,
    ) -> None:
        self.models, self.sets = tuple(models), dict(sets or {})
        self.queries: OrderedDict[tuple[str, str], list[int]] = OrderedDict()
        self.pairs = pairs.pairs if pairs is not None else ()
        self.known = KnownParts(self.pairs)
        for place, pair in enumerate(self.pairs):
            self.queries.setdefault((pair.collection, pair.qid), []).append(place)
        # Encoded once, here: later the tokenizer may be at work in the thread that runs the model.
        self._parts = tuple(_parts_of(model) for model in self.models)
        self._scores: OrderedDict[tuple[object, ...], Score] = OrderedDict()
        self._kept = Kept()

    def about(self) -> dict[str, object]:
        """What the page needs before its first request."""
        query, passages = EXAMPLE
        grades: list[int | None] = [None] * len(passages)
        if first := next(iter(self.queries.values()), None):
            shown_pairs = [self.pairs[place] for place in self._first_shown(first)]
            query, passages = shown_pairs[0].query, tuple(pair.text for pair in shown_pairs)
            grades = [pair.grade for pair in shown_pairs]
        return {
            "models": [self._model(place) for place in range(len(self.models))],
            "hows": list(HOWS),
            "most": MOST_PASSAGES,
            "queries": len(self.queries),
            "start": {"query": query, "passages": list(passages), "grades": grades},
        }

    def _first_shown(self, rows: Sequence[int]) -> list[int]:
        return _mixed([(place, self.pairs[place].grade) for place in rows])[:8]

    def _model(self, place: int) -> dict[str, object]:
        model = self.models[place]
        pairs = Experiment(place, *EXAMPLE, ()).pairs
        parts = self.parts(place)
        reach = run(model, pairs[:1], {"": []})
        rows = {name: [Cut.parse(name)] for name in rows_of(parts, self.known.own)}
        whole = bound(rows, {part.name: part.of for part in self.known.own if part.of is not None})
        named_sets = SETS | {name: "; ".join(map(str, cuts)) for name, cuts in self.sets.items()}
        return {
            "name": shown_name(model),
            "layers": model.family.n_layers,
            "heads": model.family.n_heads,
            "directions": [
                {
                    "name": name,
                    "words": _words(Direction.parse(name)),
                    "impossible": reason(whole[name], reach.reach, reach.causal) or "",
                    "own": bool(cut.own_parts),
                }
                for name, (cut,) in rows.items()
            ],
            "parts": {
                str(part): part.words.replace("the document", "the passage")
                for part in (*parts, *self.known.own)
            },
            "reads": sorted({str(part) for part in model.family.score_parts}),
            "sets": [self._set(place, name, text) for name, text in named_sets.items()],
            "tokens": model.max_length,
            "notes": list(model.notes),
        }

    def _set(self, model: int, name: str, text: str) -> dict[str, object]:
        try:
            return {"name": name, "text": text, "part": self.read_cuts(model, text)}
        except InputError as error:
            return {"name": name, "text": text, "error": str(error)}

    def parts(self, model: int) -> tuple[Part, ...]:
        """The parts that a model's input has."""
        return self._parts[model]

    # --- the collection

    def list_queries(self, search: str = "") -> dict[str, object]:
        """The collection's queries that hold some words."""
        words, matches = search.casefold().split(), []
        for number_, ((collection, qid), rows) in enumerate(self.queries.items()):
            query = self.pairs[rows[0]].query
            if all(word in f"{qid} {query}".casefold() for word in words):
                about = {"number": number_, "qid": qid, "collection": collection}
                matches.append({**about, "query": query[:400], "candidates": len(rows)})
        return {"queries": matches[:MOST_QUERIES], "more": len(matches[MOST_QUERIES:])}

    def candidates(self, query: object) -> dict[str, object]:
        """One query's candidates; those chosen at first mix all grades."""
        if not isinstance(query, int) or not 0 <= query < len(self.queries):
            raise InputError(
                f"query {query!r:.40} is not there; expected a number below {len(self.queries)}"
            )
        rows = list(self.queries.values())[query]
        chosen = set(self._first_shown(rows))
        candidates = [
            {"docid": pair.docid, "grade": pair.grade, "text": pair.text, "chosen": place in chosen}
            for place in rows[:MOST_CANDIDATES]
            for pair in [self.pairs[place]]
        ]
        return {"query": self.pairs[rows[0]].query, "candidates": candidates}

    # --- cuts

    def read_cuts(self, model: object, text: object) -> dict[str, object]:
        """Cuts as cells of the page's matrix and of its grid of heads."""
        experiment = Experiment.of(
            {"model": model, "query": "q", "passages": ["p"], "cuts": []}, self.count
        )
        pieces: list[object] = [
            piece for line in str(text)[:200_000].splitlines() for piece in line.split(";")
        ]
        cuts = parsed([piece for piece in pieces if str(piece).strip()])
        if len(hows := {cut.how for cut in cuts}) > 1:
            raise InputError(
                f"the cuts are made in {len(hows)} ways; expected one for all "
                "that hold together: give each the same '~how'"
            )
        reranker, parts = self.models[experiment.model], self.parts(experiment.model)
        known = rows_of(parts, self.known.own)
        cells: dict[str, list[int]] = {}
        heads: dict[str, list[str]] = {}
        for cut in cuts:
            _check(cut, reranker)
            for name in directions(cut, parts):
                if name not in known:
                    raise InputError(
                        f"cut {str(cut)!r:.80} names {name!r}, for which this page has no row; "
                        "expected parts of the model's input or of the collection (--fields, "
                        f"--parts): {', '.join(map(str, (*parts, *self.known.own)))}"
                    )
                if cut.heads is not None:
                    heads.setdefault(name, []).extend(f"{at}.{head}" for at, head in cut.heads)
                else:
                    every = range(reranker.family.n_layers)
                    cells.setdefault(name, []).extend(every if cut.layers is None else cut.layers)
        how = cuts[0].how if cuts else How.ZERO
        return {"cells": cells, "heads": heads, "how": str(how)}

    @property
    def count(self) -> int:
        """The number of models."""
        return len(self.models)

    # --- what runs a model

    def score(self, experiment: Experiment) -> dict[str, object]:
        """Scores and ranks, without cuts and under them."""
        experiment = self.known.on(experiment)
        plain, tokens, truncated = zip(*self._logits(experiment, ()), strict=True)
        scores, _, _ = zip(*self._logits(experiment, experiment.cuts), strict=True)
        tol = TIE_TOL[self.models[experiment.model].dtype]
        return {
            "scores": [*scores],
            "ranks": _ranks(scores, tol),
            "plain": [*plain],
            "plain_ranks": _ranks(plain, tol),
            "tokens": [*tokens],
            "truncated": [*truncated],
            "words": [cut.words for cut in experiment.cuts],
        }

    def _logits(self, experiment: Experiment, cuts: Sequence[Cut]) -> list[Score]:
        """Scores under cuts; pairs that were scored before are not scored again."""
        model = self.models[experiment.model]
        for cut in cuts:
            _check(cut, model)
        condition = tuple(sorted(map(str, cuts)))
        # `mean` puts in a mean over all passages, and a passage may lack an own part: both
        # need all passages in one run.
        together = experiment.passages if any(cut.how is How.MEAN for cut in cuts) else ()
        keys = [
            (experiment.model, experiment.query, text, condition, together)
            for text in experiment.passages
        ]
        missing = [place for place, key in enumerate(keys) if key not in self._scores]
        if missing and (together or any(cut.own_parts for cut in cuts)):
            missing = list(range(len(keys)))
        scores = {key: self._scores[key] for key in keys if key in self._scores}
        if missing:
            pairs = experiment.pairs
            out = run(model, [pairs[place] for place in missing], {"cut": list(cuts)})
            rows = zip(out.scores.of("cut").tolist(), out.tokens, out.truncated, strict=True)
            for place, (score, tokens, truncated) in zip(missing, rows, strict=True):
                scores[keys[place]] = (float(score), int(tokens), bool(truncated))
        for key in keys:
            self._scores[key] = scores[key]
            self._scores.move_to_end(key)
        while len(self._scores) > KEPT_SCORES:
            self._scores.popitem(last=False)
        return [scores[key] for key in keys]

    def words(self, experiment: Experiment, tell: Tell) -> Mapping[str, object]:
        """Heads and words of the first two passages under the cuts."""
        experiment = self.known.on(experiment.only(2))
        key = _key("words", experiment)
        heads = self._kept.get(f"heads {key}")
        if heads is None:
            heads = self._heads(experiment)
            self._kept.put(f"heads {key}", heads)
        tell({"heads": heads})
        answer = self._kept.get(key)
        if answer is None:
            answer = self._shown(self._explain(experiment, Sharing(LIVE_POINTS, MOST_LIVE_POINTS)))
            self._kept.put(key, answer)
        return answer

    def why(self, experiment: Experiment, tell: Tell) -> Mapping[str, object]:
        """Why the first passage scores otherwise than the second, and the smallest swap, uncut."""
        plain = self.known.on(replace(experiment.only(2), cuts=()))
        key = _key("why", plain)
        answer = self._kept.get(key)
        if answer is None:
            result = explain_pairs(
                self.models[plain.model],
                plain.pairs,
                (0, 1),
                Sharing(),
                swap=True,
                progress=lambda done, total: tell({"progress": [done, total]}),
            )
            answer = self._shown(result)
            self._kept.put(key, answer)
        return answer

    def page(self, experiment: Experiment, title: str = "") -> Mapping[str, object]:
        """The page that is saved: ranking, cuts, lines of Python, and the pair view."""
        ranking, view = self.score(experiment), ""
        if len(experiment.passages) > 1 and not any(cut.how is How.MEAN for cut in experiment.cuts):
            view = str(self.words(experiment, lambda message: None)["view"])
        name = shown_name(self.models[experiment.model])
        lines = self.lines(experiment)
        return {"page": page_of(title, name, experiment, ranking, lines, view)}

    def lines(self, experiment: Experiment) -> str:
        """The lines of Python that give the same numbers."""
        return python_lines(self.models[experiment.model], self.known.on(experiment))

    def _explain(self, experiment: Experiment, sharing: Sharing) -> Result:
        options = replace(sharing, cuts=experiment.cuts)
        return explain_pairs(
            self.models[experiment.model], experiment.pairs, (0, 1), options, swap=False
        )

    def _shown(self, result: Result) -> dict[str, object]:
        """An explanation for the page: the pair view, and what the matrix and the grid show."""
        layers, heads = (int(number(result.options[name])) for name in ("layers", "heads"))
        shares: dict[str, list[list[float]]] = {}
        for row in records(result.to_frame("margin")):
            if row["kind"] in ("head_direction", "own_head_direction"):
                grid = shares.setdefault(
                    str(row["direction"]), [[0.0] * heads for _ in range(layers)]
                )
                at, head = int(number(row["layer"])), int(number(row["head"]))
                grid[at][head] = _few(row["contribution"])
        return {
            "view": explained(result, VIEW_LINKS),
            "shares": shares,
            "notes": prose(" ".join(f"{note[0].upper()}{note[1:]}." for note in result.notes)),
            "searched": bool(result.options["cuts_made"]),
            "swapped": bool(result.options["swapped"]),
            "swap": result.options["swap"],
            "sentence": prose(swap_sentence(result)),
        }

    def _heads(self, experiment: Experiment) -> dict[str, object]:
        """Attention, and screened effect on the margin, of every head in every direction."""
        model, pairs = self.models[experiment.model], experiment.pairs
        for cut in experiment.cuts:
            if cut.how is How.MEAN:
                raise InputError(
                    f"cut {str(cut)!r:.80} puts in what other passages read, so that words and "
                    "heads have no contributions; expected another how for these: zero, mask, sink"
                )
        gating.check_gates(model)
        slopes: dict[int, np.ndarray] = {}

        def keep(rows: np.ndarray, values: np.ndarray) -> None:
            slopes.update(zip(rows.tolist(), values, strict=True))

        own = named_parts(pairs)
        cuts = bound({"": experiment.cuts}, own_parts(pairs))[""]
        gating.stream_slopes(model, pairs, keep, cuts=cuts, own=own)
        # Cutting takes the slope away, in A less in B.
        screened = gating.united(slopes[1] - slopes[0], own)
        masses = known_mean(np.stack([_masses(model, pair, cuts, own) for pair in pairs]))
        labels = {str(part): int(part) for part in self.parts(experiment.model)}
        labels |= {part.name: gating.PARTS + at for at, part in enumerate(own)}
        return {
            what: {
                f"{x}->{y}": _grid(table[:, :, row, column])
                for x, row in labels.items()
                for y, column in labels.items()
                if np.isfinite(table[:, :, row, column]).all()
            }
            for what, table in (("screened", screened), ("attention", masses))
        }


def _masses(
    model: Reranker, pair: Pair, cuts: Condition, own: Sequence[OwnPart]
) -> Float[np.ndarray, "layer head row_part column_part"]:
    """Mean over a part's rows of the attention on another part; NaN without one of the two."""
    encoded = model.encode([pair])
    members = np.eye(gating.PARTS + len(own))[encoded.parts[0]]
    for at, part in enumerate(own, start=gating.PARTS):
        members[encoded.own[0].get(part.name, []) if encoded.own else [], at] = 1
    groups, numbers = np.unique(members, axis=0, return_inverse=True)
    attention = gating.word_attention(model, pair, numbers, cuts)
    rows = groups * np.bincount(numbers)[:, None]
    counts = rows.sum(0)
    masses = (rows / np.maximum(counts, 1)).T @ (attention @ groups)
    masses[..., (counts[:, None] == 0) | (counts == 0)] = np.nan
    return masses


def _parts_of(model: Reranker) -> tuple[Part, ...]:
    labels = model.encode(Experiment(0, *EXAMPLE, ()).pairs[:1]).parts[0]
    return tuple(part for part in Part if (labels == part).any())


def _check(cut: Cut, model: Reranker) -> None:
    """Refuse a cut that the model's layers, heads or decoder do not allow."""
    layers, heads = model.family.n_layers, model.family.n_heads
    cut.check(layers, heads, repr(model.name), decoder=model.decodes)


def rows_of(parts: Sequence[Part], own: Sequence[OwnPart] = ()) -> list[str]:
    """The directions between the parts of a model's input and own parts.

    A prompt's words are in ``All`` alone.

    >>> rows_of([Part.Q, Part.D])
    ['Q->Q', 'Q->D', 'D->Q', 'D->D']
    """
    named = [part for part in parts if part in NAMED]
    rows = [f"{x}->{y}" for x in (*named, *own) for y in (*named, *own)]
    return rows + ([f"{x}->All" for x in named] if Part.OTHER in parts else [])


def _words(direction: Direction) -> str:
    (left,) = direction.left
    words = f"{left.words} reads itself" if direction.right == (left,) else direction.words
    return words.replace("the document", "the passage")


def _key(kind: str, experiment: Experiment) -> str:
    cuts = sorted(map(str, experiment.cuts))
    return json.dumps([kind, experiment.model, experiment.query, experiment.passages, cuts])


def _few(value: object) -> float:
    return float(f"{number(value):.3g}")


def _grid(table: np.ndarray) -> list[list[float]]:
    return [[_few(value) for value in row] for row in table.tolist()]


def shown_name(model: Reranker) -> str:
    """A model's name, shortened and escaped where it is long or unprintable."""
    return model.name if len(model.name) <= 80 and model.name.isprintable() else shown(model.name)


def _mixed(graded: Sequence[tuple[int, int]]) -> list[int]:
    """Places of all grades in turn, the highest grade first.

    >>> _mixed([(0, 3), (1, 3), (2, 0), (3, 1)])
    [0, 3, 2, 1]
    """
    grades: dict[int, list[int]] = {}
    for place, grade in sorted(graded, key=lambda place: -place[1]):
        grades.setdefault(grade, []).append(place)
    out: list[int] = []
    while any(grades.values()):
        out += [places.pop(0) for places in grades.values() if places]
    return out


def _ranks(scores: Sequence[float], tol: float) -> list[list[int]]:
    """Each passage's rank, and with how many it shares it."""
    grades = np.zeros(len(scores), dtype=np.int64)
    query = Candidates("", "query", np.arange(len(scores)), grades, ideal=grades)
    ranked = rank([query], np.array(scores, dtype=np.float64), tol)
    first = ranked.unranked(ranked.first[ranked.group] + 1)
    size = ranked.unranked(ranked.size[ranked.group])
    return [[int(place), int(many)] for place, many in zip(first, size, strict=True)]

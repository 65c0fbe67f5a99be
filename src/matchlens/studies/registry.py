"""The studies that have a command: the options of each, its conditions, costs and arguments.

A new one is a class here and a line in :data:`STUDIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matchlens.errors import InputError
from matchlens.options import Base, Cuts, Hows, MostPairs, RandomSets, StudySettings
from matchlens.plan import Condition, single_cuts
from matchlens.sets import check_once
from matchlens.settings import argument, one_of, option, options_of, settings
from matchlens.studies.presets import COSTLY_PAIRS, OTHERS, Preset
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.spec import Inputs, StudySpec, check_base, check_cuts, imported, stages_of

if TYPE_CHECKING:
    from matchlens.results import Result
    from matchlens.studies.attention.contrasts import Thresholds


@settings
class AblationSettings(StudySettings, Cuts, Hows, MostPairs):
    """Options of ``ablation``."""


class _Ablation(StudySpec[AblationSettings]):
    help = """Cut attention in every direction and measure the ranking (Table 1).

Each cut keeps some parts of the input from reading others, in all layers unless it says otherwise.
The table shows the measure under each cut, beside the original and a random ranking.

\b
Examples:
  matchlens ablation --demo --out out/demo
  matchlens ablation -m cross-encoder/ms-marco-MiniLM-L-12-v2 \\
      --dataset msmarco-passage/trec-dl-2019/judged --out out/dl19
  matchlens ablation -m my/model --topics t.tsv --qrels q.txt \\
      --passages p.jsonl.gz --cut 'Q->D' --cut 'D->D@0:6' \\
      --cut 'Q->D#8.1,4.9~mask' --out out/mine
"""
    settings = AblationSettings
    function = "matchlens.studies.cuts.cut_study:ablation"
    ranks = True

    def check(self, settings: AblationSettings) -> None:
        from matchlens.studies.cuts.cut_modes import expand_modes, sets_alone

        check_once(settings.cut or ())
        sets_alone(settings.cut or (), settings.sets, settings.how)
        if settings.cut or settings.how:
            expand_modes(settings.cut or ["Q->D"], settings.how)
        if settings.cut and not any(map(str.strip, settings.cut)) and not settings.sets:
            raise InputError("no cut given but ''; expected at least one more, for example 'Q->D'")

    def ready(self, inputs: Inputs[AblationSettings]) -> None:
        check_cuts(inputs.settings.cut or (), inputs.folder, inputs.settings.sets)

    def conditions(self, inputs: Inputs[AblationSettings]) -> Mapping[str, Condition]:
        from matchlens.studies.cuts.cut_modes import expand_modes

        chosen = preset_of(inputs.settings.preset, inputs.folder.decodes)
        cuts, sets = inputs.settings.cut, inputs.settings.sets
        hows = inputs.settings.how or (None if cuts or sets else [chosen.how])
        modes, _ = expand_modes(cuts or ([] if sets else list(chosen.cuts)), hows)
        return {**single_cuts(moded.cut for moded in modes), **sets}

    def arguments(self, inputs: Inputs[AblationSettings]) -> dict[str, Any]:
        settings = inputs.settings
        own = {"cuts": settings.cut, "sets": settings.sets, "hows": settings.how}
        return {**own, **inputs.ranking, **super().arguments(inputs)}


SWEEPS: Mapping[str, str] = {
    **dict.fromkeys(("up-to", "from", "only", "window", "heads"), "sweeps:sweep"),
    "head-sets": "head_sets:head_sets",
    "controls": "controls:controls",
}
"""The kinds of sweeps, each with its function in ``studies/cuts``."""
OF_ONE_SWEEP = {"screen": "heads", "window": "window", "random": "head-sets", "draws": "controls"}
"""Options that one kind of sweep takes, beside ``sets``, which it needs."""


@settings
class SweepSettings(StudySettings, Hows, MostPairs, RandomSets):
    """Options of ``sweep``."""

    kind: str = argument("KIND", help=", ".join(SWEEPS), check=one_of(*SWEEPS))
    direction: list[str] | None = option(
        default=None,
        metavar="DIR",
        help="A direction, in quotes: 'Q->D'. Repeatable [those of Figure 1a, or of the preset; "
        "for heads and head-sets the whole head].",
    )
    screen: int | None = option(
        default=None,
        metavar="N",
        help="For heads: cut only the N heads of each direction that have the largest first-order "
        "effect on the scores (see matchlens screen).",
    )
    window: int = option(default=3, help="For window: layers of a window.")
    sets: list[str] | None = option(
        "--set", default=None, metavar="NAME=HEADS", help="Heads: 'top=8.1,4.9'. Repeatable."
    )
    draws: int = option(default=3, metavar="N", help="For controls: random draws of each control.")

    @property
    def heads(self) -> dict[str, str]:
        """The sets of heads by name."""
        named: dict[str, str] = {}
        for text in self.sets or []:
            name, equals, heads = (part.strip() for part in text.partition("="))
            if not (name and equals and heads) or not name.isprintable():
                raise InputError(f"--set {text!r}: expected NAME=HEADS, for example 'top=8.1,4.9'")
            if name in named:
                raise InputError(f"--set {name!r} is given twice; give each set a name of its own")
            named[name] = heads
        return named


class _Sweep(StudySpec[SweepSettings]):
    help = """Cut directions layer by layer or head by head and measure the ranking (Figure 1a).

\b
KIND says where a direction is cut:
  up-to      layers 0 to n-1, for n = 0 to all (Figure 1a)
  from       layers n to the top
  only       one layer
  window     --window layers from n on
  heads      each head alone
  head-sets  each --set of heads, beside --random sets with as many heads in each layer and
             as much attention
  controls   in all layers, beside the same loss of the same rows elsewhere, and random edges

What conditions share is computed once; --dry-run prints what a sweep costs. heads, head-sets and
controls run on at most 450 pairs unless --pairs says otherwise.

\b
Examples:
  matchlens sweep up-to --demo --direction 'Q->D' --direction 'D->D' --out out/demo
  matchlens sweep heads --demo --how zero --how mean --out out/demo
  matchlens sweep heads --demo --direction 'Q->D' --screen 20 --out out/demo
  matchlens sweep head-sets --demo --set 'top=8.1,4.9' --direction 'Q->D' --out out/demo
  matchlens sweep controls --demo --direction 'D->D' --out out/demo
"""
    settings = SweepSettings
    ranks = True

    def check(self, settings: SweepSettings) -> None:
        from matchlens.models.files import MOST_LAYERS
        from matchlens.studies.cuts.cut_modes import expand_modes, plain_directions
        from matchlens.studies.cuts.head_sets import checked_sets

        if settings.screen is not None and settings.screen < 1:
            raise InputError(f"--screen is {settings.screen}; expected 1 or more heads")
        own: Any = type(settings)
        for one in options_of(own):
            kind, value = OF_ONE_SWEEP.get(one.name, settings.kind), getattr(settings, one.name)
            if kind != settings.kind and value != one.default:
                raise InputError(
                    f"{one.flag} is {value}; expected it with the sweep {kind} alone: leave it out"
                )
        if bool(settings.sets) != (settings.kind == "head-sets"):
            raise InputError(
                "--set NAME=HEADS and the sweep head-sets go together; give both or neither"
            )
        # On a shape that allows every layer and head: the model's is not known yet.
        if settings.kind == "head-sets":
            checked_sets(settings.heads, 10**6, 10**6, settings.random)
            directions = self._directions(settings, preset_of("default"))
            expand_modes(plain_directions(directions), settings.how or ["zero"])
        else:
            layers = max(1, min(settings.window, MOST_LAYERS))
            self._conditions(settings, preset_of("default"), layers, heads=1)

    def ready(self, inputs: Inputs[SweepSettings]) -> None:
        self.conditions(inputs)

    def most_pairs(self, settings: SweepSettings) -> int | None:
        costly = settings.kind in ("heads", "head-sets", "controls")
        return settings.most(COSTLY_PAIRS if costly else None)

    def conditions(self, inputs: Inputs[SweepSettings]) -> Mapping[str, Condition]:
        preset = preset_of(inputs.settings.preset, inputs.folder.decodes)
        return self._conditions(inputs.settings, preset, *inputs.folder.shape)

    def cost(self, inputs: Inputs[SweepSettings]) -> str:
        from matchlens.studies.cost import slopes_cost

        exact, first = super().cost(inputs), slopes_cost(inputs.folder, self.used(inputs))
        screened = inputs.settings.screen is not None
        return f"{first}\nthe heads that it puts forward:\n{exact}" if screened else exact

    def _directions(self, settings: SweepSettings, preset: Preset) -> Sequence[str]:
        from matchlens.studies.cuts.sweeps import WHOLE_HEAD

        default = (WHOLE_HEAD,) if settings.kind in ("heads", "head-sets") else preset.directions
        return settings.direction or default

    def _conditions(
        self, settings: SweepSettings, preset: Preset, layers: int, heads: int
    ) -> Mapping[str, Condition]:
        from matchlens.studies.cuts.controls import control_conditions
        from matchlens.studies.cuts.head_sets import set_conditions
        from matchlens.studies.cuts.sweeps import spread, sweep_points

        directions, hows = self._directions(settings, preset), settings.how or [preset.how]
        if settings.kind == "controls":
            return control_conditions(directions, settings.how, settings.draws, preset.how)[0]
        if settings.kind == "head-sets":
            drawn = settings.random, settings.seed, layers, heads
            return set_conditions(settings.heads, directions, settings.how or ["zero"], *drawn)[0]
        shape = {"layers": layers, "heads": heads, "window": settings.window}
        points, _ = sweep_points(settings.kind, directions, **shape, hows=hows)
        return single_cuts(point.cut for point in spread(points, settings.screen))

    def study(self, settings: SweepSettings) -> Callable[..., Result]:
        return imported(f"matchlens.studies.cuts.{SWEEPS[settings.kind]}")

    def arguments(self, inputs: Inputs[SweepSettings]) -> dict[str, Any]:
        settings = inputs.settings
        shared = {"hows": settings.how, **inputs.ranking, **super().arguments(inputs)}
        if settings.kind == "controls":
            return {**shared, "cuts": settings.direction, "draws": settings.draws}
        shared["directions"] = settings.direction
        if settings.kind == "head-sets":
            own = {"sets": settings.heads, "random": settings.random}
            return {**shared, **own, "hows": settings.how or ["zero"]}
        kind, window = settings.kind, settings.window
        return {**shared, "kind": kind, "window": window, "screened": settings.screen}


@settings
class ScreenSettings(StudySettings, MostPairs):
    """Options of ``screen``."""

    others: int = option(
        default=OTHERS,
        metavar="N",
        help="Heads in a direction, drawn over the layers, that are really cut to check the "
        "screen, beside the ten of the largest effect.",
    )


class _Screen(StudySpec[ScreenSettings]):
    help = """Screen every head in every direction at once, and check the screen by exact cuts.

One forward and one backward pass give what cutting a head in a direction would do to a score, to
first order. Each number is an estimate of that cut alone: do not add them up. Some cuts are always
made exactly; where screen and cuts disagree, the measure is not predicted.

\b
Examples:
  matchlens screen --demo --out out/screen
  matchlens sweep heads --demo --direction 'Q->D' --screen 20 --out out/heads
"""
    settings = ScreenSettings
    function = "matchlens.studies.screening:screen"
    ranks = True
    measures = 1

    def check(self, settings: ScreenSettings) -> None:
        if settings.others < 1:
            raise InputError(f"--others is {settings.others}; expected 1 or more")

    def cost(self, inputs: Inputs[ScreenSettings]) -> str:
        from matchlens.studies.cost import screen_cost

        settings, most = inputs.settings, self.most_pairs(inputs.settings)
        return screen_cost(inputs.folder, inputs.pairs, settings.others, most, settings.seed)

    def stages(self, inputs: Inputs[ScreenSettings]) -> list[tuple[str, float]]:
        return stages_of("screen", inputs, 2)

    def arguments(self, inputs: Inputs[ScreenSettings]) -> dict[str, Any]:
        own = {"others": inputs.settings.others, "measure": inputs.settings.only_measure}
        return {**own, **super().arguments(inputs)}


@settings
class AttentionSettings(StudySettings, MostPairs, RandomSets):
    """Options of ``attention``."""

    meter: list[str] | None = option(
        default=None, metavar="METER", help="A meter. Repeatable [those of the preset: all]."
    )
    contrast: list[str] | None = option(
        default=None,
        metavar="CONTRAST",
        help="relevant-easy, relevant-hard or hard-easy. Repeatable [all].",
    )
    direction: list[str] | None = option(
        default=None,
        metavar="DIR",
        help="A direction, in quotes, in which matching heads are looked for. Repeatable ['Q->D', "
        "'D->Q'].",
    )
    aggregate: str | None = option(
        default=None, help="mean or median over queries [mean].", check=one_of("mean", "median")
    )
    q: float = option(default=0.05, help="Matching heads: largest corrected p.")
    auc: float = option(default=0.75, help="Matching heads: smallest mean AUC over queries.")
    length: float = option(
        default=0.1, help="Matching heads: compared passages differ in length by at most this."
    )
    lexical: float = option(
        default=2.0, help="Lexical heads: smallest multiple of the expected same-stem mass."
    )
    query_words: float = option(
        default=2.0, help="Query-word readers: smallest multiple of the words' share of columns."
    )
    semantic: float = option(
        default=1.5, help="Semantic heads: smallest multiple of near words' share of columns."
    )
    cutting: bool = option(
        "--cut/--no-cut", default=True, help="Cut the matching heads, on at most --pairs pairs."
    )

    @property
    def contrasts(self) -> list[str]:
        """The contrasts."""
        from matchlens.studies.attention.contrasts import CONTRASTS

        return self.contrast or list(CONTRASTS)

    @property
    def thresholds(self) -> Thresholds:
        """The conditions for a matching head."""
        from matchlens.studies.attention.contrasts import Thresholds

        names = ("q", "auc", "length", "lexical", "query_words", "semantic")
        return Thresholds(**{name: getattr(self, name) for name in names})


class _Attention(StudySpec[AttentionSettings]):
    help = """Measure attention between the input's parts and find the matching heads (Figures 1b, \
1c).

Relevant passages are compared with hard negatives (judged 0) and easy ones (random passages). The
matching heads are found on one half of the queries, described on the other, and cut there, beside
random sets of heads of the same layers.

\b
Meters:
  mass        share of a row's attention that goes to the columns (always measured)
  norm_mass   the same, weighted by what is written: a_ij |W_O v_j|
  same_token  share of the mass on the row's own token
  same_stem   share of the mass on words of the row's own stem, and what tells kinds of heads
  peak        the largest single attention
  entropy     of the attention inside the columns, in nats

\b
Examples:
  matchlens attention --demo --out out/demo
  matchlens attention -m my/model --dataset msmarco-passage/trec-dl-2019/judged --out out/dl19
  matchlens attention --demo --meter mass --meter same_stem --no-cut --out out/demo
"""
    settings = AttentionSettings
    function = "matchlens.studies.attention.attention:attention"
    easy = True
    most = COSTLY_PAIRS  # cutting the matching heads is costly
    measures = 1

    def check(self, settings: AttentionSettings) -> None:
        from matchlens.studies.attention.contrasts import checked_directions, checked_names
        from matchlens.studies.cuts.head_sets import checked_random

        checked_names(settings.meter or ())
        checked_directions(settings.direction)
        _ = settings.thresholds  # raises where one cannot be used
        if settings.cutting:
            checked_random(settings.random)

    def ready(self, inputs: Inputs[AttentionSettings]) -> None:
        from matchlens.studies.attention.contrasts import Classes

        Classes.of(inputs.pairs.pairs, inputs.rel).check(inputs.settings.contrasts)

    def cost(self, inputs: Inputs[AttentionSettings]) -> str:
        from matchlens.studies.attention.contrasts import checked_names
        from matchlens.studies.cost import meters_cost

        settings = inputs.settings
        meters = checked_names(["mass", *(settings.meter or preset_of(settings.preset).meters)])
        random, most = settings.random if settings.cutting else None, self.most_pairs(settings)
        return meters_cost(meters, inputs.folder, inputs.pairs, random, most)

    def stages(self, inputs: Inputs[AttentionSettings]) -> list[tuple[str, float]]:
        return stages_of("attention", inputs, 2 if inputs.settings.cutting else 1)

    def arguments(self, inputs: Inputs[AttentionSettings]) -> dict[str, Any]:
        settings = inputs.settings
        same = ("contrasts", "aggregate", "thresholds", "random")
        return {
            **({"directions": settings.direction} if settings.direction else {}),
            **{name: getattr(settings, name) for name in same},
            "meters": settings.meter,
            "causal": settings.cutting,
            "measure": settings.only_measure,
            **super().arguments(inputs),
        }


@settings
class CircuitsSettings(StudySettings, MostPairs, Base):
    """Options of ``circuits``."""

    contrast: str = option(default="QD-DD", metavar="CONTRAST", help="The x axis of Figure 2.")
    variant: str = option(
        default="all", help="all, positive or above: all singular triplets, u.v > 0, or u.v > 0.3."
    )
    divided: bool = option(default=False, help="Divide the logits by sqrt(d_h).")
    biases: bool = option(default=False, help="With the biases b_Q and b_K.")
    top: int = option(
        default=6, metavar="N", help="Most aligned heads whose vocabulary is searched; 0: none."
    )
    head: list[str] | None = option(
        default=None, metavar="HEADS", help="These heads instead: '8.1,4.9'. Repeatable."
    )
    matches: int = option(default=50, metavar="N", help="Token pairs kept for each of them.")
    same_token: bool = option(default=False, help="Also the same-token share in context (slower).")


class _Circuits(StudySpec[CircuitsSettings]):
    help = """Measure the query-key matrices of every head: what reads what by its weights (Figure \
2).

A token i reads a token j with the weight x_j' A x_i, where A = W_K' W_Q of the head. Its alignment,
trace(A), is large where tokens read tokens like themselves. It is drawn against a contrast of the
logits of the mean query token and the mean document token; the colour shows how much more the head
attends from query to document in relevant passages than in random ones. One half of the queries
gives the means, the other the colours.

\b
Contrasts, the reader first:
  QD-DD  a query token reads document tokens more than a document token does (default)
  DQ-QQ  a document token reads query tokens more than a query token does
  QD-QQ  a query token reads document tokens more than query tokens
  DQ-DD  a document token reads query tokens more than document tokens

\b
Also: random heads, crossed heads and (--base) the model before fine-tuning for comparison; which
terms the logits vary with; and which words of the vocabulary the most aligned heads match.

\b
Examples:
  matchlens circuits --demo --out out/demo
  matchlens circuits -m my/model --base before/fine-tuning --demo --out out/mine
  matchlens circuits --demo --head 8.1,4.9 --same-token --out out/demo
  matchlens circuits --demo --contrast QD-QQ --biases --divided --top 0 --out out/demo
"""
    settings = CircuitsSettings
    function = "matchlens.studies.circuits.circuits:circuits"
    easy = True
    most = COSTLY_PAIRS  # the terms of the logits are costly
    measures = 0

    def check(self, settings: CircuitsSettings) -> None:
        from matchlens.studies.circuits.circuits import checked, named_heads

        checked(settings.contrast, settings.variant, settings.top, settings.matches)
        named_heads(settings.head)

    def ready(self, inputs: Inputs[CircuitsSettings]) -> None:
        from matchlens.studies.circuits.circuits import checked_halves, named_heads, other_half

        settings = inputs.settings
        named_heads(settings.head, *inputs.folder.shape)
        check_base(inputs.folder, settings.base)
        checked_halves(inputs.pairs.pairs, inputs.rel, settings.seed)
        other_half(inputs.pairs, settings.seed, self.most_pairs(settings))

    def cost(self, inputs: Inputs[CircuitsSettings]) -> str:
        from matchlens.studies.circuits.circuits import named_heads, other_half
        from matchlens.studies.cost import circuits_cost

        settings, folder = inputs.settings, inputs.folder
        few = other_half(inputs.pairs, settings.seed, self.most_pairs(settings))
        heads = named_heads(settings.head, *folder.shape)
        number = settings.top if heads is None else len(heads)
        return circuits_cost(folder, inputs.pairs, few, settings.same_token, number)

    def stages(self, inputs: Inputs[CircuitsSettings]) -> list[tuple[str, float]]:
        return stages_of("circuits", inputs, 3)

    def arguments(self, inputs: Inputs[CircuitsSettings]) -> dict[str, Any]:
        from matchlens.models.base import load_base

        settings = inputs.settings
        base = check_base(inputs.folder, settings.base)
        same = ("contrast", "variant", "divided", "biases", "top", "matches", "same_token")
        return {
            **{name: getattr(settings, name) for name in same},
            "base": None if base is None else load_base(base),
            "heads": settings.head,
            **super().arguments(inputs),
        }


@settings
class LookSettings(StudySettings, Cuts, MostPairs):
    """Options of ``look``."""

    looks: int = option(default=12, metavar="N", help="How many pairs are chosen.")
    pair: list[str] | None = option(
        default=None,
        metavar="'QID DOCID'",
        help="This pair instead, after its collection's name where there are several. Repeatable.",
    )

    @property
    def chosen(self) -> list[Any]:
        """The ids of the pairs that are named."""
        from matchlens.studies.looking import ids_of

        return [ids_of(text) for text in self.pair or ()]


class _Look(StudySpec[LookSettings]):
    help = """Look into a few pairs: what each token receives from every head, and what cuts do.

Of a few queries it takes a relevant passage that ranks high, one that ranks low, a hard negative
that ranks high and a random passage, or the pairs that --pair names. Where --out has studies of the
same model and pairs, their scores under cuts and their matching heads are used; else Table 1's cuts
are run on these queries' candidates.

\b
Examples:
  matchlens look --demo --out out/demo
  matchlens look --demo --pair 'd01 d01-01' --cut 'Q->D' --cut 'D->Q' --out out/demo
  matchlens look -m my/model --dataset msmarco-passage/trec-dl-2019/judged --looks 4 --out out/dl19
"""
    settings = LookSettings
    function = "matchlens.studies.looking:look"
    easy = True
    most = COSTLY_PAIRS
    measures = 0

    def check(self, settings: LookSettings) -> None:
        from matchlens.studies.looking import checked_looks

        checked_looks(settings.looks)
        _ = settings.chosen  # raises where one is not two ids

    def ready(self, inputs: Inputs[LookSettings]) -> None:
        check_cuts(inputs.settings.cut or (), inputs.folder, inputs.settings.sets)
        self._rows(inputs)

    def stored(self, inputs: Inputs[LookSettings]) -> bool:
        from matchlens.studies.looking import at_hand, stored_scores

        settings, number = inputs.settings, len(inputs.pairs.pairs)
        scored, named = stored_scores(settings.out)[0], self._rows(inputs)
        return at_hand(scored, number, settings.cut, settings.sets, named) is not None

    def _rows(self, inputs: Inputs[LookSettings]) -> list[int]:
        from matchlens.studies.looking import named

        chosen = inputs.settings.chosen
        return named(inputs.pairs.pairs, chosen) if chosen else []

    def cost(self, inputs: Inputs[LookSettings]) -> str:
        from matchlens.studies.cost import looks_cost
        from matchlens.studies.looking import candidates_to_run

        settings, named = inputs.settings, self._rows(inputs)
        looks, most = len(named) or settings.looks, self.most_pairs(settings)
        rows = candidates_to_run(inputs.pairs, named, looks, inputs.rel, settings.seed, most)
        chosen = preset_of(settings.preset, inputs.folder.decodes)
        names = settings.cut or ([] if settings.sets else chosen.cuts)
        conditions = {} if self.stored(inputs) else {**single_cuts(names), **settings.sets}
        rows = rows if conditions else named or rows[:looks]
        return looks_cost(inputs.folder, inputs.pairs, rows, conditions)

    def stages(self, inputs: Inputs[LookSettings]) -> list[tuple[str, float]]:
        return [("look", 20.0)] * (not self.stored(inputs)) + [("look", 1.0)]

    def arguments(self, inputs: Inputs[LookSettings]) -> dict[str, Any]:
        from matchlens.studies.looking import stored_scores

        settings = inputs.settings
        scored, matching = stored_scores(settings.out)
        own = {"looks": settings.looks, "chosen": settings.chosen or None, "scored": scored}
        own |= {"cuts": settings.cut, "sets": settings.sets, "matching": matching}
        return {**own, **super().arguments(inputs)}


STUDIES: dict[str, StudySpec[Any]] = {
    "ablation": _Ablation(),
    "sweep": _Sweep(),
    "screen": _Screen(),
    "attention": _Attention(),
    "circuits": _Circuits(),
    "look": _Look(),
}
"""The studies by the names of their commands."""

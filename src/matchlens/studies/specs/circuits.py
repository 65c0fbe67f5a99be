"""The command ``circuits`` (Figure 2): its options, its costs, its arguments."""

from __future__ import annotations

from typing import Any

from matchlens.options import Base, MostPairs, StudySettings
from matchlens.settings import option, settings
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.spec import Inputs, StudySpec, check_base, stages_of


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


class Circuits(StudySpec[CircuitsSettings]):
    """Figure 2."""

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

    def check(self, settings: CircuitsSettings) -> None:
        """Check contrast, variant and heads."""
        from matchlens.studies.circuits.circuits import checked, named_heads

        checked(settings.contrast, settings.variant, settings.top, settings.matches)
        named_heads(settings.head)

    def ready(self, inputs: Inputs[CircuitsSettings]) -> None:
        """Check heads, the second model and both halves of the queries."""
        from matchlens.studies.circuits.circuits import checked_halves, named_heads, other_half

        settings = inputs.settings
        named_heads(settings.head, *inputs.folder.shape)
        check_base(inputs.folder, settings.base)
        checked_halves(inputs.pairs.pairs, inputs.rel, settings.seed)
        other_half(inputs.pairs, settings.seed, self.most_pairs(settings))

    def cost(self, inputs: Inputs[CircuitsSettings]) -> str:
        """The untouched pass, the terms of the logits and the vocabulary."""
        from matchlens.studies.circuits.circuits import named_heads, other_half
        from matchlens.studies.cost import circuits_cost

        settings = inputs.settings
        few = other_half(inputs.pairs, settings.seed, self.most_pairs(settings))
        heads = named_heads(settings.head, *inputs.folder.shape)
        number = settings.top if heads is None else len(heads)
        return circuits_cost(
            inputs.folder, inputs.pairs, few, same_token=settings.same_token, heads=number
        )

    def stages(self, inputs: Inputs[CircuitsSettings]) -> list[tuple[str, float]]:
        """The untouched pass, the terms of the logits, the vocabulary."""
        return stages_of("circuits", inputs, 3)

    def arguments(self, inputs: Inputs[CircuitsSettings]) -> dict[str, Any]:
        """The options, and the second model, loaded."""
        from matchlens.models.base import load_base

        settings = inputs.settings
        base = check_base(inputs.folder, settings.base)
        same = ("contrast", "variant", "divided", "biases", "top", "matches", "same_token")
        return {
            **{name: getattr(settings, name) for name in same},
            "base": None if base is None else load_base(base),
            "heads": settings.head,
            "most_pairs": self.most_pairs(settings),
            **inputs.common,
        }

"""What the walk needs of a model family: a few verbs, and nothing about its insides."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, cast, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from matchlens.batching import EncodedBatch
from matchlens.models.attend import Call
from matchlens.models.labels import Label
from matchlens.models.layer_mask import LayerMask
from matchlens.models.qk import QK
from matchlens.parts import Part


@runtime_checkable
class Family(Protocol):
    """A cross-encoder that can be walked layer by layer through the library's own modules."""

    library: ClassVar[Any]
    """The library's class, which loads the weights."""
    template: str
    """How its tokenizers encode a pair, for messages."""
    separators: int
    """Tokens between query and passage."""
    token_types: int
    """Token types of a pair: 2 where the passage has type 1, 1 where all tokens have the same, 0
    where the family knows none and is fed none."""
    reads: str
    """Which rows of the last layer the score reads, for a person."""
    relevance: str
    """How the score comes of the logits, for a person."""
    label: Label | None
    """The label that was chosen for relevance, where one was; :func:`load` sets it."""
    rounded: bool
    """Whether the library computes some steps in float32 even where the weights are float64."""
    module: Any
    """The library's model."""
    layers: Any
    """The library's layers, in the order in which they are passed."""
    n_layers: int
    n_heads: int
    start: int | None
    """Token id with which the decoder of an encoder-decoder begins; None for other models."""
    score_parts: tuple[Part, ...]
    """Parts whose rows of the last layer the score reads."""
    beside: str
    """What lets tokens read each other beside the attention, whatever is cut, in words; empty for
    most."""
    score_rows: slice
    """The tokens of those rows: the first, the last, or all of them (mean pooling)."""
    splittable: bool
    """Whether it is :class:`Splittable`."""

    def embed(self, batch: EncodedBatch) -> Float[Tensor, "pair token width"]:
        """The input of layer 0."""
        ...

    def layer(
        self, index: int, states: Float[Tensor, "batch token width"], call: Call
    ) -> Float[Tensor, "batch row width"]:
        """Layer ``index``, computed for the rows that ``call.rows`` names.

        Args:
            index: layer number from 0.
            call: parts and cuts, handed to the attention function; where it has rows, the family
                adds the keys and values of all tokens, and with a probe their queries.
        """
        ...

    def attention_input(
        self, index: int, states: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch token width"]:
        """What a layer's queries and keys are made of, from the layer's input."""
        ...

    def output(self, index: int) -> nn.Linear:
        """The library's module that writes a layer's context into the states; W_O is its weight."""
        ...

    def band(self, index: int) -> LayerMask:
        """The token pairs that a layer allows at all; :meth:`layer` hands it on with the call."""
        ...

    def output_weight(self, index: int) -> Float[Tensor, "head width model"]:
        """Each head's slice of the matrix that writes a layer's context into the states."""
        ...

    def score(
        self, states: Float[Tensor, "batch row width"], parts: Int[Tensor, "batch row"]
    ) -> Float[Tensor, " batch"]:
        """The relevance logit from the last layer's outcome on the score's rows.

        Args:
            parts: part numbers of the rows, ``PADDING`` where there is no token: a mean over the
                rows leaves those out.
        """
        ...

    def library_score(self, batch: EncodedBatch) -> Float[Tensor, " pair"]:
        """The relevance logit by the library's own forward pass and attention, untouched."""
        ...

    def library_maps(self, out: Any) -> tuple[Float[Tensor, "pair head row column"], ...]:
        """The attention of each layer in what the library's model returned; empty without any."""
        ...

    def qk(self, layer: int) -> QK:
        """The query and key weights of a layer's heads, as the library's module holds them."""
        ...


@runtime_checkable
class Splittable(Family, Protocol):
    """A family whose layers split into projections, attention, and what stands above it."""

    def projections(self, index: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The linear modules that make queries, keys and values."""
        ...

    def after_attention(
        self,
        index: int,
        context: Float[Tensor, "batch row context"],
        states: Float[Tensor, "batch row width"],
    ) -> Float[Tensor, "batch row width"]:
        """What a layer makes of the rows' contexts and their states, row by row."""
        ...


def splittable(family: Family) -> Splittable | None:
    """The family, if its layers can be split; None where the library's whole layer must be run."""
    return cast("Splittable", family) if family.splittable else None

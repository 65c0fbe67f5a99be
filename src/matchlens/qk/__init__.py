"""Circuits: the query-key matrices of the heads, and what they make of queries and documents.

Token i reads token j with the weight `x_j^T A x_i`, `A = W_K^T W_Q`, kept as its thin factors.

Reference: the science page, section 5.
"""

from matchlens.qk.algebra import Triplets, alignment, symmetric_share, triplets
from matchlens.qk.association import Association, spearman, spearman_of_rows
from matchlens.qk.controls import Crossed, Null, RotationNull, crossed, gaussian_null, rotation_null
from matchlens.qk.hypothesis import TERMS, Hypothesis, Shares
from matchlens.qk.mean_logits import (
    CONTRASTS,
    DIRECTIONS,
    MeanLogits,
    mean_logits,
    resampled_logits,
)
from matchlens.qk.mean_states import Means, MeanStates
from matchlens.qk.rotary import Turns, alignment_at, averaged, distances, logits_at, spread
from matchlens.qk.vocabulary import Matches, strongest_matches

__all__ = [
    "CONTRASTS",
    "DIRECTIONS",
    "TERMS",
    "Association",
    "Crossed",
    "Hypothesis",
    "Matches",
    "MeanLogits",
    "MeanStates",
    "Means",
    "Null",
    "RotationNull",
    "Shares",
    "Triplets",
    "Turns",
    "alignment",
    "alignment_at",
    "averaged",
    "crossed",
    "distances",
    "gaussian_null",
    "logits_at",
    "mean_logits",
    "resampled_logits",
    "rotation_null",
    "spearman",
    "spearman_of_rows",
    "spread",
    "strongest_matches",
    "symmetric_share",
    "triplets",
]

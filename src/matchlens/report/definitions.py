"""What the page's numbers are, exactly, in words."""

from __future__ import annotations

from collections.abc import Mapping

READ = (
    "X → Y: X attends to Y. X's tokens are rows of the attention matrix, Y's are columns; "
    "information flows from Y to X. CLS, Q (query), SEP1, D (document) and SEP2 are the five parts "
    "of an input; All is every column that is not padding. Q and D hold no special token."
)
CUT = (
    "A cut removes the attention of X's rows on Y's columns. By zero, unless said otherwise: the "
    "softmax is taken first, then these weights are set to 0 and the rest is not renormalised; a "
    "row with nothing left gives a zero context vector. The residual stream still carries the "
    "token."
)
TESTS = (
    "Tests are two-tailed paired t-tests over queries against the original, p Holm-corrected "
    "over the cells shown together; p flip is a sign-flip randomisation test (exact up to 2^14 "
    "flips, else 10,000 seeded ones). The interval is a 95% bootstrap interval of the change over "
    "queries, stratified by collection. Where all differences are 0, p = 1."
)
TIES = (
    "Scores are sorted, and neighbours closer than tie_tol form one tie group; measures that are "
    "linear in position give each rank of a group the group's mean gain, which is exact. The "
    "random ranking is all candidates in one tie group: an expected value, not a draw."
)

DEFINITIONS: Mapping[str, tuple[str, ...]] = {
    "table-1": (READ, CUT, TESTS, TIES),
    "paper": (
        "The paper: MonoBERT-large on TREC DL 2019 to 2022, nDCG@10, at most 512 tokens. It prints "
        "some cells of Table 1, and of all others that they lie between .78 and .82. Difference: "
        "ours minus the nearest number that the paper allows; 0 inside its range. Lost: the share "
        "of the original that a cut costs, from the middle of the paper's range. Stars here are "
        "the paper's: unpaired, uncorrected.",
        READ,
        CUT,
    ),
    "figure-1a": (
        "Up to layer n: the direction is cut in layers 0 to n − 1. n = 0 is the original, the "
        "last n equals Table 1's cell. From layer n: cut in layers n to the top. Only: in that "
        "one layer. Window: in as many neighbouring layers as the options say.",
        READ,
        CUT,
        TESTS,
    ),
    "heads": (
        "Each cell is one run in which that head alone, in its layer, no longer reads in the "
        "direction named; without a direction, the head reads nothing at all. q is "
        "Benjamini-Hochberg's over the sweep, each way of cutting apart. The selected heads were "
        "chosen on one half of the queries and are reported on the other, so that no choice is its "
        "own proof.",
        CUT,
        TESTS,
    ),
    "figure-1b": (
        "mass(X → Y) is the mean over rows i in X of the sum over j in Y of the attention a_ij. "
        "Per query the difference of the means of two classes of passages is taken: relevant "
        "(grade at least rel), hard (grade 0), easy (random passages of the collection); grade 1 "
        "is in none. The number is the mean over queries, or the median where the options say so.",
        "q: Benjamini-Hochberg over all heads of two-tailed paired t-tests over queries. AUC: per "
        "query the chance that a passage of the first class has more mass than one of the second, "
        "ties counting half; then the mean over queries.",
        READ,
    ),
    "figure-1c": (
        "peak(X → Y) is the largest attention of a row in X on a column in Y. entropy(X → Y) is "
        "the entropy in nats of a row's attention renormalised over Y, as a mass-weighted mean "
        "over rows. same-token share: the share of the X → Y mass on columns with the row's own "
        "token. Each point is the change between two classes of passages, as in Figure 1b.",
        "Distributions: how the attention mass of single pairs is distributed, each class's pairs "
        "summing to 1. AUC: relevant against easy passages of like length, on the half of the "
        "queries that describes. KS: the Kolmogorov-Smirnov "
        "distance of relevant and easy, all queries together.",
    ),
    "no-op": (
        "What Q's and D's rows read from CLS, SEP1 and SEP2, both rows weighted alike, mean over "
        "pairs. By mass: the attention. By norm mass: attention times the length of what is "
        "written, |W_O v_j| (Kobayashi et al. 2020), as a share of all that is written. A sink is "
        "a head of which the special tokens get at least half of the mass; a no-op is a sink whose "
        "special tokens get less than half of the norm mass: it looks where little is written. "
        "Heads in which Q and D read nothing, as in the decoder of an encoder-decoder, are "
        "neither. Bands: quartiles over the layer's heads.",
    ),
    "lexical": (
        "same-stem share(X → Y): the share of the X → Y mass on words of the row's own stem "
        "(whole words; Snowball's English stems), mass-weighted over pairs and heads. High: the "
        "same words are matched; low: others are. Bands: quartiles over the layer's heads. "
        "Lexical mass is mass times that share, semantic mass the rest.",
    ),
    "matching": (
        "A matching head in a direction has, on one half of the queries, a corrected q and a mean "
        "AUC (relevant against easy passages of like length) that pass the thresholds among the "
        "options, and more AUC than CLS and SEP1 have on the same part, which hold no query word "
        "(paired over queries, one-sided, Benjamini-Hochberg over heads). The other half describes "
        "it: AUC, p (Holm over these heads), same-stem share. It is held if there, too, the sign, "
        "p and AUC agree. Beside words: the AUC that is left beside the share of the query's words "
        "that the passage has.",
        "Kinds, on the other half's relevant passages, each by a one-sided test over queries, Holm "
        "over heads and kinds. Lexical: the mass on words of the reader's own stem is at least "
        "twice what the row's and the column's sums give. Query-word reader: the mass on the "
        "query's content words, whoever reads, is at least twice their share of the columns. "
        "Semantic: between a query word that the passage lacks and passage words of other stems "
        "that are near (static embeddings, the top 1% of random word pairs) it is at least 1.5 "
        "times their share. Unexplained: none of these. The multiples are among the options.",
        "Effect: the change of the measure when this head alone is cut in its direction, on pairs "
        "of the other half, with its 95% interval; q: Benjamini-Hochberg over these heads. Sets: "
        "all matching heads of a direction cut together, beside random sets with as many heads in "
        "each layer; p is the share of sets, the named one among them, that lower the measure at "
        "least as much. Causal: q ≤ .05.",
    ),
    "figure-2": (
        "A = W_K^T W_Q of a head. Alignment: trace(A) = Σ s_k u_k · v_k over A's singular "
        "triplets; large where the head looks for a token like its own. The contrasts are "
        "differences of logits of mean tokens, the reader first: QD is the logit with which the "
        "mean query token reads the mean document token. Means are taken on one half of the "
        "queries; the colour, the difference of attention mass between relevant and easy "
        "passages, on the other.",
        "Null: alignment of random Gaussian factors of the same shape, in whose standard "
        "deviations z is given; rotation: A's own singular values with random singular vectors; "
        "crossed: K of one head with Q of another in the layer. Spearman's rho over heads; its p "
        "by permutations inside layers, which are also the mean called layers alone. Intervals: "
        "heads drawn anew inside their layers, and queries drawn anew, on which the contrast (one "
        "half of the queries) and the colour (the other) depend.",
    ),
    "hypothesis": (
        "With x = token input − q and y = token input − d (q and d the mean inputs), a Q-D logit = "
        "constant (q, d) + cross terms (q, y) and (x, d) + matching term (x, y) + bias terms. Per "
        "head and reading direction, pooled over token pairs, share_k = Cov(term_k, logit) / "
        "Var(logit). Shares sum to 1 and may be negative. The paper takes the cross terms for 0; "
        "the shares say for which heads that holds.",
    ),
    "controls": (
        "Beside each cut stand its controls in the same pairs, layers and heads; what is drawn is "
        "the mean of several draws. Row-matched (the primary one): each row of the cut loses "
        "the attention that it would lose to the cut, on random columns outside it, on the cut's "
        "own columns only where the others hold too little. Scaled: the same rows are multiplied "
        "by 1 minus that attention. As many random edges (pairs of tokens, special ones included), "
        "and random edges that carry as much attention: in all rows, CLS's among them. Where more "
        "of a control lies in the direction itself, it controls less.",
        "Beyond: the cut's change minus the control's, with a paired t-test over queries, "
        "Holm-corrected over the cuts. The direction matters beyond the amount where the cut is "
        "shown to do more damage than the row-matched control; only the amount matters where the "
        "two are shown to be equal within 6% of (original - random) by two one-sided tests, and no "
        "more than half of the control's attention lies in the direction; all else is undecided.",
    ),
    "screen": (
        "A gate multiplies a head's attention in one direction, after the softmax; at 1 nothing is "
        "changed, at 0 it is cut. The screened effect of a gate is the negative derivative of the "
        "score by it, at 1: to first order what cutting this head alone in this direction does. "
        "Estimates do not add up over a set of gates. They are always checked against exact cuts "
        "of the ten largest and of others drawn over the layers, over all pairs and within "
        "queries (only the latter ranks); below Pearson .9 or sign agreement .9 within queries "
        "the measure is not predicted.",
    ),
    "explain": (
        "A gate on every attention weight is opened from 0 to 1, all gates together. The "
        "contribution of an edge (one token reads another, in one head) is the integral of the "
        "score's gradient by its gate along that path. The contributions of all edges add up to "
        "the score minus the score without any attention; how far they miss it is printed as the "
        "error. They are summed over directions, heads, and words: as a word is read (its "
        "columns) or as it reads (its rows). What does not pass through attention is a row of "
        "its own.",
        "A contribution shares out the score; it does not say what a cut would do. What is "
        "causal: the margin A − B when a unit is really cut in both passages (its attention set "
        "to 0), and the smallest set of cuts found that swaps the two, beside random sets of the "
        "same size and layers.",
    ),
    "pair": (
        "Each token is shaded by the attention that it receives from the chosen reader: the mean "
        "over the reader's rows of the attention a_ij, in the untouched model. A reader's "
        "attention sums to 1 over all tokens of the input. Several heads: the mean over those in "
        "which the reader reads.",
        "Below: the pair's score (a logit) and its rank among its query's candidates when a "
        "direction is cut in all layers, from the same runs as Table 1.",
    ),
}

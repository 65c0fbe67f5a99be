"""Lexical against semantic matching: the same words, or the same sense.

You learn how the tests of a head's kind work, and how to order the matching heads by the share of
their attention on the token itself. Some answers of the demo collection have all words of the query
and some have none, so that you see what each kind of head does for each kind of answer.

Run it: ``python examples/lexical_and_semantic.py``. It takes about 40 seconds.
"""

import os
from pathlib import Path

import pandas as pd

import matchlens

QUERIES, HEADS = 20, 6
PICTURES = Path(os.environ.get("MATCHLENS_PICTURES", "out/pictures"))

# 1. "exact" passages share every content word with the query, "paraphrase" ones share none.
model = matchlens.load("demo")
pairs = matchlens.choose(matchlens.demo.load(), queries=QUERIES, per_grade=2, easy=2)
kinds = pd.Series([pair.kind if pair.grade == 3 else "" for pair in pairs.pairs])
print("Passages of grade 3:", kinds[kinds != ""].value_counts().to_dict())

# 2. Attention mass, and the share of it on the row's own token and on words of its stem.
meters = ["mass", "same_token", "same_stem"]
result = matchlens.attention(model, pairs, meters=meters, causal=False)
heads = result.to_frame("matching").query("direction == 'Q->D' and matching")
print(f"\nMatching heads Q->D by kind: {heads['kind'].value_counts().to_dict()}")

# 3. Where in the model: the depth at which half of what relevant passages get more is reached. One
#    comes later without relevance, too: the null has relevance shuffled within queries.
(stages,) = result.to_frame("stages").query("direction == 'Q->D'").itertuples()
print(
    f"Lexical matching in layer {stages.lexical:.1f}, other in layer {stages.semantic:.1f}: "
    f"{stages.later:.1f} layers later, {stages.null:.1f} where relevance is shuffled "
    f"(uncorrected p {stages.p_later:.3f})."
)

# 4. What each sort does for a score: cut the heads with the largest and the smallest share, and see
#    by how much the scores of both sorts of answers fall. (A few heads of 144: small changes.)
ordered = heads.sort_values("same_token", ascending=False)
few = min(HEADS, len(ordered) // 2)
groups = {"most lexical": ordered.head(few), "least lexical": ordered.tail(few)}
cuts = {
    f"Q->D#{','.join(f'{row.layer}.{row.head}' for row in group.itertuples())}": name
    for name, group in groups.items()
}
scores = matchlens.score(model, pairs.pairs, ["Q->D", *cuts])
change = scores.sub(scores[""], axis=0).drop(columns="").rename(columns=cuts)
table = change[kinds != ""].groupby(kinds[kinds != ""]).mean()
print("\nMean change of the score (logits) of grade-3 passages, by what is cut:\n")
print(table.round(2).to_string())

# 5. The same-token share by layer, for relevant, hard and easy passages.
PICTURES.mkdir(parents=True, exist_ok=True)
result.plot("lexical").savefig(PICTURES / "lexical-and-semantic.png", dpi=240)

"""Find the heads that match, and cut them.

You learn how to find the heads that attend more from query to document where the passage is
relevant. They are found on one half of the queries and must hold on the other. Attention that
differs need not matter: the heads are cut, next to random heads of the same layers.

Run it: ``python examples/matching_heads.py``. It takes about 20 seconds.
"""

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

import matchlens

QUERIES, HEADS = 16, 16  # a study takes all 32 queries, and all matching heads
PICTURES = Path(os.environ.get("MATCHLENS_PICTURES", "out/pictures"))
OUT = Path(os.environ.get("MATCHLENS_OUT", "out/examples")) / "matching_heads"

# 1. Pairs of three classes: relevant passages, hard negatives (judged 0), easy ones (random).
model = matchlens.load("demo")
pairs = matchlens.choose(matchlens.demo.load(), queries=QUERIES, per_grade=2, easy=3)

# 2. Where every head attends. A matching head gives more attention to relevant passages than to
#    easy ones, on the half of the queries that finds it; "held" says whether the other half agrees.
result = matchlens.attention(model, pairs, meters=["mass", "same_stem"], causal=False)
heads = result.to_frame("matching").query("direction == 'Q->D'")
found = heads[heads["matching"]].sort_values("auc_found", ascending=False)
print(
    f"{len(found)} of {len(heads)} heads match Q->D; {found['held'].sum()} hold on other queries."
)
columns = ["layer", "head", "diff_found", "auc_found", "diff", "auc", "kind", "held"]
print(found[columns].head(6).round(3).to_string(index=False))

# 3. Do they matter? Cut the strongest of them, and as many others of the same layers that do not
#    match, on the queries that did not choose them.
strongest, others = found.head(HEADS), heads[~heads["matching"]]
controls = [
    others[others["layer"] == layer].head(len(group)) for layer, group in strongest.groupby("layer")
]
sets = (strongest, pd.concat(controls))
cuts = ["Q->D#" + ",".join(f"{row.layer}.{row.head}" for row in one.itertuples()) for one in sets]
half = result.pairs.query("half == 1")["pair"]
unseen = replace(pairs, pairs=tuple(pairs.pairs[number] for number in half))
damage = matchlens.ablation(model, unseen, cuts=["Q->D", *cuts])
print()
print(matchlens.table_text(damage))
print(f"First the {len(strongest)} strongest heads, then {len(sets[1])} others of their layers.")
print("One set of others may be an odd one: matchlens.head_sets draws at least 100 of them.")

# 4. Figure 1b: every head's attention between query and document, relevant less easy passages.
PICTURES.mkdir(parents=True, exist_ok=True)
result.plot().savefig(PICTURES / "matching-heads.png")

# 5. For a paper: the figure as PDF, the table of heads as LaTeX.
OUT.mkdir(parents=True, exist_ok=True)
result.plot().savefig(OUT / "matching-heads.pdf")
(OUT / "matching-heads.tex").write_text(result.to_latex())
print(f"LaTeX and PDF in {OUT}")

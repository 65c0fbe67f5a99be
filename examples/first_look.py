"""A first look: score a few pairs, make a small Table 1, save the page.

You learn what a cut is and what it does to a score, how to run a study of many cuts on graded
pairs, and where its numbers, figures and page are. It takes about 20 seconds.

Run it: ``python examples/first_look.py``. Needs ``pip install 'matchlens[demo]'`` and no network.
"""

import os
from pathlib import Path

import matchlens

QUERIES = 5  # the demo collection has 32; more queries, narrower intervals
OUT = Path(os.environ.get("MATCHLENS_OUT", "out/examples")) / "first-look"
PICTURES = Path(os.environ.get("MATCHLENS_PICTURES", "out/pictures"))

# 1. A model: the demo reranker, a folder of one's own, or a name on the Hugging Face hub. It is
#    accepted only after a cut has been seen to bite in it.
model = matchlens.load("demo")

# 2. A few pairs, without a cut and under two. "CLS->D" reads: CLS no longer reads the document.
question = "why does meat brown when seared"
passages = [
    "Meat turns brown when seared because amino acids and sugars react in the heat.",
    "A steak gains its dark crust in a hot skillet through the Maillard reaction.",
    "Let a cooked steak rest for five minutes before carving.",
]
scores = matchlens.score(model, [(question, text) for text in passages], ["Q->D", "CLS->D"])
scores.insert(0, "passage", [text[:40] + "..." for text in passages])
print("Scores are relevance logits; the column without a name is the model as it is.\n")
print(scores.round(2).to_string(index=False))

# 3. Single scores tell little. Table 1 asks what each cut does to the ranking of graded passages,
#    over queries, with an interval and a test. All its 30 cuts are made where none are named.
pairs = matchlens.choose(matchlens.demo.load(), queries=QUERIES, per_grade=2)
cuts = ["CLS->Q", "CLS->D", "CLS->All", "Q->Q", "Q->D", "Q->All", "D->Q", "D->D", "SEP2->All"]
result = matchlens.ablation(model, pairs, cuts=cuts)
print()
print(matchlens.table_text(result))

# 4. The same numbers as a pandas table, and the cut that does the most damage.
table = result.to_frame()
worst = table[~table["cut"].isin(["", "random"])].sort_values("diff").iloc[0]
print(
    f"Most damage: {worst['cut']}, {worst['diff']:+.3f} nDCG@10; {QUERIES} queries decide little."
)

# 5. A results folder, with the manifest that says how it was made, and the page of it.
#    A folder holds one model on one choice of pairs: after a change above, give it another name.
result.save(OUT)
print(f"Open {matchlens.write_report(OUT)} in a browser.")

# 6. Any figure as a file: the change under each cut, with its 95% interval.
PICTURES.mkdir(parents=True, exist_ok=True)
result.plot().savefig(PICTURES / "first-look.png")

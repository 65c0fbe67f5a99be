"""From a data frame to Table 1: candidates and judgements in pandas.

You learn how to pass your own pairs as a frame, what matchlens leaves out and reports, and how
judgements of passages that were not retrieved define the full ideal ranking.
It takes about 20 seconds.

Run it: ``python examples/from_a_data_frame.py``. Needs ``pip install 'matchlens[demo]'``.
"""

import pandas as pd

import matchlens

QUERIES = 4

# 1. A frame as a first stage leaves it: a row for each query with a candidate passage, and a score.
#    Here it is made of the demo collection; yours may come from PyTerrier, ranx or a file. Names
#    such as query_id, docid, passage or contents are known.
chosen = matchlens.choose(matchlens.demo.load(), queries=QUERIES, per_grade=2)
frame = pd.DataFrame(
    [(pair.qid, pair.query, pair.docid, pair.text, len(pair.text)) for pair in chosen],
    columns=["qid", "query", "docno", "text", "score"],
)
print(frame.assign(text=frame["text"].str[:30] + "...").head(3).to_string(index=False))

# 2. Judgements: a frame, a dict of dicts, or what ir_measures.read_trec_qrels gives. A query that
#    the frame lacks is left out and counted.
qrels = {pair.qid: {} for pair in chosen}
for pair in chosen:
    qrels[pair.qid][pair.docid] = pair.grade
qrels["not-in-the-frame"] = {"d1": 1}
pairs = matchlens.PairSet.from_frame(frame, qrels, name="my pairs")
print(f"\n{len(pairs)} pairs; left out: {'; '.join(pairs.notes)}")

# 3. Table 1 on them, for a few cuts; all 30 where none are named. The ideal ranking is that of all
#    judgements, as in trec_eval, since they came beside the frame.
result = matchlens.ablation("demo", pairs, cuts=["CLS->D", "CLS->All", "Q->D", "D->Q", "D->D"])
print()
print(matchlens.table_text(result))

# 4. Where no grade is needed a list will do: scores with and without a cut, row by row.
couples = [("warm tea", "Tea is best served warm."), ("warm tea", "Rust is red.")]
scores = matchlens.score("demo", couples, ["Q->D"]).rename(columns={"": "untouched"})
scores.insert(0, "passage", [text for _, text in couples])
print(scores.round(2).to_string(index=False))

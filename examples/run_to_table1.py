"""A run and judgements, to Table 1 in LaTeX, under two measures at once.

You learn how to rerank the top of a TREC run with and without cuts, that rankings of a run are
measured against all judgements of a query, and how one run of the model gives several measures.
It takes about 20 seconds.

Run it: ``python examples/run_to_table1.py``. Needs ``pip install 'matchlens[demo]'``.
"""

import os
from pathlib import Path

import matchlens

QUERIES, DEPTH = 6, 10
OUT = Path(os.environ.get("MATCHLENS_OUT", "out/examples")) / "run_to_table1"

# 1. A run, as any retriever writes it: {query: {passage: score}}, a data frame, or a TREC file.
#    This one counts the words that a passage shares with the query.
demo = matchlens.demo.load()
texts = demo.texts({docid for grades in demo.qrels.values() for docid in grades})


def shared(query: str, text: str) -> int:
    """How many words of the query the passage has."""
    return len({*query.lower().split()} & {*text.lower().split()})


queries = dict(list(demo.queries.items())[:QUERIES])
run = {
    qid: {
        docid: shared(query, text) + 0.001 / (n + 1)
        for n, (docid, text) in enumerate(texts.items())
    }
    for qid, query in queries.items()
}

# 2. The first passages of the run; the ideal ranking is that of all judgements.
collection = matchlens.frame.load(topics=queries, run=run, collection=demo, name="words")
pairs = matchlens.choose(collection, depth=DEPTH)
print(pairs)

# 3. Table 1 (here four of its cells), under two measures. The model runs once.
cuts = ["CLS->All", "Q->D", "D->Q", "D->D"]
result = matchlens.ablation(matchlens.load("demo"), pairs, cuts=cuts, measure=["nDCG@10", "RR@10"])
print(matchlens.table_text(result))
means = result.to_frame("measures").pivot_table(index="cut", columns="measure", values="mean")
print(means.round(3).to_string())

# 4. A folder with the tables, LaTeX and figures, as ``matchlens ablation`` writes it.
result.save(OUT, drawings=True)
print((OUT / "ablation" / "measures.tex").read_text())

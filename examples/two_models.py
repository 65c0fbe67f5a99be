"""Two models side by side: the demo reranker, and a copy of it with layers left out.

You learn how to use a model that is already in memory (``matchlens.wrap``), and how to compare two
results folders query by query.

Nobody would use the second model: it is the demo reranker without two of its middle layers, and is
not trained again, so that the example needs no second download. Compare your own rerankers in the
same way.

Run it: ``python examples/two_models.py``. It takes about 20 seconds.
"""

import copy
import os
from pathlib import Path

from torch.nn import ModuleList

import matchlens

QUERIES, LEFT_OUT = 5, (5, 6)
CUTS = ["CLS->D", "CLS->All", "Q->D", "D->Q", "D->D"]
OUT = Path(os.environ.get("MATCHLENS_OUT", "out/examples")) / "two-models"
PICTURES = Path(os.environ.get("MATCHLENS_PICTURES", "out/pictures"))

# 1. The second model: a copy in memory, with ten layers of twelve.
whole = matchlens.load("demo")
module = copy.deepcopy(whole.family.module)
kept = [layer for n, layer in enumerate(module.bert.encoder.layer) if n not in LEFT_OUT]
module.bert.encoder.layer = ModuleList(kept)
module.config.num_hidden_layers = len(kept)
shorter = matchlens.wrap(module, whole.tokenizer, name="ten-layers")
print(f"{whole.name} has {whole.family.n_layers} layers, {shorter.name} {shorter.family.n_layers}.")

# 2. The same cuts on the same pairs, each model into a folder of its own.
pairs = matchlens.choose(matchlens.demo.load(), queries=QUERIES, per_grade=2)
folders = []
for model in (whole, shorter):
    result = matchlens.ablation(model, pairs, cuts=CUTS)
    folders.append(result.save(OUT / model.name))
    print()
    print(matchlens.table_text(result))

# 3. Side by side. "paired" has a row for each condition: the second model less the first, over
#    the same queries, with an interval and a corrected test.
comparison = matchlens.compare(folders)
for row in comparison.to_frame("said").itertuples():
    print(f"{row.kind:>8}: {row.sentence}")
columns = ["condition", "diff", "ci_low", "ci_high", "p_holm"]
print()
print(comparison.to_frame("paired")[columns].round(3).to_string(index=False))

PICTURES.mkdir(parents=True, exist_ok=True)
comparison.plot().savefig(PICTURES / "two-models.png")

"""Your own reranker before and after fine-tuning: matching heads appear.

You learn how to use your own model folder and TREC files, and how to see what training changed: the
ranking, the directions that it depends on, the heads' query-key matrices.

The model is tiny (2 layers of 4 heads), starts from random weights and is trained here on one task:
a passage is as relevant as it has words of the query. It is matching and nothing else, so that we
know what should be found; it says nothing about what else a real reranker learns.

Run it: ``python examples/before_and_after.py``. It takes about 40 seconds.
"""

import json
import os
import random
import string
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

import matchlens

STEPS, QUERIES, CUTS = 2000, 32, ["Q->D", "D->Q", "CLS->Q", "CLS->D"]
OUT = Path(os.environ.get("MATCHLENS_OUT", "out/examples")) / "before-and-after"
PICTURES = Path(os.environ.get("MATCHLENS_PICTURES", "out/pictures"))

# 1. The task: queries of 2 words, passages of 6, graded by how many of the two are there.
prose = " ".join(pair.text for pair in matchlens.choose(matchlens.demo.load()).pairs)
known = sorted({word for word in prose.lower().split() if word.isalpha() and len(word) > 4})
words = random.Random(0).sample(known, 100)


def example(draw: random.Random, query: list[str], grade: int) -> list[str]:
    """A passage of six words, of which ``grade`` are the query's."""
    others = [word for word in words if word not in query]
    return draw.sample(draw.sample(query, grade) + draw.sample(others, 6 - grade), 6)


# 2. The model before: a small BERT that knows these words, with random weights.
letters = [mark + letter for letter in string.ascii_lowercase for mark in ("", "##")]
tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words]
tokenizer = BertTokenizer(vocab={token: place for place, token in enumerate(tokens)})
torch.manual_seed(0)
shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
config = BertConfig(
    vocab_size=len(tokenizer), num_attention_heads=4, initializer_range=0.2, num_labels=1, **shape
)
model = BertForSequenceClassification(config).eval()
model.save_pretrained(OUT / "before")
tokenizer.save_pretrained(OUT / "before")

# 3. Training: the score shall be the grade.
optimizer, draw = torch.optim.Adam(model.parameters(), lr=1e-3), random.Random(1)
for step in range(STEPS):
    queries = [draw.sample(words, 2) for _ in range(64)]
    grades = [draw.randint(0, 2) for _ in queries]
    passages = [example(draw, *one) for one in zip(queries, grades, strict=True)]
    texts = [[" ".join(one) for one in side] for side in (queries, passages)]
    batch = tokenizer(*texts, return_tensors="pt")
    loss = ((model(**batch).logits[:, 0] - torch.tensor(grades)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 499:
        print(f"step {step + 1}: squared error {loss.item():.3f}")
model.save_pretrained(OUT / "after")
tokenizer.save_pretrained(OUT / "after")

# 4. Pairs that training has not seen, as TREC files.
draw = random.Random(2)
topics, qrels, passages = [], [], []
for qid in range(QUERIES):
    query = draw.sample(words, 2)
    topics.append(f"q{qid}\t{' '.join(query)}\n")
    for number in range(12):
        docid, grade = f"q{qid}-{number}", number % 3
        qrels.append(f"q{qid} 0 {docid} {grade}\n")
        text = " ".join(example(draw, query, grade))
        passages.append(json.dumps({"docid": docid, "text": text}) + "\n")
files = {"topics.tsv": topics, "qrels.txt": qrels, "passages.jsonl": passages}
for name, lines in files.items():
    (OUT / name).write_text("".join(lines))
collection = matchlens.trec.load(*(OUT / name for name in files), name="two-words")
pairs = matchlens.choose(collection, easy=4)

# 5. Before and after: the ranking, and what it hangs on.
for name in ("before", "after"):
    loaded = matchlens.load(OUT / name)
    print(matchlens.table_text(matchlens.ablation(loaded, pairs, cuts=CUTS)))

# 6. The heads: what they read by their weights. trace(A) is large where a token reads tokens like
#    itself; z is against random weights of the same size. mass_QD: relevant less easy passages.
circuits = matchlens.circuits(loaded, pairs, base=OUT / "before", top=0)
columns = ["layer", "head", "base_alignment", "alignment", "base_z", "z", "mass_QD", "mass_QD_auc"]
heads = circuits.to_frame("heads")[columns].sort_values("alignment", ascending=False)
print(heads.round(2).to_string(index=False))
PICTURES.mkdir(parents=True, exist_ok=True)
circuits.plot("base").savefig(PICTURES / "before-and-after.png")

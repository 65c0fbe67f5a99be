"""Your own parts: title against body, and rare against frequent words of the query.

You learn how fields of a collection, or any characters that a function names, become parts that you
can cut, measure and explain like Q and D, and what the model loses without the title, without the
body, and without the rare words of the query.
It takes about 40 seconds.

Run it: ``python examples/title_and_body.py``. Needs ``pip install 'matchlens[demo]'``.
"""

import math
import re
from collections import Counter

import matchlens

QUERIES = 8

# 1. A collection with fields. The demo passages have no titles, so that their first sentence is
#    taken for one; a BEIR folder, .jsonl files with a title, or a data frame have theirs.
demo = matchlens.demo.load()
texts = demo.texts({docid for grades in demo.qrels.values() for docid in grades})
passages = {}
for docid, text in texts.items():
    title, stop, body = text.partition(". ")
    passages[docid] = {"title": title + stop.strip(), "text": body}
collection = matchlens.frame.load(passages=passages, collection=demo, name="titled")
pairs = matchlens.choose(collection, queries=QUERIES, per_grade=2)
pairs = pairs.with_fields(collection, ["title", "body"])

# 2. Rare words of the query: those with an inverse document frequency above the middle one.
words = re.compile(r"\w+")
every = [*texts.values(), *demo.queries.values()]
known = Counter(word for text in every for word in {*words.findall(text.lower())})


def idf(word: str) -> float:
    """How rare a word is in the collection."""
    return math.log(len(every) / known[word.lower()])


def spans(rare: bool):
    """The characters of the rare, or of the frequent words of a pair's query."""

    def of(pair: matchlens.Pair) -> list[tuple[int, int]]:
        found = list(words.finditer(pair.query))
        middle = sorted(idf(one.group()) for one in found)[len(found) // 2]
        return [one.span() for one in found if (idf(one.group()) >= middle) == rare]

    return of


pairs = pairs.with_parts({"RARE": spans(rare=True), "FREQUENT": spans(rare=False)}, of="Q")
print(pairs)
for name, of, start, end in pairs[0].parts:
    text = pairs[0].query if of == "Q" else pairs[0].text
    print(f"{name:>8}: {text[start:end][:80]}")

# 3. Cut them. What covers D (or Q) adds up to it: {TITLE,BODY} is D.
model = matchlens.load("demo")
cuts = ["Q->D", "Q->TITLE", "Q->BODY", "TITLE->Q", "BODY->Q", "RARE->D", "FREQUENT->D"]
result = matchlens.ablation(model, pairs, cuts=cuts)
print()
print(matchlens.table_text(result))

# 4. Why one passage stands above another, by these parts: what reading them contributes to the
#    margin between the two scores, and the margin that is left when it is cut in both.
candidates = [pair for pair in pairs if pair.qid == pairs[0].qid]
scores = matchlens.score(model, candidates)[""].to_numpy()
best, worst = candidates[scores.argmax()], candidates[scores.argmin()]
why = matchlens.explain(model, best.query, [best, worst])
print(
    f"{best.query!r}: {best.text[:60]!r}\nstands {scores.max() - scores.min():.2f} above "
    f"{worst.text[:60]!r}. By own parts:"
)
margin = why.to_frame("margin").query("kind == 'own_direction'")
wanted = margin[margin["unit"].isin(["Q->TITLE", "Q->BODY", "TITLE->Q", "BODY->Q", "RARE->D"])]
print(wanted[["unit", "contribution", "margin_cut"]].round(2).to_string(index=False))

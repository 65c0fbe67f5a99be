"""What a family's attention costs: DeBERTa-v2 and ModernBERT against a BERT of the same size.

All three have MiniLM-L12's shape (12 layers of 384, 12 heads), random weights and one vocabulary
of 1,000 words, built in code, so that all read the same tokens. Two pieces of work: the attention
study's pass with all five meters, and a sweep of one direction up to each layer. The families take
turns; the ratio of CPU seconds to BERT's of the same round is what counts, on a noisy machine. The
numbers of pairs, of words of a passage and of rounds may be given: 8 120 3.
"""

from __future__ import annotations

import random
import statistics
import sys
import time

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

import matchlens
from matchlens.corpora import Pair, PairSet
from matchlens.directions import Cut
from matchlens.meters.names import NAMES
from matchlens.models.folder import FAMILIES
from matchlens.models.load import Reranker
from matchlens.runners import run
from matchlens.studies.attention.watching import watch

PAIRS, WORDS, ROUNDS = 8, 120, 3
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL, *(f"w{number}" for number in range(1000 - len(SPECIAL))))
SIZE = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "num_labels": 1,
    "initializer_range": 0.1,
}
OWN: dict[str, dict[str, object]] = {
    "bert": {},
    "deberta-v2": {  # as DeBERTa-v3 has it
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
        "pooler_hidden_size": 384,
    },
    "modernbert": {
        **{f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")},
        "intermediate_size": 1024,  # its gate is a third matrix: as many weights as BERT's two
    },
}


def tokenizer() -> PreTrainedTokenizerFast:
    numbers = {word: number for number, word in enumerate(VOCABULARY)}
    backend = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, numbers[word]) for word in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def reranker(family: str) -> Reranker:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZE, **OWN[family]})
    module = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    return matchlens.wrap(module.eval(), tokenizer(), name=family)


def chosen(number: int, words: int) -> PairSet:
    draw = random.Random(0)
    text = VOCABULARY[len(SPECIAL) :]
    pairs = []
    for place in range(number):
        query = " ".join(draw.choices(text, k=6))
        passage = " ".join(draw.choices(text, k=draw.randint(words // 2, words)))
        pairs.append(Pair("q", f"d{place}", query, passage, 0))
    return PairSet(tuple(pairs), {}, {}, {}, ())


def meters(model: Reranker, pairs: PairSet) -> None:
    watch(model, pairs, NAMES)


def sweep(model: Reranker, pairs: PairSet) -> None:
    names = [f"D->D@0:{n}" for n in range(model.family.n_layers + 1)]
    run(model, pairs.pairs, {name: [Cut.parse(name)] for name in names})


def seconds(work, model: Reranker, pairs: PairSet) -> float:
    start = time.process_time()
    work(model, pairs)
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    given = [int(word) for word in sys.argv[1:]]
    number, words, rounds = (*given, *(PAIRS, WORDS, ROUNDS)[len(given) :])
    pairs = chosen(number, words)
    rerankers = {}
    for family in OWN:
        if family in FAMILIES:
            rerankers[family] = reranker(family)
        else:
            print(f"{family}: not among the families of this version, left out")
    few = chosen(1, words)
    for model in rerankers.values():
        run(model, few.pairs, {"": []})
    print(f"{number} pairs, passages of {words // 2} to {words} words, {rounds} rounds, one thread")
    for name, work in (("attention study's pass", meters), ("sweep D->D up to each layer", sweep)):
        spent: dict[str, list[float]] = {family: [] for family in rerankers}
        for _ in range(rounds):
            for family, model in rerankers.items():
                spent[family].append(seconds(work, model, pairs))
        print(f"{name}: bert {statistics.median(spent['bert']):.2f} CPU seconds")
        for family, found in spent.items():
            ratios = [own / bert for own, bert in zip(found, spent["bert"], strict=True)]
            if family != "bert":
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                print(f"  {family} / bert: median {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()

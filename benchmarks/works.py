"""What is compared: the jobs, who does them, and how much of them ``bench`` and ``full`` take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.cuts import PARTS
from benchmarks.job import Contender, Job
from benchmarks.ours import CONFIGURATIONS

CELLS = ("Q->D", "D->Q", "D->D", "CLS->D", "CLS->All", "Q->All")
TABLE1 = tuple(f"{x}->{y}" for x in PARTS for y in (*PARTS, "All"))
PLACES = 2048
"""Rows of the measured matrix products: the places of a layer call."""
FIGURE1A = ("Q->D", "D->Q", "D->D", "Q->Q", "CLS->Q", "CLS->D", "CLS->All", "Q->All", "D->All")


@dataclass(frozen=True)
class Amount:
    """How much is done.

    Args:
        pairs: pairs of the comparisons.
        checked: of these, pairs that the reference computes (all conditions).
        cells: cells of Table 1.
        directions: directions of Figure 1a, one job together.
        head_layers: layers whose heads are cut one by one.
        head_pairs: pairs on which they are.
        every: every so-manieth pair of the authors' loop is run, and its times multiplied.
        growth: numbers of pairs.
        models: shapes beside the built-in model.
        model_pairs: pairs of those.
        rounds: rounds of everything.
    """

    pairs: int
    checked: int
    cells: Sequence[str]
    directions: Sequence[str]
    head_layers: Sequence[int]
    head_pairs: int
    every: int
    growth: Sequence[int]
    models: Sequence[str] = ()
    model_pairs: int = 8
    rounds: int = 5


AMOUNTS = {
    "bench": Amount(16, 16, CELLS, ("D->D",), (3, 8), 8, 8, (20, 200, 2000)),
    "full": Amount(64, 16, TABLE1, FIGURE1A, range(12), 16, 16, (200, 2000, 20000), ("bert-base",)),
    "quick": Amount(4, 4, CELLS[:2], ("D->D",), (3,), 4, 2, (8, 80), rounds=2),
}
"""By name; ``quick`` only shows that everything runs."""


@dataclass(frozen=True)
class Work:
    """One comparison.

    Args:
        key: its name in files.
        title: its name on the page.
        job: what is done.
        contenders: who does it.
    """

    key: str
    title: str
    job: Job
    contenders: tuple[Contender, ...]


def works(amount: Amount, base: Job, layers: int, heads: int) -> list[Work]:
    """All comparisons on one model.

    Args:
        amount: how much.
        base: model, pairs, length limit and threads.
        layers: layers of the model.
        heads: heads a layer.
    """
    up_to = [f"{way}@0:{n}" for way in amount.directions for n in range(1, layers + 1)]
    alone = [f"Q->D#{n}.{h}" for n in amount.head_layers if n < layers for h in range(heads)]
    cutting = {
        "table1": ("Table 1", ["", *amount.cells]),
        "up-to": ("Figure 1a (up to each layer)", ["", *up_to]),
        "heads": ("every head alone", ["", *alone]),
    }
    made = [Work("plain", "plain scoring", replace(base, kind="scores", conditions=[""]), plain())]
    for key, (title, conditions) in cutting.items():
        texts = base.pairs[: amount.head_pairs] if key == "heads" else base.pairs
        job = replace(base, kind="scores", conditions=conditions, pairs=texts)
        made.append(Work(key, title, job, cutters(amount.every)))
    job = replace(base, kind="masses", conditions=[""])
    made.append(Work("masses", "part masses of all heads", job, measurers(amount.every)))
    return made


def ours(**options: object) -> tuple[Contender, ...]:
    """matchlens in each of its configurations."""
    return tuple(
        Contender(name, "ours", {"load": load, **options}, side="ours")
        for name, load in CONFIGURATIONS.items()
    )


def plain() -> tuple[Contender, ...]:
    """Who scores without a cut."""
    return (
        *ours(),
        Contender("transformers, SDPA", "loop"),
        Contender("transformers, SDPA, compiled", "loop", {"compiled": True}),
        Contender(
            "sentence-transformers",
            "sentence_transformers_peer",
            environment="sentence-transformers",
        ),
    )


def cutters(every: int) -> tuple[Contender, ...]:
    """Who scores under cuts."""
    return (
        *ours(),
        Contender("loop over SDPA", "loop"),
        Contender("loop over SDPA, compiled", "loop", {"compiled": True}),
        Contender("nnsight", "nnsight_peer", environment="nnsight"),
        Contender("authors' loop", "authors", {"every": every}, side="authors"),
    )


def measurers(every: int) -> tuple[Contender, ...]:
    """Who makes part masses, and plain scoring beside them."""
    scoring = [
        replace(one, name=f"{one.name}: plain scoring", side="baseline", required=("",))
        for one in ours(plain=True)
    ]
    return (
        *ours(),
        *scoring,
        Contender("eager maps, reduced on the fly", "maps"),
        Contender("eager maps, stored to disk", "maps", {"stored": True}),
        Contender("authors' loop", "authors", {"every": every}, side="authors"),
    )


def triplets(threads: int) -> Work:
    """Singular triplets of a MiniLM reranker's 144 heads."""
    contenders = (
        Contender("matchlens", "triplets", {"thin": True}, side="ours"),
        Contender("dense SVD, batched", "triplets"),
    )
    job = Job("triplets", threads=threads, sizes=[144, 32, 384])
    return Work("triplets", "query-key triplets", job, contenders)


def peak(config: dict[str, int]) -> Contender:
    """The meter of matrix products that takes its turn among the contenders.

    Args:
        config: the model's config, for the shapes that its layers use.
    """
    sizes = [PLACES, config["hidden_size"], config["intermediate_size"]]
    return Contender("matrix products", "peak", {"sizes": sizes}, side="baseline")

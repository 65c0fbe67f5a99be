"""``docs/performance.md`` from what was measured: ``python -m benchmarks.page [FILE ...]``."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.goals import GOALS, Measurements
from benchmarks.gpu import PAPER_PAIRS, WORKS
from benchmarks.ratios import Spread, Work, grown, ratio, share, timed, took

HEAD = """# Performance

What matchlens takes for its work, beside what a user would write or pick instead. Every figure is
from one run, whose command and machine stand at the end; `python -m benchmarks.page` writes this
page from the file that the run leaves.

## Goals

A ratio is of CPU seconds of the same round, as median over the rounds with its range. The loop as
people write it goes over transformers with SDPA; the compiled one is an expert's, with
`torch.compile` and frozen weights, which then runs oneDNN's products, too. Sharing between
conditions saves operations, whose count sets what can be won against it.

"""

HOW = """## How it was measured

- Each contender runs in a process of its own with {threads} thread{s}, opponents that cannot share
  our environment in their own ({environments}). One works at a time; they take turns, {rounds}
  rounds, in an order that moves on by one each round. Seconds are CPU seconds of the process and
  its children; on a quiet machine the wall time beside them says the same. Memory is the process's
  peak resident set, model and libraries included.
- All get the same texts: {number} pairs of {source}, cut to {limit} tokens. Tokenizing counts.
- Before a time counts, all scores of that round are held against a reference: float64, one pair at
  a time, without padding, attention written out and zeroed behind the softmax. Scores (logits) may
  differ by {scores:.0e}, masses by {mass:.0e}, triplets by {triplets:.0e}. A contender that is
  wrong is listed as wrong and has no time.
- Preparing (loading, finding the best batch size, compiling) is not in the times; it is listed.
  Nothing is compiled before the run; what one contender compiled may serve the next.
- The loop over SDPA is length-sorted, in inference mode, without masks where nothing is padded. It
  zeroes exactly, in the faster of two ways, at the best of several batch sizes; compiled, each
  of the library's layers goes through `torch.compile` with dynamic shapes and frozen weights, which
  are packed for oneDNN then.
- The authors' loop has the shape of the authors' research code: one pair at a time, padded to
  {limit} tokens, eager attention, the untouched model run beside each ablated one, whole attention
  maps kept for the statistics. Since all its pairs are padded to one length and cost the same, some
  are run and the time is multiplied{authors}.
- {operations}
- The GEMM peak is the best rate of float32 matrix products in the same round: of the layers' shapes
  and of a big square, by the BLAS that torch was built with and by oneDNN with packed weights.

"""


WHY = """Shares of the time inside torch's operators. Attention takes several times its share of the
operations, which is t / (6d + t) for t tokens and width d, about 3% here. Sums and normalisation
are what compiling the layers could fuse; matchlens does not compile them, which would cost tens
of seconds (the compiled loop above) and a C++ compiler. What is missing to the peak beyond these
shares lies outside torch's operators and in padding: tokenizing, Python, the last rows of small
batches; it weighs the more, the fewer pairs there are."""


APART = "## Measured apart"
"""From this heading on the page is not written anew."""


def page(held: Measurements) -> str:
    """The page.

    Args:
        held: what ``python -m benchmarks`` wrote, with ``gpu`` where that was measured.
    """
    goals = _table(("work", "goal", "measured", ""), (goal.row(held) for goal in GOALS))
    head, rest = HEAD.split("## Goals")
    note = _filled(f"**{held['note']}**") + "\n\n" if held.get("note") else ""
    parts = [head, note, "## Goals", rest, goals]
    if not held.get("gpu"):
        parts.append("\nNo GPU was at hand in this run: `make bench-gpu` measures on one.\n")
    parts.append("\n" + _how(held))
    parts += [_work(work) for work in held["works"].values()]
    parts += [
        _profile(held.get("profile")),
        _growth(held["growth"]),
        _gpu(held.get("gpu")),
        _machine(held),
    ]
    return "".join(parts)


def _profile(shares: dict[str, list[tuple[str, float]]] | None) -> str:
    """Where matchlens's own time goes."""
    if not shares:
        return ""
    parts = ["## Where the time of matchlens goes\n\n", _filled(WHY), "\n\n"]
    for title, rows in shares.items():
        table = ((name, f"{part:.1%}") for name, part in rows)
        parts.append(_table((title, "share of the CPU time"), table) + "\n")
    return "".join(parts)


def _how(held: Measurements) -> str:
    works = held["works"].values()
    facts = [one["facts"] for work in works for one in work["contenders"].values()]
    run = {(fact["pairs run"], round(fact["scale"], 2)) for fact in facts if "pairs run" in fact}
    authors = "".join(f" ({pairs} pairs, times {scale:g})" for pairs, scale in sorted(run))
    said = {**held["pairs"], **held["tolerances"]}
    text = HOW.format(
        threads=held["threads"],
        s="" if held["threads"] == 1 else "s",
        environments="sentence-transformers, nnsight",
        rounds=held["rounds"],
        authors=authors,
        operations=held["operations"],
        **said,
    )
    head, *items = text.strip().split("\n- ")
    filled = [_filled(f"- {item}", "  ") for item in items]
    return "\n".join([f"{head.strip()}\n", *filled]) + "\n\n"


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()), 100, subsequent_indent=indent, break_long_words=False
    )


def _work(work: Work) -> str:
    """One comparison: who took what."""
    ours = timed(work, "ours")
    rows = [_row(work, name, ours[0] if ours else None) for name in work["contenders"]]
    head = f"## {work['title'].capitalize()}: {_model(work['model'])}\n\n"
    said = []
    if work["conditions"]:
        cuts = len([text for text in work["conditions"] if text])
        many = f"{cuts} cuts beside the untouched model" if cuts else "no cut"
        tokens = f"{work['tokens']['mean']:.0f} tokens on average, {work['tokens']['most']} at most"
        said.append(f"{work['pairs']} pairs of {tokens}; {many}.")
        if work["checked"] < work["pairs"]:
            said.append(f"The reference covers {work['checked']} of the pairs.")
    for name in ours:
        spread = share(work, name)
        if spread:
            rate = Spread(tuple(x / 1e9 for x in took(work, "matrix products", "rate").values))
            said.append(
                f"Share of the GEMM peak, {rate.text(0, ' GFLOP/s')}, that {name} reaches: "
                f"{spread.text()}."
            )
    columns = ("contender", "CPU s", "wall s", "times ours", "peak MiB", "prepared in s", "off by")
    return (
        head
        + (_filled(" ".join(said)) + "\n\n" if said else "")
        + _table(columns, filter(None, rows))
        + "\n"
    )


def _row(work: Work, name: str, ours: str | None) -> Sequence[str] | None:
    one = work["contenders"][name]
    if one["rounds"] and "rate" in one["rounds"][0]:
        return None
    settings = [
        f"{key} {one['facts'][key]}" for key in ("batch size", "way") if key in one["facts"]
    ]
    said = f"{name} ({', '.join(settings)})" if settings else name
    off = ", ".join(
        "missing" if worst is None else f"{worst:.0e}" for worst in one["difference"].values()
    )
    if one["absent"]:
        return said, f"absent: {one['absent']}", "", "", "", "", ""
    if one["wrong"]:
        return said, f"**wrong**: {one['wrong']}", "", "", "", "", off
    compile_seconds = one["facts"].get("compile seconds")
    prepared = f"{one['facts']['prepare seconds']:.0f}"
    if compile_seconds is not None:
        prepared += f" (compiling {compile_seconds:.0f})"
    return (
        said,
        took(work, name).text(),
        f"{took(work, name, 'wall').median:.2f}",
        ratio(work, name, ours).text() if ours else "",
        f"{max(took(work, name, 'memory_mib').values):.0f}",
        prepared,
        off,
    )


def _growth(growth: Sequence[dict[str, Any]]) -> str:
    if not growth:
        return ""
    steps = ["", *(f"{step - 1:+.1%}" for step in grown(growth))]
    rows = []
    for record, step in zip(growth, steps, strict=True):
        each = Spread(tuple(1000 * one["cpu"] / record["pairs"] for one in record["rounds"]))
        memory = Spread(tuple(one["memory_mib"] for one in record["rounds"]))
        rows.append((f"{record['pairs']:,}", each.text(), memory.text(0), step))
    said = (
        "## Growth\n\nA small BERT (4 layers, 64 wide, random weights); scores untouched and under "
        "two cuts, then the part masses of all heads. A fresh process each.\n\n"
    )
    return said + _table(("pairs", "CPU ms a pair", "peak MiB", "growth"), rows) + "\n"


GPU_WORKS = {
    "scoring": "plain scoring",
    "attention": "the attention study's meters",
    "screen": "the screen's pass",
    "table1": "Table 1",
    "explain": "explain, with the swap",
    "up-to": "Figure 1a",
}
"""Names of the works on a GPU."""


def _gpu(gpu: dict[str, Any] | None) -> str:
    if not gpu:
        return ""
    versions = gpu["machine"]["versions"]
    parts = [
        f"`{gpu['command']}` on one {gpu['device']} (torch {versions['torch']}, transformers "
        f"{versions['transformers']}), bfloat16, random weights, pairs of {gpu['source']}. Share: "
        "useful operations over the rate of a big bfloat16 product. The paper: 226 queries with "
        f"{PAPER_PAIRS // 226} passages each, from this pace."
    ]
    rows = []
    for shape, found in gpu["shapes"].items():
        for name, work in found["works"].items():
            rows.append(
                (
                    shape,
                    GPU_WORKS.get(name, name),
                    f"{work['pairs']:,} of {work['tokens']:.0f} tokens",
                    Spread(tuple(work["rounds"])).text(),
                    f"{work['share']:.2f}",
                    "" if work["memory_gib"] is None else f"{work['memory_gib']:.1f}",
                    f"{work['ms'] * PAPER_PAIRS / 1000:.0f} s" if WORKS[name].paper else "",
                )
            )
        half, ablation = found["bf16"], found["ablation"]
        memory = ablation["memory_gib"]
        parts.append(
            f"{shape}: bfloat16 scores are off by {half['off by']:.2f} standard deviations of the "
            f"float32 scores at most, {half['off by, mean']:.2f} on average; the rank correlation "
            f"within queries is {half['rank correlation']:.3f} on average, "
            f"{half['lowest rank correlation']:.3f} at least. The `ablation` study of "
            f"{ablation['pairs']} pairs takes {ablation['seconds']:.1f} s"
            + ("" if memory is None else f" and {memory:.1f} GiB")
            + f". float32 scores differ from a CPU's by {found['off the cpu']:.0e} at most."
        )
        if left := [said for name, said in GPU_WORKS.items() if name not in found["works"]]:
            parts.append(f"{shape}: no time was left for {' and '.join(left)}.")
    columns = ("shape", "study", "pairs", "ms a pair", "share", "GiB", "the paper")
    text, *others = (_filled(part) for part in parts)
    table = _table(columns, rows)
    return "\n\n".join(["## On a GPU", text, table.rstrip(), *others]) + "\n\n"


def _machine(held: Measurements) -> str:
    machine = held["machine"]
    versions = {
        name: version
        for work in held["works"].values()
        for one in work["contenders"].values()
        for name, version in one["facts"].get("versions", {}).items()
    }
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    rows = [
        ("command", f"`{held['command']}` ({held['seconds'] / 60:.0f} minutes)"),
        ("processor", f"{machine['cpu']}, {machine['cores']} cores, {machine['vectors']}"),
        ("memory", f"{machine['memory_gib']} GiB"),
        ("system", machine["system"]),
        ("load before the run", str(machine["load_at_start"])),
        ("commit, date", f"{machine['commit']}, {machine['date']}"),
        ("versions", listed),
    ]
    return "## Machine, versions, command\n\n" + _table(("", ""), rows)


def _model(name: str) -> str:
    known = {"demo": "ms-marco-MiniLM-L-12-v2", "random": "random heads"}
    return known.get(name, f"{name} shape, random weights")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def main(words: Sequence[str] | None = None) -> None:
    """Read the files, later ones adding to earlier ones, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    default = [Path("out", "bench", "bench.json")]
    parser.add_argument("files", type=Path, nargs="*", default=default)
    parser.add_argument("--out", type=Path, default=Path("docs", "performance.md"))
    options = parser.parse_args(words)
    held: dict[str, Any] = {}
    for file in options.files:
        held |= json.loads(file.read_text())
    text = page(held)
    if options.out.exists():  # figures of other runs, written by hand
        text += "".join(options.out.read_text().partition(f"\n{APART}\n")[1:])
    options.out.write_text(text)
    print(options.out)


if __name__ == "__main__":
    main()

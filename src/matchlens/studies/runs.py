"""TREC runs of the rankings under each cut."""

from __future__ import annotations

from urllib.parse import quote

from matchlens.results import Result


def trec_runs(result: Result) -> dict[str, str]:
    """A TREC run for every cut, and the index that says which is which.

    Args:
        result: a study's result; its scores and pairs are used. Runs are numbered, since cut
            texts are no file names. Equal scores stand in the order of passage ids. Where there
            are several collections, a query is called ``collection/qid``, odd characters of the
            collection's name as in a URL.

    Returns:
        File name to content: ``runs/0000.run`` and so on, and ``runs/index.tsv``.
    """
    pairs = result.pairs
    several = len(set(pairs["collection"])) > 1
    names = [
        f"{quote(str(collection))}/{qid}" if several else str(qid)
        for collection, qid in zip(pairs["collection"], pairs["qid"], strict=True)
    ]
    docids = [str(docid) for docid in pairs["docid"]]
    files, index = {}, ["run\tcut"]
    for number, (cut, group) in enumerate(result.scores.groupby("cut", sort=False)):
        scores = dict(zip(group["pair"], group["score"], strict=True))
        ranked: dict[str, list[int]] = {}
        for pair in sorted(scores, key=lambda pair: (-scores[pair], docids[pair])):
            ranked.setdefault(names[pair], []).append(pair)
        lines = [
            f"{name} Q0 {docids[pair]} {rank} {float(scores[pair])!r} matchlens-{number:04d}\n"
            for name in dict.fromkeys(names)
            for rank, pair in enumerate(ranked.get(name, ()), start=1)
        ]
        files[f"runs/{number:04d}.run"] = "".join(lines)
        index.append(f"{number:04d}.run\t{cut}")
    files["runs/index.tsv"] = "\n".join(index) + "\n"
    return files

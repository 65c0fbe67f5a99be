"""Small files of a collection, for the tests."""

from pathlib import Path

from matchlens.corpora import trec

GOOD = {
    "t.tsv": b"q1\thow to cook rice\nq2\twhat is rust\n",
    "qrels": b"q1 0 a 2\nq1 0 b 0\nq2 0 c 3\nq2 0 a -1\n",
    "p.jsonl": b'{"docid": "a", "text": "cook it"}\n{"docid": "b", "text": "a boat"}\n'
    b'{"docid": "c", "text": "iron oxide"}\n{"docid": "z", "text": "never needed"}\n',
    "r.run": b"q1 Q0 b 1 2.5 x\nq1 Q0 a 2 1.5 x\nq2 Q0 z 1 9e-1 x\n",
}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def load(folder, passages=("p.jsonl",), topics="t.tsv", qrels="qrels", run="r.run", **options):
    return trec.load(
        folder / topics,
        folder / qrels,
        [folder / name for name in passages],
        None if run is None else folder / run,
        **options,
    )

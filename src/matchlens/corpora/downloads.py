"""What ir_datasets would download, and whether it can be had; nothing is downloaded here."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from matchlens.errors import InputError

PASSAGES = {"msmarco-passage": "collectionandqueries", "msmarco-passage-v2": "passages"}
"""The archive that holds a collection's passages, as ir_datasets calls it."""
TIMEOUT = 10.0
"""Seconds to wait for a server's answer."""


def needed(dataset_ids: Sequence[str]) -> list[tuple[str, int]]:
    """The archives of passages that are not on the disk, with their size in bytes.

    The few small files of queries and judgements beside them are not counted.

    Args:
        dataset_ids: ids of ir_datasets.

    Raises:
        InputError: if one cannot be reached.
    """
    import ir_datasets
    from ir_datasets.util import home_path

    listed = Path(ir_datasets.__file__).parent / "etc" / "downloads.json"
    known = json.loads(listed.read_text("utf-8"))
    found = []
    for name in dict.fromkeys(dataset_id.partition("/")[0] for dataset_id in dataset_ids):
        if name not in PASSAGES:
            continue
        archive = known[name][PASSAGES[name]]
        size, folder = int(archive["size_hint"]), Path(home_path()) / name
        held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if held < size:
            _reach(name, str(archive["url"]), dict(archive.get("download_args", {})))
            found.append((f"passages of {name}", size))
    return found


def _reach(name: str, url: str, arguments: dict) -> None:
    """See that a server answers for an archive.

    Raises:
        InputError: if it does not.
    """
    if not url.startswith("https://"):
        raise InputError(f"the address of {name} is {url!r}; expected one that begins https://")
    request = urllib.request.Request(url, method="HEAD", headers=arguments.get("headers", {}))  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
            pass
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InputError(
            f"the collection {name} cannot be reached ({error}); name TREC files instead: "
            "--topics, --qrels, --passages"
        ) from None

"""A Hugging Face hub on this machine: the few addresses that a download asks for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlparse

COMMIT = "0123456789abcdef" * 2 + "01234567"


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serve folders as models.

    Args:
        repositories: folders, by the id of the model.

    Yields:
        The hub's address (HF_ENDPOINT), and the files that were downloaded so far.
    """
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            words = urlparse(self.path).path.strip("/").split("/")
            api = words[:2] == ["api", "models"]
            name = "/".join(words[2:4] if api else words[:2])
            folder = repositories.get(name)
            if folder is None:
                return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            if api:
                return self.answer(200, json.dumps(self.about(folder, name, words)).encode(), {})
            file = folder.joinpath(*words[4:])
            if not file.is_file():
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            content = file.read_bytes()
            if self.command == "GET":
                fetched.append(file.relative_to(folder).as_posix())
            tag = hashlib.sha256(content).hexdigest()
            return self.answer(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

        def about(self, folder, name, words):
            files = [one for one in sorted(folder.rglob("*")) if one.is_file()]
            entries = [
                {
                    "type": "file",
                    "path": one.relative_to(folder).as_posix(),
                    "rfilename": one.relative_to(folder).as_posix(),
                    "size": one.stat().st_size,
                    "oid": "0" * 40,
                }
                for one in files
            ]
            if words[4:5] == ["tree"]:
                return entries
            return {"id": name, "modelId": name, "sha": COMMIT, "siblings": entries}

        def answer(self, status, content, headers):
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def cached(
    cache: Path, name: str, folder: Path, *, without: tuple[str, ...] = (), revision: str = "main"
) -> Path:
    """Lay a folder into a hub cache as a download does: blobs, and links to them by name.

    Args:
        cache: HF_HUB_CACHE.
        name: the model's id.
        folder: its files.
        without: names of files that were not downloaded.
        revision: the branch that was downloaded.

    Returns:
        The snapshot.
    """
    place = cache / f"models--{name.replace('/', '--')}"
    main = revision == "main"
    commit = COMMIT if main else hashlib.sha1(revision.encode(), usedforsecurity=False).hexdigest()
    snapshot = place / "snapshots" / commit
    for part in (place / "blobs", place / "refs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(commit)
    files = [file for file in folder.rglob("*") if file.is_file()]
    if not without:  # another program may have asked for some files: nothing lists all
        listed = {
            file.relative_to(folder).as_posix(): {"size": file.stat().st_size, "blob_id": "0" * 40}
            for file in files
        }
        (place / "trees").mkdir(exist_ok=True)
        (place / "trees" / f"{commit}.json").write_text(
            json.dumps({"format_version": 1, "files": listed})
        )
    for file in files:
        if file.name not in without:
            blob = place / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            blob.write_bytes(file.read_bytes())
            name = snapshot / file.relative_to(folder)
            name.parent.mkdir(parents=True, exist_ok=True)
            name.symlink_to(Path(os.path.relpath(blob, name.parent)))
    return snapshot

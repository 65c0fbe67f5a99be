"""Starting and stopping the live page: ``matchlens serve`` and :func:`matchlens.serve`."""

from __future__ import annotations

import importlib.util
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matchlens.arguments import typed
from matchlens.corpora import PairSet
from matchlens.directions import Cut
from matchlens.errors import InputError, brief, counted

if TYPE_CHECKING:
    from matchlens.live.microscope import Microscope
    from matchlens.models.load import Reranker

HOST = "127.0.0.1"
HEIGHT = 900
"""Pixels of the page inside a notebook."""
PATIENCE = 10.0
"""Seconds within which the server must start or stop."""


class LivePage:
    """A live page that is being served; in a notebook it shows itself.

    Args:
        microscope: models, collection and sets.
        port: where it listens; a free one where 0.
        inside: whether a notebook may show the page inside it.

    Raises:
        InputError: if the extra is not installed or the port cannot be used.
    """

    def __init__(self, microscope: Microscope, port: int = 0, *, inside: bool = True) -> None:
        import uvicorn

        from matchlens.live.app import application
        from matchlens.live.work import Worker

        self.microscope = microscope
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
        except OSError as error:
            self._socket.close()
            raise InputError(
                f"port {port} of this machine cannot be used ({error.strerror}); expected a free "
                "one: give another, or 0 for any"
            ) from None
        self.port = int(self._socket.getsockname()[1])
        self.token = secrets.token_urlsafe(24)
        self.worker = Worker()
        app = application(microscope, self.worker, self.token, self.port, inside=inside)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                lifespan="off",
                loop="asyncio",
                http="h11",
                limit_concurrency=200,
                timeout_graceful_shutdown=2,
            )
        )
        # Not is_alive: an interrupted join makes Python 3.11 take a running thread for one that
        # has ended.
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="matchlens-server", daemon=True)
        self._thread.start()
        end = time.monotonic() + PATIENCE
        while not self._server.started and self.running and time.monotonic() < end:
            time.sleep(0.01)
        if not self._server.started:
            self.stop()
            raise InputError(
                f"the live page did not start on port {self.port} within {PATIENCE:g} seconds; "
                "expected a server that answers: try again, or give another port"
            )

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._ended.set()

    @property
    def url(self) -> str:
        """The page's address, with its token."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    @property
    def running(self) -> bool:
        """Whether it still answers."""
        return not self._ended.is_set()

    def wait(self) -> None:
        """Return when it has stopped."""
        self._ended.wait()

    def stop(self) -> None:
        """Stop serving; what is in work ends between two layers."""
        self.worker.close()
        self._server.should_exit = True
        if self._ended.wait(PATIENCE):
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> LivePage:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        names = ", ".join(brief(model.name, 40) for model in self.microscope.models)
        state = f"at http://{HOST}:{self.port}" if self.running else "stopped"
        return f"<LivePage of {names}, {state}>"

    def _repr_html_(self) -> str:
        if not self.running:
            return "<p>The live page was stopped.</p>"
        return (
            f'<iframe src="{self.url}" title="matchlens, live" '
            f'style="width:100%;height:{HEIGHT}px;border:0;border-radius:8px" '
            'allow="clipboard-write"></iframe>'
        )


@typed
def serve(
    model: Any = "demo",
    pairs: PairSet | None = None,
    *,
    sets: Mapping[str, Sequence[str | Cut]] | None = None,
    port: int = 0,
) -> LivePage:
    """Serve a live page, in a notebook inline: type texts, cut attention, watch the ranking.

    It listens on this machine alone, and its address has a random token.

    Args:
        model: a loaded reranker, a sentence-transformers CrossEncoder, what
            :func:`matchlens.load` takes, or a list of two of these, which are compared.
        pairs: queries with candidates to choose from, as :func:`matchlens.choose` makes them.
        sets: sets of cuts by name, each a list of cuts that are made together.
        port: where it listens; a free one where 0.

    Returns:
        The page, with ``url`` and ``stop()``.

    Raises:
        InputError: if the extra ``serve`` is not installed, a model cannot be loaded, a set cannot
            be used, or the port is taken.

    >>> import matchlens
    >>> page = matchlens.serve(matchlens.load("demo"))
    >>> page.url.startswith("http://127.0.0.1:"), page.stop()
    (True, None)
    """
    check_extra()
    check_port(port)
    models = list(model) if isinstance(model, list | tuple) else [model]
    check_models(len(models))
    cuts = {name: tuple(Cut.of(cut) for cut in texts) for name, texts in (sets or {}).items()}
    from matchlens.live.microscope import Microscope

    return LivePage(Microscope([_loaded(model) for model in models], pairs, cuts), port)


def _loaded(model: Any) -> Reranker:
    from matchlens.models.load import Reranker
    from matchlens.models.wrap import as_model, wrap

    loaded = as_model(model)
    return loaded if isinstance(loaded, Reranker) else wrap(loaded)


def check_extra() -> None:
    """Refuse to start without the extra ``serve``."""
    missing = [name for name in ("starlette", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        raise InputError(
            f"the live page needs {' and '.join(missing)}; expected the extra: pip install "
            "'matchlens[serve]'"
        )


def check_port(port: int) -> None:
    """Refuse a number that is not a port."""
    if not 0 <= port <= 65535:
        raise InputError(f"port is {port}; expected 0 (any) to 65535")


def check_models(count: int) -> None:
    """Refuse more models than the page compares."""
    if not 1 <= count <= 2:
        raise InputError(f"{counted(count, 'model')} came; expected one, or two to compare")

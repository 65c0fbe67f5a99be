"""The web application: one page, a few questions to ask, and who may ask them.

It listens on this machine alone. Whoever asks must know the token of the page's address, name this
server as Host, and come from its own page: another site, or a name that somebody points at this
machine (DNS rebinding), gets nothing.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from matchlens._version import __version__
from matchlens.errors import InputError
from matchlens.live.experiment import Experiment
from matchlens.live.exporting import environment, own, theme
from matchlens.live.microscope import Microscope
from matchlens.live.work import Job, Tell, Worker
from matchlens.report.page.pair_view import asset
from matchlens.report.texts import embedded

MOST_BYTES = 4 * 2**20
"""Bytes of a request: 20 passages of the greatest length fit."""
REPLACED: Mapping[str, tuple[str, ...]] = {
    "score": (),
    "words": ("words", "why"),
    "why": ("words", "why"),
    "page": ("page",),
}
"""Kinds of older requests of the same browser that a new one makes pointless."""
NOTEBOOKS = "http://localhost:* http://127.0.0.1:* https://localhost:* vscode-webview:"
"""Pages that may show this one inside them, where it is made for a notebook."""
SHARED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Lets in only who knows the token and comes from this server's own page.

    Args:
        app: what is guarded.
        token: what the page's address has after ``?token=``.
        port: where the server listens.
        inside: whether a notebook may show the page inside it.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, inside: bool) -> None:
        self.app, self.token, self.inside = app, token.encode(), inside
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a bound on the body and headers of our own."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        status, why = self._refusal(scope)
        if status:
            await PlainTextResponse(f"{why}\n", status, dict(SHARED))(scope, receive, send)
            return
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MOST_BYTES:
                raise TooLargeError
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = {**SHARED, "Cross-Origin-Resource-Policy": "same-origin"}
                if not self.inside:
                    ours["X-Frame-Options"] = "DENY"
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.lower().encode(), value.encode()) for name, value in ours.items()),
                ]
            await send(message)

        await self.app(scope, bounded, with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str]:
        """The status and the words of a refusal; 0 where there is none."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

        def one(name: str) -> str:
            return ",".join(headers.get(name, []))

        if one("host") not in self.hosts:
            return 421, "This server answers as 127.0.0.1 and localhost alone."
        origin, site = one("origin"), one("sec-fetch-site")
        page = scope["path"] == "/"
        if origin and origin not in self.origins:
            return 403, "Another site asked; only this server's own page may."
        if site not in ("", "same-origin", "none") and not page:
            return 403, "Another site asked; only this server's own page may."
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=20))
        given = query.get("token", "") if page else one("x-matchlens-token")
        if not hmac.compare_digest(given.encode(), self.token):
            return 403, "The token is missing or wrong: open the address that matchlens printed."
        length = one("content-length")
        if length and (not length.isdecimal() or int(length[:12]) > MOST_BYTES):
            return 413, f"More than {MOST_BYTES:,} bytes; expected fewer or shorter passages."
        return 0, ""


class TooLargeError(Exception):
    """A request's body grew beyond its bound."""


class UnreadableError(ValueError):
    """A request that this server's own page does not send."""


class Live:
    """The application's answers.

    Args:
        microscope: what is asked.
        worker: runs what needs a model.
        inside: whether a notebook may show the page inside it.
    """

    def __init__(self, microscope: Microscope, worker: Worker, inside: bool) -> None:
        self.microscope, self.worker, self.inside = microscope, worker, inside
        self.about = {**microscope.about(), "version": __version__}

    def routes(self) -> list[Route]:
        """Where each question is asked."""
        return [
            Route("/", self.page),
            Route("/api/queries", self.plain(self._queries), methods=["POST"]),
            Route("/api/candidates", self.plain(self._candidates), methods=["POST"]),
            Route("/api/cuts", self.plain(self._cuts), methods=["POST"]),
            Route("/api/lines", self.plain(self._lines), methods=["POST"]),
            Route("/api/run", self.run, methods=["POST"]),
        ]

    async def page(self, request: Request) -> HTMLResponse:
        """The page, whole; its script and styles carry a nonce."""
        nonce = secrets.token_urlsafe(16)
        text = (
            environment()
            .get_template("live.html.j2")
            .render(
                nonce=nonce,
                style=Markup(f"{theme()}{asset('pair.css')}{own('live.css')}"),  # noqa: S704 - ours
                pair=Markup(asset("pair.js")),  # noqa: S704 - ours
                script=Markup(own("live.js")),  # noqa: S704 - ours
                data=Markup(embedded(self.about)),  # noqa: S704 - it closes no element
            )
        )
        frames = NOTEBOOKS if self.inside else "'none'"
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            f"connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors {frames}"
        )
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    def plain(self, answer: Callable[[Mapping[str, Any]], Mapping[str, object]]) -> Any:
        """Answer at once what needs no model."""

        async def endpoint(request: Request) -> JSONResponse:
            try:
                return JSONResponse(answer(await _asked(request)))
            except (InputError, UnreadableError, TooLargeError) as error:
                return _refused(error)

        return endpoint

    def _queries(self, asked: Mapping[str, Any]) -> Mapping[str, object]:
        return self.microscope.list_queries(str(asked.get("search", ""))[:400])

    def _candidates(self, asked: Mapping[str, Any]) -> Mapping[str, object]:
        return self.microscope.candidates(asked.get("query"))

    def _cuts(self, asked: Mapping[str, Any]) -> Mapping[str, object]:
        return self.microscope.read_cuts(asked.get("model"), asked.get("text"))

    def _lines(self, asked: Mapping[str, Any]) -> Mapping[str, object]:
        return {"lines": self.microscope.lines(Experiment.of(asked, self.microscope.count))}

    async def run(self, request: Request) -> StreamingResponse | JSONResponse:
        """What runs a model: a line of JSON for each thing to tell, the result in the last."""
        try:
            asked = await _asked(request)
            kind, client = str(asked.get("kind")), str(asked.get("client", ""))[:64]
            if kind not in REPLACED:
                raise UnreadableError(f"no request is of the kind {kind!r:.40}")
            experiment = Experiment.of(asked, self.microscope.count)
            works: dict[str, Callable[[Tell], Mapping[str, object]]] = {
                "score": lambda tell: self.microscope.score(experiment),
                "words": lambda tell: self.microscope.words(experiment, tell),
                "why": lambda tell: self.microscope.why(experiment, tell),
                "page": lambda tell: self.microscope.page(
                    experiment, str(asked.get("title", ""))[:200]
                ),
            }
            loop, told = asyncio.get_running_loop(), asyncio.Queue[Mapping[str, object]]()

            def tell(what: Mapping[str, object]) -> None:
                with suppress(RuntimeError):  # the server has stopped meanwhile
                    loop.call_soon_threadsafe(told.put_nowait, what)

            replaced = set(REPLACED[kind])
            if kind == "score":  # each model, old texts and new: none of these replaces another
                replaced = {f"score {(slot := int(asked.get('slot') == 1) + 2 * experiment.model)}"}
                replaced |= {"words", "why"} if slot % 2 == 0 else set()
                kind = f"score {slot}"
            urgent = kind.startswith("score")
            job = Job(client, kind, works[kind.partition(" ")[0]], tell, replaced, urgent=urgent)
            self.worker.submit(job)
        except (InputError, UnreadableError, TooLargeError) as error:
            return _refused(error)
        return StreamingResponse(self._told(job, told), media_type="application/x-ndjson")

    async def _told(
        self, job: Job, told: asyncio.Queue[Mapping[str, object]]
    ) -> AsyncIterator[bytes]:
        try:
            while True:
                what = await told.get()
                yield json.dumps(what, separators=(",", ":")).encode() + b"\n"
                if what.keys() & {"result", "error", "cancelled"}:
                    return
        finally:  # also where the browser has gone
            self.worker.cancel(job)


def _refused(error: Exception) -> JSONResponse:
    """What a person typed and cannot be used is an answer like others; the page shows it."""
    if isinstance(error, TooLargeError):
        said = f"more than {MOST_BYTES:,} bytes came; expected fewer or shorter passages"
        return JSONResponse({"error": said}, 413)
    return JSONResponse({"error": str(error)}, 400 if isinstance(error, UnreadableError) else 200)


async def _asked(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise UnreadableError("expected Content-Type: application/json")
    try:
        asked = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise UnreadableError("expected JSON") from None
    if not isinstance(asked, dict):
        raise UnreadableError("expected a JSON object")
    return asked


def application(
    microscope: Microscope, worker: Worker, token: str, port: int, *, inside: bool = False
) -> ASGIApp:
    """The guarded application."""
    live = Live(microscope, worker, inside)
    return Guard(Starlette(routes=live.routes()), token, port, inside)

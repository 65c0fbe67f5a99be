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
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from matchlens._version import __version__
from matchlens.errors import InputError
from matchlens.live.experiment import Experiment
from matchlens.live.microscope import Microscope
from matchlens.live.work import Job, Tell, Worker
from matchlens.report.html import LIVE, asset, environment
from matchlens.report.pair_view import theme
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
    """Admit only requests that know the token and come from this server's own page."""

    def __init__(self, app: ASGIApp, token: str, port: int, inside: bool) -> None:
        self.app, self.token, self.inside = app, token.encode(), inside
        names = ("127.0.0.1", "localhost")
        # browsers leave out HTTP's own port
        self.hosts = {f"{name}:{port}" for name in names} | ({*names} if port == 80 else set())
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a limit on the body and security headers on the answer."""
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

        def header(name: str) -> str:
            return ",".join(headers.get(name, []))

        if header("host") not in self.hosts:
            return 421, "This server answers as 127.0.0.1 and localhost alone."
        origin, site = header("origin"), header("sec-fetch-site")
        page = scope["path"] == "/"
        foreign = site not in ("", "same-origin", "none") and not page
        if foreign or (origin and origin not in self.origins):
            return 403, "Another site asked; only this server's own page may."
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        token = query.get("token", "") if page else header("x-matchlens-token")
        if not hmac.compare_digest(token.encode(), self.token):
            return 403, "The token is missing or wrong: open the address that matchlens printed."
        length = header("content-length")
        if length and (not length.isdecimal() or int(length[:12]) > MOST_BYTES):
            return 413, f"More than {MOST_BYTES:,} bytes; expected fewer or shorter passages."
        return 0, ""


class TooLargeError(Exception):
    """A request's body grew beyond its bound."""


class UnreadableError(ValueError):
    """A request that this server's own page does not send."""


class Live:
    """The application's answers; ``inside`` says whether a notebook may frame the page."""

    def __init__(self, microscope: Microscope, worker: Worker, inside: bool) -> None:
        self.microscope, self.worker, self.inside = microscope, worker, inside
        self.about = {**microscope.about(), "version": __version__}

    def routes(self) -> list[Route]:
        """The address of each question; all but ``run`` are answered without a model run."""
        scope = self.microscope
        answers: dict[str, Callable[[Mapping[str, Any]], Mapping[str, object]]] = {
            "queries": lambda body: scope.list_queries(str(body.get("search", ""))[:400]),
            "candidates": lambda body: scope.candidates(body.get("query")),
            "cuts": lambda body: scope.read_cuts(body.get("model"), body.get("text")),
            "lines": lambda body: {"lines": scope.lines(Experiment.of(body, scope.count))},
        }
        return [
            Route("/", self.page),
            *(
                Route(f"/api/{name}", self.plain(answer), methods=["POST"])
                for name, answer in answers.items()
            ),
            Route("/api/run", self.run, methods=["POST"]),
        ]

    async def page(self, request: Request) -> HTMLResponse:
        """The page, whole; its script and styles carry a nonce."""
        nonce = secrets.token_urlsafe(16)
        text = (
            environment(LIVE)
            .get_template("live.html.j2")
            .render(
                nonce=nonce,
                style=Markup(f"{theme()}{asset('pair.css')}{asset('live.css', LIVE)}"),  # noqa: S704 - ours
                shared=Markup(asset("shared.js")),  # noqa: S704 - ours
                pair=Markup(asset("pair.js")),  # noqa: S704 - ours
                script=Markup(asset("live.js", LIVE)),  # noqa: S704 - ours
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
                return JSONResponse(answer(await _body(request)))
            except (InputError, UnreadableError, TooLargeError) as error:
                return _refused(error)

        return endpoint

    async def run(self, request: Request) -> StreamingResponse | JSONResponse:
        """Run a model; stream a line of JSON for each message, the result in the last."""
        try:
            body = await _body(request)
            kind, client = str(body.get("kind")), str(body.get("client", ""))[:64]
            if kind not in REPLACED:
                raise UnreadableError(f"no request is of the kind {kind!r:.40}")
            experiment = Experiment.of(body, self.microscope.count)
            works: dict[str, Callable[[Tell], Mapping[str, object]]] = {
                "score": lambda tell: self.microscope.score(experiment),
                "words": lambda tell: self.microscope.words(experiment, tell),
                "why": lambda tell: self.microscope.why(experiment, tell),
                "page": lambda tell: self.microscope.page(
                    experiment, str(body.get("title", ""))[:200]
                ),
            }
            loop, messages = asyncio.get_running_loop(), asyncio.Queue[Mapping[str, object]]()

            def tell(message: Mapping[str, object]) -> None:
                with suppress(RuntimeError):  # the server has stopped meanwhile
                    loop.call_soon_threadsafe(messages.put_nowait, message)

            replaced = set(REPLACED[kind])
            if kind == "score":  # each model, old texts and new: none of these replaces another
                replaced = {f"score {(slot := int(body.get('slot') == 1) + 2 * experiment.model)}"}
                replaced |= {"words", "why"} if slot % 2 == 0 else set()
                kind = f"score {slot}"
            urgent = kind.startswith("score")
            job = Job(client, kind, works[kind.partition(" ")[0]], tell, replaced, urgent=urgent)
            self.worker.submit(job)
        except (InputError, UnreadableError, TooLargeError) as error:
            return _refused(error)
        return StreamingResponse(self._stream(job, messages), media_type="application/x-ndjson")

    async def _stream(
        self, job: Job, messages: asyncio.Queue[Mapping[str, object]]
    ) -> AsyncIterator[bytes]:
        try:
            while True:
                message = await messages.get()
                yield json.dumps(message, separators=(",", ":")).encode() + b"\n"
                if message.keys() & {"result", "error", "cancelled"}:
                    return
        finally:  # also where the browser has gone
            self.worker.cancel(job)


def _refused(error: Exception) -> JSONResponse:
    """The error as JSON. Input that cannot be used has status 200: the page shows the message."""
    if isinstance(error, TooLargeError):
        message = f"more than {MOST_BYTES:,} bytes came; expected fewer or shorter passages"
        return JSONResponse({"error": message}, 413)
    return JSONResponse({"error": str(error)}, 400 if isinstance(error, UnreadableError) else 200)


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnreadableError("expected Content-Type: application/json")
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise UnreadableError("expected JSON") from None
    except ClientDisconnect:  # nobody reads the answer
        raise UnreadableError("the request ended before its body did") from None
    if not isinstance(body, dict):
        raise UnreadableError("expected a JSON object")
    return body


def application(
    microscope: Microscope, worker: Worker, token: str, port: int, *, inside: bool = False
) -> ASGIApp:
    """The guarded application."""
    live = Live(microscope, worker, inside)
    return Guard(Starlette(routes=live.routes()), token, port, inside)

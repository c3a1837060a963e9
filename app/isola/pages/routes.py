"""Pages for browsers, which the open profile has: home, documentation, GraphiQL. They hold no data of tenants."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from graphql import OperationDefinitionNode, parse
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isola.pages import home
from isola.pages.documentation import PATH, Guides
from isola.pages.home import Trial
from isola.pages.layout import graphiql, page
from isola.shipped import shipped

BUILT = Path(__file__).with_name("built")
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_HEADERS = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",
}


def routes(documents: Sequence[str], trials: Sequence[Trial]) -> Sequence[BaseRoute]:
    """The routes of all pages but GraphiQL, which is at the address of the endpoint: see ``GraphiQL``.

    GraphiQL offers the operations in ``documents``; the home page presents ``trials``.
    """
    operations = [each for document in documents for each in _operations(document)]
    guides = Guides.read(shipped("docs"))

    async def start(request: Request) -> Response:
        return home.home(trials, _address(request.scope))

    async def guide(request: Request) -> Response:
        found = guides.page(request.path_params.get("name", ""))
        return found or page("Not found · Isola", "<h1>There is no such page</h1>", status=404)

    async def examples(_: Request) -> Response:
        return JSONResponse(operations)

    return [
        Route("/", start, middleware=_GUARDED),
        Route(PATH.removesuffix("/"), guide, middleware=_GUARDED),
        Route(PATH, guide, middleware=_GUARDED),
        Route(f"{PATH}{{name:path}}", guide, middleware=_GUARDED),
        Route("/assets/operations.json", examples, middleware=_GUARDED),
        Mount("/assets", StaticFiles(directory=BUILT), middleware=_GUARDED),
    ]


async def serve_graphiql(scope: Scope, receive: Receive, send: Send) -> None:
    """GraphiQL, as an ASGI application."""
    nonce = secrets.token_urlsafe(16)
    # Its dialogs add a style element while they are open.
    styles = f"{_POLICY['style-src']} 'nonce-{nonce}'"
    answer = graphiql(nonce)
    # Others get the endpoint at the same address.
    answer.headers["vary"] = "accept"
    guarded = _Guarded(answer, {**_POLICY, "style-src": styles})
    await guarded(scope, receive, send)


def _address(scope: Scope) -> str:
    """The address at which the server was reached. The header Host would be the client's choice."""
    host, port = scope.get("server") or ("", None)
    if port is None:
        # A Unix socket, behind a proxy.
        return "http://127.0.0.1:8000"
    return f"{scope['scheme']}://{f'[{host}]' if ':' in host else host}:{port}"


class _Guarded:
    """Adds the headers that keep a page to itself: no other origin's code, data or frame."""

    def __init__(self, app: ASGIApp, policy: Mapping[str, str] = _POLICY) -> None:
        self._app = app
        text = "; ".join(f"{name} {sources}" for name, sources in policy.items())
        self._headers = {"content-security-policy": text, **_HEADERS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, guarded)


_GUARDED = [Middleware(_Guarded)]


def _operations(document: str) -> list[Mapping[str, str]]:
    """The operations of a document, as GraphiQL's page expects them."""
    return [
        {"name": each.name.value, "kind": each.operation.value, "document": document.strip()}
        for each in parse(document).definitions
        if isinstance(each, OperationDefinitionNode) and each.name
    ]

"""Server-sent events, as graphql-sse sends them in its distinct connections mode: one operation a request.

https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from graphql.execution.values import VariableValues
from starlette.types import Receive, Scope, Send

from isola.api.execute import Executor, Response, refused
from isola.api.idempotency import REPLAYED
from isola.api.live.caller import Caller
from isola.api.live.hub import Hub
from isola.api.request_id import HEADER
from isola.errors import Refusal, Unavailable
from isola.query.documents import Operation

MEDIA = "text/event-stream"
STOP = "isola.stop"
"""The key in the state of a scope under which the server finds what to call when it stops."""
HEARTBEAT = 12.0
"""Seconds without an event after which a comment is sent, so that proxies keep the connection open."""

Asked = tuple[str | None, str | None, Mapping[str, Any] | None, Mapping[str, Any] | None]


class _GoneError(Refusal):
    """The client has disconnected."""

    code, status = "UNAVAILABLE", 499


async def stream(
    executor: Executor,
    hub: Hub,
    caller: Caller,
    asked: Asked,
    scope: Scope,
    receive: Receive,
    send: Send,
    key: object = None,
) -> Response | None:
    """Answer a request with events. Returns the response to one that is refused before its first event.

    ``key`` is the idempotency key of a mutation.
    """
    try:
        operation, values = await executor.operation(*asked, caller.context)
        if not executor.is_streamed(operation, values):
            mutations = scope["method"] == "POST"
            response = await executor.execute(*asked, caller.context, mutations=mutations, key=key, charged=True)
            if "data" in json.loads(response.body):
                await _start(send, caller, replayed=response.replayed)
                await _send(send, _event(response.body.decode()) + _COMPLETE, more=False)
                return None
            return response
        await _stream(executor, hub, caller, operation, values, scope, receive, send)
    except _GoneError:
        return None
    except Exception as error:  # noqa: BLE001  any error: logged in full, hidden from the client
        return refused(error)
    return None


async def _stream(
    executor: Executor,
    hub: Hub,
    caller: Caller,
    operation: Operation,
    values: VariableValues,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    async with hub.subscribed(caller, operation, values) as subscription:
        caller.end = subscription.end
        stopping = Unavailable("the server is stopping: continue from the last cursor at another")
        scope["state"][STOP] = lambda: subscription.end(stopping)
        watching = asyncio.create_task(_watch(receive, subscription.end))
        await _start(send, caller)
        try:
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        batch = await subscription.batch()
                except TimeoutError:
                    await _send(send, ":\n\n")
                    continue
                for text in batch:
                    await executor.charge_event(text, caller.context)
                    await _send(send, _event(text))
        except _GoneError:
            raise
        except Exception as error:  # noqa: BLE001  any error: logged in full, hidden from the client
            # The status has been sent: the error is the last event.
            reported = json.loads(refused(error).body)["errors"]
            await _send(send, _event(json.dumps({"errors": reported})) + _COMPLETE, more=False)
        finally:
            del scope["state"][STOP]
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def _watch(receive: Receive, end: Callable[[Refusal], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    end(_GoneError("the client has disconnected"))


_COMPLETE = "event: complete\ndata:\n\n"


def _event(text: str) -> str:
    return f"event: next\ndata: {text}\n\n"


async def _start(send: Send, caller: Caller, *, replayed: bool = False) -> None:
    headers = [
        (b"content-type", f"{MEDIA}; charset=utf-8".encode()),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
        (HEADER.encode(), caller.context.request_id.encode()),
        *([(REPLAYED.encode(), b"true")] if replayed else []),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send(send: Send, text: str, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

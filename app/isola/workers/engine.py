"""Writes spans for code outside of requests."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from isola.subjects.spans import Span, SpanType, Visibility
from isola.workers.worker import Inside, Worker

log = structlog.get_logger()


@dataclass(slots=True)
class Step:
    """A span that is being measured: ``payload`` can be changed until its end."""

    title: str
    payload: dict[str, Any] = field(default_factory=dict)


class Engine:
    """Writes spans in the tenant of ``isola.run_with_tenant``, for its user and organization.

    A span is the user's, the organization's if there is no user, and the system's if there is neither. Only the
    organization sees it, or without one only its author, unless ``visibility`` says otherwise. ``node`` is the URI of
    this process or device.
    """

    def __init__(self, worker: Worker, *, node: str | None = None) -> None:
        self._worker = worker
        self._node = node

    async def record(
        self,
        title: str,
        payload: Any = None,
        *,
        visibility: Visibility | None = None,
        delta_s: float | None = None,
        **values: Any,
    ) -> UUID:
        """Write a span in a transaction of its own; its id.

        ``delta_s`` is in seconds; ``values`` are further attributes of ``isola.subjects.spans.Span``. Raises what
        ``Worker.transaction`` and ``Span.create`` raise: Forbidden if the actor is not a member of the organization.
        """
        async with self._worker.transaction() as inside:
            audience = Visibility.PRIVATE if inside.organization_id is None else Visibility.ORGANIZATION
            span = await Span.create(
                inside.work,
                inside.actor,
                type=_type(inside),
                title=title,
                payload={} if payload is None else payload,
                organization=inside.organization_id,
                visibility=visibility or audience,
                node=self._node,
                delta_s=delta_s,
                **values,
            )
        return span.id

    @asynccontextmanager
    async def span(self, title: str, *, visibility: Visibility | None = None, **payload: Any) -> AsyncIterator[Step]:
        """Write a span of what runs inside when it has ended, with the seconds that it took as ``deltaS``.

        If it raises an error or is cancelled, the payload gets the error's type as ``error``, and the error is raised
        again, even if the span cannot be written; that is logged.
        """
        step = Step(title, payload)
        began = time.monotonic()
        try:
            yield step
        except BaseException as error:
            took = time.monotonic() - began
            try:
                values = {**step.payload, "error": type(error).__name__}
                await self.record(step.title, values, visibility=visibility, delta_s=took)
            except Exception as failure:  # noqa: BLE001  the block's error is what the caller must see
                log.warning("the span of a failed block was not written", error=type(failure).__name__)
            raise
        took = time.monotonic() - began
        await self.record(step.title, step.payload, visibility=visibility, delta_s=took)


def _type(inside: Inside) -> SpanType:
    if inside.user_id is not None:
        return SpanType.USER
    return SpanType.SYSTEM if inside.organization_id is None else SpanType.ORGANIZATION

"""Errors as safe client messages: a refusal is passed on; any other error becomes "internal error" and its log id.

No message repeats client input: we word the refusals, and of graphql-core's errors clients get only those that
isola.query.messages made.
"""

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import structlog
from graphql import GraphQLError

from isola.errors import BadUserInput, FeatureRequired, RateLimited, Refusal
from isola.query.messages import ClientError

log = structlog.get_logger()


def graphql_error(message: str, code: str, **extensions: object) -> dict[str, Any]:
    return {"message": message, "extensions": {"code": code, **extensions}}


def refusal(error: Refusal) -> dict[str, Any]:
    extensions: dict[str, object] = {}
    if error.reason is not None:
        extensions["reason"] = error.reason
    if error.field is not None:
        extensions["field"] = error.field
    if isinstance(error, FeatureRequired):
        extensions |= {"feature": error.feature, "plans": list(error.plans)}
    if isinstance(error, RateLimited):
        if error.retry_after is not None:
            extensions["retryAfter"] = error.retry_after
        if error.exceeded is not None:
            extensions["rate"] = error.exceeded._asdict()
    return graphql_error(error.message, error.code, **extensions)


def crash(error: Exception) -> dict[str, Any]:
    """Log an unexpected error; the client gets only the correlation id of its log entry."""
    correlation = uuid4().hex
    log.error("a request failed", correlation_id=correlation, exc_info=error)
    return graphql_error("internal error", "INTERNAL", correlationId=correlation)


def invalid(errors: Iterable[GraphQLError]) -> list[dict[str, Any]]:
    """Errors of a document or its variables: always client errors, whichever check found them."""
    return [{**_client_error(error), **_place(error)} for error in errors]


def located(errors: Iterable[GraphQLError]) -> list[dict[str, Any]]:
    """Errors with their locations. A crash is logged once, under one id, even if it failed several fields."""
    crashes: dict[int, dict[str, Any]] = {}
    return [_located(error, crashes) for error in errors]


def _located(error: GraphQLError, crashes: dict[int, dict[str, Any]]) -> dict[str, Any]:
    original = error.original_error
    if isinstance(original, Refusal):
        formatted = refusal(original)
    elif original is None or (isinstance(original, GraphQLError) and original.nodes):
        # graphql-core rejected the operation. An error with nodes is the client's; a wrong field result has none.
        formatted = _client_error(original or error)
    else:
        logged = crashes.get(id(original))
        formatted = crashes[id(original)] = logged or crash(original)
    return {**formatted, **_place(error)}


def _client_error(error: GraphQLError | Exception) -> dict[str, Any]:
    if isinstance(error, ClientError):
        return graphql_error(error.message, BadUserInput.code, **(error.extensions or {}))
    return graphql_error("the operation cannot be executed with these values", BadUserInput.code)


def _place(error: GraphQLError) -> dict[str, Any]:
    return {key: value for key, value in error.formatted.items() if key in {"locations", "path"}}

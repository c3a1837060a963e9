"""Paths of HTTP that an application has besides GraphQL: each is a front of one operation."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, below ``/api/v1/tenants/{tenantId}``, that are answered by a GraphQL operation.

    The operation's variables are what the path has in braces, and the parameters of a GET, or the fields of the JSON
    object that is sent with any other method. ``answer`` is the place of the response in the operation's data, such as
    ``createCase.case``. Callers, permissions, limits and errors are those of the operation: a path has no rules.
    """

    method: str
    path: str
    document: str
    answer: str

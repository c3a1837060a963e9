"""HTTP routes besides GraphQL: each executes one GraphQL operation."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, served by a GraphQL operation: below ``/api/v1/tenants/{tenantId}``.

    Those of the built-in application are below ``/api/v1``: the credential decides on the tenant.

    The operation's variables are the path parameters in braces, and the query parameters of a GET, or the fields of
    the JSON object in the body of other methods. ``answer`` is the path of the response in the operation's data, such
    as ``createCase.case``. Authentication, permissions, limits and errors are the operation's: a route adds no rules.
    """

    method: str
    path: str
    document: str
    answer: str

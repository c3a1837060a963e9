"""Executes operations of the schema of platform administration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import ExecutionResult, OperationType, execute

from isola.admin.administration import Administration
from isola.admin.schema import schema
from isola.api import errors
from isola.api.body import dumped
from isola.api.execute import Response, unavailable
from isola.errors import BadUserInput, Refusal
from isola.query.documents import Documents, InvalidError
from isola.query.limits import Limits
from isola.query.variables import Variables

_BAD_REQUEST, _METHOD_NOT_ALLOWED, _INTERNAL = 400, 405, 500


@dataclass(frozen=True, slots=True)
class Execution:
    """Executes requests within the limits of platform administration."""

    documents: Documents

    @classmethod
    def made(cls, *, production: bool) -> "Execution":
        return cls(
            Documents(schema._schema, Limits(), introspection=not production, suggestions=not production)  # noqa: SLF001  Strawberry names graphql-core's schema nowhere else
        )

    async def execute(
        self,
        text: str | None,
        operation_name: str | None,
        variables: Mapping[str, Any] | None,
        context: Administration,
        *,
        mutations: bool,
    ) -> Response:
        """Execute one operation. Raises nothing but cancellation."""
        try:
            operation = self.documents.find(text, keep=False).operation(operation_name)
            if operation.type is OperationType.MUTATION and not mutations:
                formatted = [errors.graphql_error("mutations are executed by POST only", BadUserInput.code)]
                return Response(_METHOD_NOT_ALLOWED, dumped({"errors": formatted}))
            values = Variables(schema._schema, operation).coerced(variables or {}, max_errors=20, hide_suggestions=True)  # noqa: SLF001  as above
            if isinstance(values, list):
                raise InvalidError(values)
            name = operation.node.name
            result = execute(
                schema._schema,  # noqa: SLF001  as above
                operation.document,
                context_value=context,
                variable_values=dict(variables or {}),
                operation_name=name.value if name else None,
            )
            result = result if isinstance(result, ExecutionResult) else await result
            # Some mutations have several transactions.
            if operation.type is OperationType.QUERY and (refusal := unavailable(result)):
                return refusal
        except InvalidError as invalid:
            return Response(_BAD_REQUEST, dumped({"errors": errors.invalid(invalid.errors)}))
        except Refusal as error:
            body: dict[str, Any] = {"errors": [errors.refusal(error)]}
            return Response(error.status, dumped(body), retry_after=error.retry_after)
        except Exception as error:  # noqa: BLE001  clients get no details; the log gets all
            return Response(_INTERNAL, dumped({"errors": [errors.crash(error)]}))
        body = {"errors": errors.located(result.errors)} if result.errors else {}
        return Response(200, dumped({**body, "data": result.data}))

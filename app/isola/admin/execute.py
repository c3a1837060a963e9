"""Executes operations of the schema of platform administration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphql import ExecutionResult, OperationType, execute

from isola.admin.administration import Administration
from isola.admin.schema import schema
from isola.api import errors
from isola.api.body import dumped
from isola.api.execute import Response, answered, refused, unavailable
from isola.api.observation import Observation
from isola.errors import BadUserInput
from isola.query.documents import Documents, InvalidError
from isola.query.limits import Limits
from isola.query.variables import Variables

_METHOD_NOT_ALLOWED = 405


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
        observation: Observation | None = None,
    ) -> Response:
        """Execute one operation. ``observation`` gets it. Raises nothing but cancellation."""
        try:
            operation = self.documents.find(text, keep=False).operation(operation_name)
            if observation is not None:
                observation.operation = operation
            if operation.type is OperationType.MUTATION and not mutations:
                formatted = [errors.graphql_error("mutations are executed by POST only", BadUserInput.code)]
                return Response(_METHOD_NOT_ALLOWED, dumped({"errors": formatted}), code=BadUserInput.code)
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
        except Exception as error:  # noqa: BLE001  clients get no details of crashes; the log gets all
            return refused(error)
        return answered(result)

"""The SQL that the read compiler generates for the contract's operations, for residents of a population."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import get_variable_values

from isola.api.schema import model
from isola.errors import OperatorError
from isola.identity.authentication import Principal
from isola.lab.operations import Operation
from isola.lab.population import Resident
from isola.query.caller import Placement
from isola.query.compiler import Compiler
from isola.query.documents import Documents
from isola.query.limits import Limits
from isola.query.read_plan import ReadPlan
from isola.subjects import features
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role, of_role

# It signs cursors that no client sends back.
SECRET = b"the lab's"


@dataclass(frozen=True, slots=True)
class Written:
    """SQL text with ``$n`` parameters, their values, and what its transaction proves about the user."""

    sql: str
    arguments: Sequence[Any]
    about: Mapping[str, str] = field(default_factory=dict)


class Statements:
    """Caches plans and statements, as a server does."""

    def __init__(self, *, by_code_point: bool = False) -> None:
        """``by_code_point``: the database sorts texts by code point: see ``isola.platform.collation``."""
        self._compiler = Compiler(model, Limits(), SECRET, by_code_point=by_code_point)
        self._documents = Documents(model.schema, self._compiler.limits)

    def of(self, asked: Operation, resident: Resident, placement: Placement) -> Written:
        """The SQL of a read operation for an owner of the resident.

        ``placement`` is the tenant's strategy, or another provider of predicates. Raises OperatorError for an operation
        that needs more than one statement.
        """
        operation = self._documents.find(asked.document).operation(asked.name)
        values = get_variable_values(
            model.schema, operation.node.variable_definitions or (), dict(asked.variables(resident, 0))
        )
        if isinstance(values, list):
            raise OperatorError(f"{asked.name}: {values[0].message}")
        plan = self._compiler.plans(operation, values.coerced)
        if not isinstance(plan, ReadPlan):
            raise OperatorError(f"{asked.name} is not read by one statement")
        caller = Principal(
            resident.tenant, resident.user, (Role.OWNER,), of_role(Role.OWNER), features=frozenset(features.known())
        )
        reading = self._compiler.read(plan, values, caller)
        statement = self._compiler.statement(reading, placement)
        about = Actor(caller.user_id, caller.permissions).reader
        return Written(statement.sql, statement.arguments(reading.caller, (), reading.values), about)

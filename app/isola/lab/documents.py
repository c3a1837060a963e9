"""An application's own operations: GraphQL documents in a folder, each with one operation and optional variables.

``Busy.json`` may contain the variables of ``Busy.graphql``; in it, ``"$agent"`` stands for the id of one of the
tenant's agents. Without that file, an id variable gets an id of the subject of the field that it is passed to.
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    TypeInfo,
    TypeInfoVisitor,
    VariableNode,
    Visitor,
    get_named_type,
    parse,
    validate,
    visit,
)

from isola.api.schema import model
from isola.errors import OperatorError
from isola.lab.operations import Declared, Operation, Values, key
from isola.lab.population import Resident
from isola.subjects.declaration import Registry
from isola.subjects.subject import Subject


def read(folder: Path) -> Mapping[str, Operation]:
    """The operations in a folder, by name. Raises OperatorError, naming the file, for an invalid operation."""
    found: dict[str, Operation] = {}
    for file in sorted(folder.glob("*.graphql")):
        operation = _read(file)
        if operation.name in found:
            raise OperatorError(f"{file}: there is another operation called {operation.name}")
        found[operation.name] = operation
    return found


def _read(file: Path) -> Operation:
    try:
        text = file.read_text(encoding="utf-8")
        document = parse(text)
    except (OSError, UnicodeError, GraphQLError) as error:
        raise OperatorError(f"{file}: expected a GraphQL document: {error}") from error
    problems = validate(model.schema, document)
    if problems:
        raise OperatorError(f"{file}: {problems[0].message}")
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    if len(operations) != 1 or operations[0].name is None:
        raise OperatorError(f"{file}: expected one operation, with a name")
    [operation] = operations
    name = operation.name.value if operation.name else ""
    writes = operation.operation is OperationType.MUTATION
    return Declared(name, text, partial(_filled, _variables(file, document, operation)), writes)


def _variables(file: Path, document: DocumentNode, operation: OperationDefinitionNode) -> Values:
    beside = file.with_suffix(".json")
    given: Any = {}
    if beside.exists():
        try:
            given = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OperatorError(f"{beside}: expected a JSON object: {error}") from error
        if not isinstance(given, dict):
            raise OperatorError(f"{beside}: expected a JSON object")
    ids = dict(_ids(document))
    values = dict(given)
    for each in operation.variable_definitions or ():
        name = each.variable.name.value
        if name not in values and name in ids:
            values[name] = f"${ids[name].declaration.name}"
        if name not in values and each.default_value is None and str(each.type.kind) == "non_null_type":
            raise OperatorError(f"{file}: ${name}: expected a default, or a value in {beside.name}")
    unknown = [text for text in _texts(values) if text.startswith("$") and text[1:] not in Registry.by_name]
    if unknown:
        raise OperatorError(f"{beside}: {unknown[0]}: expected the name of a subject")
    return values


def _ids(document: DocumentNode) -> Iterator[tuple[str, type[Subject]]]:
    """The variables passed to a field as its id, with the subject that the field returns."""
    info = TypeInfo(model.schema)
    found: list[tuple[str, type[Subject]]] = []

    class Ids(Visitor):
        def enter_field(self, node: FieldNode, *_: object) -> None:
            returned = info.get_type()
            subject = Registry.by_class.get(get_named_type(returned).name) if returned else None
            found.extend(
                (argument.value.name.value, subject)
                for argument in node.arguments or ()
                if subject and argument.name.value == "id" and isinstance(argument.value, VariableNode)
            )

    visit(document, TypeInfoVisitor(info, Ids()))
    yield from found


def _texts(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for each in value.values():
                yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)
        case str():
            yield value


def _filled(values: Any, resident: Resident, variant: int) -> Any:
    match values:
        case dict():
            return {name: _filled(each, resident, variant) for name, each in values.items()}
        case list():
            return [_filled(each, resident, variant) for each in values]
        case str() if values.startswith("$"):
            return key(resident, Registry.by_name[values[1:]], variant)
    return values

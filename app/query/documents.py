"""Documents that were parsed and validated, by the sha256 of their text. Nothing of whoever sent one is kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    Visitor,
    parse,
    specified_rules,
    validate,
    visit,
)

from app.errors import BadUserInput, Forbidden
from app.query import limits as counting
from app.query.limits import Limits
from app.query.plan import variables_in

_MAX_ERRORS = 20


class InvalidError(Exception):
    """A document that does not parse or validate, or variables that do not fit, with an error for each reason."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(errors)
        self.errors = errors


class UnknownHashError(Exception):
    """Nobody registered a document with this hash. Clients answer by sending its text along with the hash."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    document: DocumentNode
    node: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]
    conditions: tuple[str, ...]
    """The variables in its ``@skip`` and ``@include``."""

    @property
    def type(self) -> OperationType:
        return self.node.operation


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    operations: Mapping[str, Operation]

    def operation(self, name: str | None) -> Operation:
        """The operation of that name, or the only one. Raises BadUserInput where there is none or more."""
        if name:
            if found := self.operations.get(name):
                return found
            raise BadUserInput("operationName: the document has no operation of that name")
        if len(self.operations) != 1:
            raise BadUserInput(f"operationName is needed: the document has {len(self.operations)} operations")
        return next(iter(self.operations.values()))


class Documents:
    """The documents that are known. At most ``size`` of those that clients sent are kept, besides the trusted ones."""

    def __init__(
        self,
        schema: GraphQLSchema,
        limits: Limits,
        *,
        trusted: Iterable[str] = (),
        trusted_only: bool = False,
        introspection: bool = True,
        suggestions: bool = True,
        size: int = 1000,
    ) -> None:
        """``trusted`` are texts; raises InvalidError or BadUserInput when one of them is not admitted."""
        self._schema = schema
        self._limits = limits
        self._suggestions = suggestions
        self._rules = specified_rules if introspection else (*specified_rules, NoSchemaIntrospectionCustomRule)
        self._parsed = 0
        self._trusted = {digest(text): self._read(text) for text in trusted}
        self._trusted_only = trusted_only
        self._sent = _Recent(size)

    @property
    def trusted(self) -> Iterable[Document]:
        return self._trusted.values()

    def trusted_by(self, sha: str) -> Document | None:
        """The trusted document with this hash."""
        return self._trusted.get(sha)

    def find(self, text: str | None, sha: str | None, *, keep: bool = True) -> Document:
        """The document of a request: by its text, its hash or both. One that is new is kept, unless ``keep`` is off.

        Raises InvalidError, UnknownHashError, Forbidden for a document that is not trusted where only those are,
        and BadUserInput for one that is over a limit or not the one that was hashed.
        """
        if text is None:
            if sha is None:
                raise BadUserInput("query: a document, or the hash of one, is needed")
            found = self._trusted.get(sha) or self._sent.get(sha)
            if found is None:
                raise UnknownHashError
            return found
        self._limits.check("text", len(text))
        key = digest(text)
        if sha is not None and sha != key:
            raise BadUserInput("extensions.persistedQuery.sha256Hash is not the hash of the document")
        found = self._trusted.get(key) or self._sent.get(key)
        if found is None:
            if self._trusted_only:
                raise Forbidden("only trusted documents are admitted here")
            found = self._sent.put(key, self._read(text)) if keep else self._read(text)
        return found

    def measures(self) -> dict[str, int]:
        """How many documents are remembered, and how many were parsed to get there."""
        return {"trusted": len(self._trusted), "sent": len(self._sent), "parsed": self._parsed}

    def _read(self, text: str) -> Document:
        self._parsed += 1
        try:
            document = parse(text, no_location=False, max_tokens=self._limits.tokens)
            counting.check(document, self._limits)
            errors = validate(self._schema, document, self._rules, _MAX_ERRORS, hide_suggestions=not self._suggestions)
        except GraphQLError as error:
            raise InvalidError([error]) from None
        except RecursionError:
            raise BadUserInput("the document is nested too deeply") from None
        if errors:
            raise InvalidError(errors)
        fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        return Document(
            {
                definition.name.value if definition.name else "": Operation(
                    document, definition, fragments, tuple(sorted(_conditions(definition, fragments)))
                )
                for definition in document.definitions
                if isinstance(definition, OperationDefinitionNode)
            }
        )


class _Recent:
    """The documents used last, at most so many."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._documents: dict[str, Document] = {}

    def __len__(self) -> int:
        return len(self._documents)

    def get(self, key: str) -> Document | None:
        # Taken out and put back, it is the youngest: a dict keeps the order of insertion.
        if (found := self._documents.pop(key, None)) is not None:
            self._documents[key] = found
        return found

    def put(self, key: str, document: Document) -> Document:
        self._documents[key] = document
        if len(self._documents) > self._size:
            del self._documents[next(iter(self._documents))]
        return document


def digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _conditions(operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]) -> set[str]:
    """The variables that decide what is selected, wherever the operation's fragments use them."""
    found: set[str] = set()
    waiting: list[Any] = [operation]
    seen: set[str] = set()

    class Collect(Visitor):
        def enter(self, node: Any, *_: Any) -> None:
            if isinstance(node, FieldNode | InlineFragmentNode | FragmentSpreadNode):
                for directive in node.directives or ():
                    if directive.name.value in {"skip", "include"}:
                        found.update(variables_in(directive))
            if isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                seen.add(node.name.value)
                waiting.append(fragments[node.name.value])

    while waiting:
        visit(waiting.pop(), Collect())
    return found

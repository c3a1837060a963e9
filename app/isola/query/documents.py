"""A cache of parsed and validated documents, by the sha256 of their text. It contains no data of their senders."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from typing import Any, TypeAlias, TypeVar

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentsOnCompositeTypesRule,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    InlineFragmentNode,
    KnownDirectivesRule,
    KnownFragmentNamesRule,
    NoFragmentCyclesRule,
    NoSchemaIntrospectionCustomRule,
    NoUndefinedVariablesRule,
    NoUnusedFragmentsRule,
    NoUnusedVariablesRule,
    OperationDefinitionNode,
    OperationType,
    OverlappingFieldsCanBeMergedRule,
    PossibleFragmentSpreadsRule,
    SelectionSetNode,
    UniqueDirectivesPerLocationRule,
    UniqueFragmentNamesRule,
    UniqueVariableNamesRule,
    VariablesAreInputTypesRule,
    VariablesInAllowedPositionRule,
    Visitor,
    parse,
    print_ast,
    validate,
    visit,
)

from isola.errors import BadUserInput, Forbidden
from isola.query import limits as counting
from isola.query.limits import Limits
from isola.query.messages import RULES, Names, syntax
from isola.query.read_plan import variables_in
from isola.query.remembered import Remembered

_MAX_ERRORS = 20
_PUBLIC_TOKENS = 1000
Public: TypeAlias = Mapping[OperationType, AbstractSet[str]]
"""The root fields, by the type of operation, that need no credential."""
# How many derived values, such as plans, are cached for an operation.
_MADE = 16
MAX_LABEL = 100
"""Characters of the label of an operation at most."""
_DIGITS = 16

Made = TypeVar("Made")


class InvalidError(Exception):
    """A document that fails to parse or validate, or variables of wrong types, with an error for each reason.

    isola.query.messages makes the messages.
    """

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        super().__init__(errors)
        self.errors = errors


class UnknownHashError(Exception):
    """No document with this hash is known. Clients retry with both the text and the hash."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    document: DocumentNode
    node: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]
    conditions: tuple[str, ...]
    """The variables in its ``@skip`` and ``@include``."""
    roots: frozenset[str]
    """The names of all selected root fields, regardless of ``@skip`` and ``@include``."""
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[..., Made], *arguments: Any) -> Made:
        """The result of ``make``, cached with the operation. Only the few latest results are kept."""
        made: Made | None = self._made.get(key)
        if made is None:
            made = make(*arguments)
            if len(self._made) >= _MADE:
                del self._made[next(iter(self._made))]
            self._made[key] = made
        return made

    @property
    def type(self) -> OperationType:
        return self.node.operation

    @property
    def label(self) -> str:
        """Its name, as far as records have it, or the beginning of the SHA-256 of its document if it has none."""
        return self.once("label", _label, self)

    def is_within(self, fields: Public) -> bool:
        """Whether it selects only these root fields, at least one of them, and ``__typename``."""
        return _is_within(self.type, self.roots, fields)


def _label(operation: Operation) -> str:
    # A name is one of GraphQL: letters, digits and underscores.
    if operation.node.name is not None:
        return operation.node.name.value[:MAX_LABEL]
    return f"sha256:{digest(print_ast(operation.document))[:_DIGITS]}"


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    operations: Mapping[str, Operation]

    def is_within(self, fields: Public, name: str | None) -> bool:
        """Whether the operation of that name is within these fields; if there is none, whether all operations are."""
        named = self.operations.get(name) if name else None
        return all(each.is_within(fields) for each in ([named] if named else self.operations.values()))

    def operation(self, name: str | None) -> Operation:
        """The operation of that name, or the only one. Raises BadUserInput if there is none, or if a name is needed."""
        if name:
            if operation := self.operations.get(name):
                return operation
            raise BadUserInput("operationName: the document has no operation of that name")
        if len(self.operations) != 1:
            raise BadUserInput(f"operationName is needed: the document has {len(self.operations)} operations")
        return next(iter(self.operations.values()))


class Documents:
    """The known documents: all trusted ones, and ``most`` bytes of documents that clients sent."""

    def __init__(
        self,
        schema: GraphQLSchema,
        limits: Limits,
        *,
        trusted: Iterable[str] = (),
        trusted_only: bool = False,
        introspection: bool = True,
        suggestions: bool = True,
        most: int = 20 * 1024 * 1024,
    ) -> None:
        """``trusted`` are texts; raises InvalidError or BadUserInput if one of them is invalid."""
        self._schema = schema
        self._limits = limits
        self._suggestions = suggestions
        self._rules = RULES if introspection else (*RULES, NoSchemaIntrospectionCustomRule)
        self._names = Names(schema)
        self._parsed = 0
        self._trusted = {digest(text): self.read(text) for text in trusted}
        self._trusted_only = trusted_only
        self._sent: Remembered[str, Document] = Remembered(most)
        # A separate cache: unauthenticated clients must not find out which documents others have sent.
        self._public: Remembered[str, Document] = Remembered(most // 8)

    @property
    def trusted(self) -> Iterable[Document]:
        return self._trusted.values()

    def find(self, text: str | None, *, user: Hashable = None, keep: bool = True) -> Document:
        """The document of a text. A new one is cached, unless ``keep`` is off. Raises as ``cached`` and ``read``."""
        document = self.cached(text, None, user)
        if document is None:
            text = text or ""
            document = self.read(text)
            if keep:
                self.keep(text, document, user)
        return document

    def cached(self, text: str | None, sha: str | None, user: Hashable) -> Document | None:
        """The document of a request: by its text, its hash or both. None for a text that has not been parsed yet.

        ``user`` is charged for the cached document: see Remembered. Raises UnknownHashError, Forbidden for an
        untrusted document if only trusted ones are accepted, and BadUserInput for a document that is too long or does
        not match its hash.
        """
        if text is None:
            if sha is None:
                raise BadUserInput("query: a document, or the hash of one, is needed")
            document = self._trusted.get(sha) or self._sent.get(sha, user)
            if document is None:
                raise UnknownHashError
            return document
        self._limits.check("text", len(text))
        key = digest(text)
        if sha is not None and sha != key:
            raise BadUserInput("extensions.persistedQuery.sha256Hash is not the hash of the document")
        document = self._trusted.get(key) or self._sent.get(key, user)
        if document is None and self._trusted_only:
            raise Forbidden("only trusted documents are admitted here")
        return document

    def read(self, text: str) -> Document:
        """Parse and validate a document. Raises InvalidError, and BadUserInput for a document that exceeds a limit."""
        return self._validate(self._parse(text, self._limits.tokens), text)

    def keep(self, text: str, document: Document, user: Hashable) -> None:
        """Cache a document."""
        self._sent.put(digest(text), document, _size(text), user)

    def find_public(self, text: str | None, sha: str | None, name: str | None, fields: Public) -> Document | None:
        """The document of an unauthenticated request, which may select only ``fields``.

        None if the named operation selects anything else: it is then neither validated nor run. For other documents,
        raises what ``find`` raises.
        """
        if text is None:
            document = self._cached_public(sha) if sha else None
        elif len(text) > self._limits.text or not any(field in text for field in chain(*fields.values())):
            return None
        else:
            key = digest(text)
            document = (
                self._trusted.get(key) or self._public.get(key, None) or self._read_public(key, text, name, fields)
            )
        if document is None or not document.is_within(fields, name):
            return None
        if text is not None and sha not in {None, key}:
            raise BadUserInput("extensions.persistedQuery.sha256Hash is not the hash of the document")
        return document

    def _cached_public(self, sha: str) -> Document:
        # Not in ``_sent``: an unauthenticated client could probe for documents that others have sent.
        document = self._trusted.get(sha) or self._public.get(sha, None)
        if document is None:
            raise UnknownHashError
        return document

    def _read_public(self, key: str, text: str, name: str | None, fields: Public) -> Document | None:
        try:
            document = self._parse(text, min(self._limits.tokens, _PUBLIC_TOKENS))
        except (InvalidError, BadUserInput):
            return None
        if not _chosen_are_within(document, name, fields):
            return None
        if self._trusted_only:
            raise Forbidden("only trusted documents are admitted here")
        return self._public.put(key, self._validate(document, text), _size(text), None)

    def measures(self) -> dict[str, int]:
        """The number of cached documents, their bytes, and the number of documents parsed so far."""
        sent = {"sent": len(self._sent), "bytes": self._sent.bytes}
        return {"trusted": len(self._trusted), **sent, "parsed": self._parsed}

    def _parse(self, text: str, tokens: int) -> DocumentNode:
        self._parsed += 1
        try:
            return parse(text, no_location=False, max_tokens=tokens)
        except GraphQLSyntaxError as error:
            raise InvalidError([syntax(error)]) from None
        except RecursionError:
            raise BadUserInput("the document is nested too deeply") from None

    def _validate(self, document: DocumentNode, text: str) -> Document:
        try:
            repeated = counting.check(document, self._limits)
            rules = tuple(rule for rule in self._rules if _may_fail(rule, text, repeated=repeated))
            errors = validate(self._schema, document, rules, _MAX_ERRORS, hide_suggestions=not self._suggestions)
        except RecursionError:
            raise BadUserInput("the document is nested too deeply") from None
        if errors:
            raise InvalidError([self._names.sayable(error, document) for error in errors])
        fragments = _fragments(document)
        return Document(
            {
                definition.name.value if definition.name else "": Operation(
                    document,
                    definition,
                    fragments,
                    tuple(sorted(_conditions(definition, fragments))),
                    frozenset(_roots(definition.selection_set, fragments, set())),
                )
                for definition in _operations(document)
            }
        )


def digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _size(text: str) -> int:
    """The memory that a document and its derived values take. *Measured*: 120 to 150 bytes a character."""
    return 4000 + 200 * len(text)


def _may_fail(rule: type[ASTValidationRule], text: str, *, repeated: bool) -> bool:
    """Whether a document can break a rule. Rules about variables take as long as nearly all others together."""
    if rule is OverlappingFieldsCanBeMergedRule:
        return repeated
    return any(sign in text for sign in _ABOUT.get(rule, ("",)))


# Rules that a document can break only if its text contains one of these signs.
_ABOUT: Mapping[type[ASTValidationRule], tuple[str, ...]] = {
    NoUndefinedVariablesRule: ("$",),
    NoUnusedVariablesRule: ("$",),
    UniqueVariableNamesRule: ("$",),
    VariablesAreInputTypesRule: ("$",),
    VariablesInAllowedPositionRule: ("$",),
    KnownDirectivesRule: ("@",),
    UniqueDirectivesPerLocationRule: ("@",),
    KnownFragmentNamesRule: ("...",),
    NoFragmentCyclesRule: ("...",),
    PossibleFragmentSpreadsRule: ("...",),
    FragmentsOnCompositeTypesRule: ("...", "fragment"),
    NoUnusedFragmentsRule: ("fragment",),
    UniqueFragmentNamesRule: ("fragment",),
}


def _operations(document: DocumentNode) -> list[OperationDefinitionNode]:
    return [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}


def _roots(
    selection_set: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], visited: set[str]
) -> Iterator[str]:
    """The names of the selected fields, fragments included. ``seen`` are the fragments already visited."""
    for selection in selection_set.selections:
        match selection:
            case FieldNode():
                yield selection.name.value
            case InlineFragmentNode():
                yield from _roots(selection.selection_set, fragments, visited)
            case FragmentSpreadNode() if (name := selection.name.value) in fragments and name not in visited:
                visited.add(name)
                yield from _roots(fragments[name].selection_set, fragments, visited)


def _is_within(type_: OperationType, roots: AbstractSet[str], fields: Public) -> bool:
    allowed = fields.get(type_, frozenset())
    return bool(roots & allowed) and roots <= allowed | {"__typename"}


def _chosen_are_within(document: DocumentNode, name: str | None, fields: Public) -> bool:
    """``Document.is_within`` for a document that is not validated yet."""
    fragments, operations = _fragments(document), _operations(document)
    named = [each for each in operations if name and each.name and each.name.value == name]
    return bool(operations) and all(
        _is_within(each.operation, frozenset(_roots(each.selection_set, fragments, set())), fields)
        for each in named or operations
    )


def _conditions(operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]) -> set[str]:
    """The variables in ``@skip`` and ``@include``, in the operation and in its fragments."""
    variables: set[str] = set()
    waiting: list[Any] = [operation]
    visited: set[str] = set()

    class Collect(Visitor):
        def enter(self, node: Any, *_: Any) -> None:
            if isinstance(node, FieldNode | InlineFragmentNode | FragmentSpreadNode):
                for directive in node.directives or ():
                    if directive.name.value in {"skip", "include"}:
                        variables.update(variables_in(directive))
            if isinstance(node, FragmentSpreadNode) and node.name.value not in visited:
                visited.add(node.name.value)
                waiting.append(fragments[node.name.value])

    while waiting:
        visit(waiting.pop(), Collect())
    return variables

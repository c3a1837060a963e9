"""Limits of one request. All of them are checked before anything runs, most of them before validation.

Counting is linear in the text: a fragment is measured once, however often it is spread. So a document whose fragments
would expand exponentially is refused without expanding it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from isola.errors import AnswerTooLarge, BadUserInput


@dataclass(frozen=True, slots=True)
class Limits:
    """The maximum of each figure."""

    text: int = 50_000
    """Characters of a document."""
    tokens: int = 3_000
    depth: int = 16
    fields: int = 450
    """Fields of all operations, those of a fragment counted for each spread; and the spreads themselves."""
    repeats: int = 50
    """How often one response key may be selected in one place. Validation compares all pairs of them."""
    aliases: int = 100
    directives: int = 100
    rows: int = 50_000
    """The product of the page sizes down a tree, summed over the tree; with what scans cost."""
    whole_scan: int = 1_000
    """The cost, in rows, of counting, filtering or sorting all rows of a type."""
    joined_scan: int = 20
    """The cost of doing so with the rows related to one row."""
    descendant_scan: int = 100
    """The cost of doing so with all rows of a type of one descendant."""
    page_size: int = 100
    default_page_size: int = 20
    answer_bytes: int = 8 * 1024 * 1024
    """Bytes of a response's data. The database enforces it while it builds them: see isola.query.budget."""
    conditions: int = 100
    """Comparisons in one filter."""
    relations: int = 3
    """Nested relations in a filter."""
    few: int = 1_200
    """Rows that related rows lead to, and that are then read by their keys and sorted. *Measured*: in four
    milliseconds."""
    list_values: int = 1_000
    """Values of one ``in``."""

    def check(self, name: str, figure: int) -> None:
        """Raise BadUserInput, naming the limit and the figure, if the figure exceeds the limit."""
        most: int = getattr(self, name)
        if figure > most:
            raise BadUserInput(
                f"the limit of {_NAMES[name]} is {most}; this has {figure if figure < _BEYOND else 'far more'}"
            )

    def check_answer(self, *texts: str) -> None:
        """Raise AnswerTooLarge if the results of statements are too large together."""
        characters = sum(map(len, texts))
        # A character takes one to four bytes in UTF-8.
        if characters * 4 > self.answer_bytes and sum(len(text.encode()) for text in texts) > self.answer_bytes:
            raise AnswerTooLarge(self.answer_bytes)


_NAMES = {field.name: field.name.replace("_", " ") for field in fields(Limits)}
_BEYOND = 10**12


class Size(NamedTuple):
    """The size of a selection; fragments are counted for each spread."""

    depth: int = 0
    fields: int = 0
    aliases: int = 0
    directives: int = 0

    def beside(self, other: "Size") -> "Size":
        return Size(
            max(self.depth, other.depth),
            self.fields + other.fields,
            self.aliases + other.aliases,
            self.directives + other.directives,
        )


def check(document: DocumentNode, limits: Limits) -> bool:
    """Raise BadUserInput if a document exceeds a limit, or its fragments form a cycle.

    Returns whether any response key is selected more than once in one place.
    """
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    sizes: dict[str, Size] = {}
    total = Size()
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            size = _size(definition.selection_set, fragments, sizes, ())
            size = size.beside(Size(directives=len(definition.directives or ())))
            if isinstance(definition, OperationDefinitionNode):
                size = total = total.beside(size)
            for name, figure in size._asdict().items():
                limits.check(name, figure)
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    repeated = [_check_repeats([operation.selection_set], fragments, limits) for operation in operations]
    return any(repeated)


def _check_repeats(
    selection_sets: Sequence[SelectionSetNode], fragments: Mapping[str, FragmentDefinitionNode], limits: Limits
) -> bool:
    """Check selections that are merged into one. The size check has shown that expanding their fragments is cheap."""
    merged: dict[str, list[FieldNode]] = {}
    waiting = list(selection_sets)
    while waiting:
        for selection in waiting.pop().selections:
            match selection:
                case FieldNode():
                    merged.setdefault((selection.alias or selection.name).value, []).append(selection)
                case InlineFragmentNode():
                    waiting.append(selection.selection_set)
                case FragmentSpreadNode() if selection.name.value in fragments:
                    waiting.append(fragments[selection.name.value].selection_set)
    repeated = False
    for nodes in merged.values():
        limits.check("repeats", len(nodes))
        below = [node.selection_set for node in nodes if node.selection_set]
        repeated |= len(nodes) > 1
        repeated |= bool(below) and _check_repeats(below, fragments, limits)
    return repeated


def _size(
    selection_set: SelectionSetNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    sizes: dict[str, Size],
    within: tuple[str, ...],
) -> Size:
    total = Size()
    for selection in selection_set.selections:
        inner = Size()
        match selection:
            case FieldNode():
                if selection.selection_set:
                    inner = _size(selection.selection_set, fragments, sizes, within)
                inner = inner._replace(
                    depth=inner.depth + 1,
                    fields=inner.fields + 1,
                    aliases=inner.aliases + (selection.alias is not None),
                )
            case InlineFragmentNode():
                inner = _size(selection.selection_set, fragments, sizes, within)
            case FragmentSpreadNode() if (name := selection.name.value) in fragments:
                if name in within:
                    raise BadUserInput("a fragment is spread within itself")
                if name not in sizes:
                    sizes[name] = _size(fragments[name].selection_set, fragments, sizes, (*within, name))
                inner = sizes[name]
        if not isinstance(selection, FieldNode):
            inner = inner._replace(fields=inner.fields + 1)
        total = total.beside(inner._replace(directives=inner.directives + len(selection.directives or ())))
    return total

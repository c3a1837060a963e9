"""Generates the files of an application that adopts a database."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from isola import packages
from isola.adopting import copying, names
from isola.adopting.carrying import literal
from isola.adopting.model import Draft, Field, Many, Model, Note, Reference
from isola.subjects.subject import Subject

WIDTH = 120


def files(draft: Draft) -> Mapping[str, str]:
    """The files by path, except the revision that creates its tables."""
    name, source = draft.application, draft.catalogue
    database, schema = _text(source.database), _text(source.schema)
    return {
        **packages.rendered("adopted", name, database=database, schema=schema, count=len(draft.models)),
        "ADOPTED.md": _adopted(draft),
        f"{name}/__init__.py": _application(draft),
        f"{name}/subjects.py": _subjects(draft),
        f"{name}/{copying.FILE}": copying.plan(draft).model_dump_json(indent=1) + "\n",
    }


def _application(draft: Draft) -> str:
    classes = sorted(each.class_name for each in draft.models.values())
    listed = "".join(f"        {each},\n" for each in classes)
    return (
        f'"""{_sentence(draft)}"""\n\n'
        "from pathlib import Path\n\n"
        f"from {draft.application}.subjects import (\n{''.join(f'    {each},{chr(10)}' for each in classes)})\n"
        "from isola.subjects.applications import Application\n\n"
        "application = Application(\n"
        f'    name="{draft.application}",\n'
        f"    subjects=(\n{listed}    ),\n"
        '    migrations=Path(__file__).parent / "migrations",\n'
        ")\n"
    )


def _sentence(draft: Draft) -> str:
    return f"What was the database {re.sub(r'[^ -!#-~]', '?', draft.catalogue.database)}, adopted with isola adopt."


def _subjects(draft: Draft) -> str:
    enums = "".join(_enum(each.name, each.members) for each in draft.enums.values())
    classes = "".join(_class(each) for each in draft.models.values())
    return f'"""{_sentence(draft)}"""\n\n{_imports(enums + classes, draft)}{enums}{classes}'


def _imports(body: str, draft: Draft) -> str:
    def used(name: str) -> bool:
        return re.search(rf"\b{name}\b", re.sub(r'"(?:[^"\\]|\\.)*"', '""', body)) is not None

    dates = [each for each in ("date", "datetime") if used(each)]
    lines = ["from __future__ import annotations\n\n"]
    if dates:
        lines.append(f"from datetime import {', '.join(dates)}\n")
    if used("Decimal"):
        lines.append("from decimal import Decimal\n")
    if draft.enums:
        lines.append("from enum import StrEnum\n")
    if used("UUID"):
        lines.append("from uuid import UUID\n")
    ours = ["JSON", "BigInt", "Many", "Subject", "column", "many", "now", "reference", "today"]
    if len(lines) > 1:
        lines.append("\n")
    lines.append(f"from isola.subjects import {', '.join(each for each in ours if used(each))}\n")
    return "".join(lines)


def _enum(name: str, members: Mapping[str, str]) -> str:
    body = "".join(f"    {member} = {literal(value)}\n" for value, member in members.items())
    return f"\n\nclass {name}(StrEnum):\n{body}"


def _class(model: Model) -> str:
    options = [f'name="{model.name}"', f'prefix="{model.prefix}"']
    if model.plural != f"{model.name}s":
        options.append(f'plural="{model.plural}"')
    lines = [f"class {model.class_name}(Subject, {', '.join(options)}):"]
    comment = model.table.comment
    if comment:
        lines += [f'    """{_docstring(comment)}"""', ""]
    lines += [f"    {_field(each)}" for each in model.fields]
    lines += [f"    {_reference(each)}" for each in model.references]
    lines += [f"    {_many(each)}" for each in model.many]
    lines += _rules(model)
    if len(lines) == 1:
        lines.append("    pass")
    return "\n\n" + "\n".join(lines) + "\n"


def _docstring(comment: str) -> str:
    text = " ".join(comment.split()).replace("\\", "\\\\").replace('"', "'")
    return "\n    ".join(_wrapped(text, WIDTH - 8))


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


_ORDER = (
    "default",
    "max_length",
    "minimum",
    "maximum",
    "digits",
    "scale",
    "on_delete",
    "unique",
    "index",
    "description",
)


def _field(field: Field) -> str:
    annotation = f"{field.carried.annotation}{' | None' if field.optional else ''}"
    return _fitting(f"{names.attribute(field.name)}: {annotation} = column", field.options)


def _reference(reference: Reference) -> str:
    annotation = f"{reference.target.class_name}{' | None' if reference.optional else ''}"
    options = {"on_delete": literal(reference.on_delete)} if reference.on_delete != "restrict" else {}
    if reference.unique:
        options["unique"] = "True"
    return _fitting(f"{reference.name}: {annotation} = reference", options)


def _many(many: Many) -> str:
    by = "" if many.by is None else f'"{many.by}"'
    return f"{many.name}: Many[{many.target.class_name}] = many({by})"


def _fitting(before: str, options: Mapping[str, str]) -> str:
    """A call, on one line if it fits."""
    given = [f"{name}={options[name]}" for name in _ORDER if name in options]
    line = f"{before}({', '.join(given)})"
    if len(line) <= WIDTH - 4:
        return line
    return f"{before}(\n" + "".join(f"        {each},\n" for each in given) + "    )"


def _rules(model: Model) -> list[str]:
    lines = []
    for what, tuples in (("unique_together", model.unique_together), ("indexes", model.indexes)):
        if tuples:
            written = ", ".join(_tuple(map(literal, each)) for each in tuples)
            lines.append(f"    {what} = ({written},)")
    if model.checks:
        lines.append("    checks = {  # noqa: RUF012")
        lines += [f"        {literal(name)}: {literal(condition)}," for name, condition in model.checks.items()]
        lines.append("    }")
    if model.samples:
        annotations = {each.name: each.carried.annotation for each in model.fields}
        lines.append("    samples = {  # noqa: RUF012")
        for name, values in model.samples.items():
            choices = [_value(annotations[name], each) for each in values]
            value = choices[0] if len(choices) == 1 else f"random.choice(({', '.join(choices)}))"
            lines.append(f"        {literal(names.attribute(name))}: lambda random, row: {value},")
        lines.append("    }")
    return ["", *lines] if lines else []


def _value(annotation: str, value: Any) -> str:
    """A column value as a Python expression, from its JSON form."""
    if value is None:
        return "None"
    if annotation.startswith("list["):
        return f"[{', '.join(_value(annotation[5:-1], each) for each in value)}]"
    if annotation in {"date", "datetime"}:
        return f"{annotation}.fromisoformat({literal(value)})"
    if annotation in {"Decimal", "UUID"}:
        return f'{annotation}("{value}")'
    if annotation == "float":
        return repr(float(value))
    return literal(value) if isinstance(value, str) else repr(value)


def _tuple(items: Iterable[str]) -> str:
    written = list(items)
    return f"({', '.join(written)}{',' if len(written) == 1 else ''})"


def _adopted(draft: Draft) -> str:
    tables = "".join(
        f"| {_cell(each.table.name)} | `{each.class_name}` | `{each.plural}` |\n" for each in draft.models.values()
    )
    pairs = "".join(
        f"| {_cell(each.table.name)} | `{each.near.class_name}.{each.name}` | `{each.near.plural}_{each.name}` |\n"
        for each in draft.pairs
    )
    return _ADOPTED.format(
        database=_text(draft.catalogue.database),
        schema=_text(draft.catalogue.schema),
        tables=tables + pairs,
        changes=_listed(draft.changes) or "Nothing.\n",
        notes=_listed(draft.notes) or "All of it is carried.\n",
    )


def _listed(notes: Sequence[Note]) -> str:
    grouped: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        grouped[note.of].append(note)
    return "".join(
        f"- {_text(of)}\n" + "".join(f"  - {_text(each.what)}: {_text(each.why)}\n" for each in some)
        for of, some in grouped.items()
    )


def _text(text: str) -> str:
    """A text on one line, with Markdown escaped."""
    return re.sub(r"([\\`*_<>\[\]|#])", r"\\\1", " ".join(text.split()))


_cell = _text

_ADOPTED = """# What was adopted

From the database {database}, schema {schema}.

Each table is a subject, and each row has a new id, a UUIDv7. Columns of the old primary key stay, and are unique. A
foreign key is a reference; its columns are not kept beside it where the reference says as much. Timestamps without a
time zone are read as UTC. A text without a limit has at most 1,000,000 characters.

| table | subject | its table in each home |
| --- | --- | --- |
{tables}
## What is otherwise than it was

{changes}
## What is not carried, and why

{notes}"""

RESERVED = frozenset(
    {"Application", "BigInt", "Decimal", "JSON", "Many", "Path", "StrEnum", "Subject", "UUID", Subject.__name__}
)
"""Names of classes that the files use for something else."""

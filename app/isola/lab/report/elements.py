"""HTML and SVG as element trees, so that the output is always well-formed and text is always escaped."""

from xml.etree import ElementTree as ET

Child = ET.Element | str | None
Attribute = str | float | None


def element(tag: str, *children: Child, **attributes: Attribute) -> ET.Element:
    """An element with its children in order; None is skipped.

    In attribute names ``_`` stands for ``-``, and a trailing one is dropped: ``class_``, ``stroke_width``.
    """
    made = ET.Element(tag, {_name(name): _text(value) for name, value in attributes.items() if value is not None})
    for child in children:
        append(made, child)
    return made


def append(parent: ET.Element, child: Child) -> None:
    """Append a child."""
    if child is None:
        return
    if isinstance(child, ET.Element):
        parent.append(child)
    elif len(parent):
        parent[-1].tail = (parent[-1].tail or "") + child
    else:
        parent.text = (parent.text or "") + child


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-") if name != "viewBox" else name


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")

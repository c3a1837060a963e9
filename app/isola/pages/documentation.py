"""The guides in docs/ as pages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from posixpath import dirname, join, normpath

from markdown_it import MarkdownIt
from markdown_it.token import Token
from starlette.responses import HTMLResponse

from isola.pages.layout import page

INDEX = "README.md"
PATH = "/docs/"
# HTML in a guide is shown as text.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_MARKDOWN.add_render_rule("table_open", lambda *_: '<div class="table"><table>\n')
_MARKDOWN.add_render_rule("table_close", lambda *_: "</table></div>\n")


@dataclass(frozen=True, slots=True)
class Guides:
    """The guides by their paths in the folder."""

    texts: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Guides":
        files = sorted(folder.rglob("*.md"))
        return cls({file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8") for file in files})

    def page(self, name: str) -> HTMLResponse | None:
        """A guide as a page; None if there is none of this name."""
        text = self.texts.get(name or INDEX)
        if text is None:
            return None
        tokens = _MARKDOWN.parse(text)
        titles = [_plain(body) for head, body in pairwise(tokens) if head.type == "heading_open"]
        self._complete(name or INDEX, tokens)
        title = f"{titles[0]} · Isola" if titles else "Isola"
        html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
        return page(title, f"<article>{html}</article>", at=PATH if name in {"", INDEX} else "")

    def _complete(self, name: str, tokens: list[Token]) -> None:
        """Give headings the ids that links expect, and links of the folder the addresses of pages."""
        for head, body in pairwise(tokens):
            if head.type == "heading_open":
                head.attrSet("id", re.sub(r"[^\w\- ]", "", _plain(body).lower()).replace(" ", "-"))
        for token in tokens:
            gone = 0
            for child in token.children or ():
                if child.type == "link_open":
                    target = self._target(name, str(child.attrGet("href")))
                    if target is None:
                        child.type, child.tag, child.attrs = "em_open", "span", {}
                        gone += 1
                    else:
                        child.attrSet("href", target)
                elif child.type == "link_close" and gone:
                    child.type, child.tag = "em_close", "span"
                    gone -= 1

    def _target(self, name: str, href: str) -> str | None:
        """The address for a link of a guide; None for a file that is not served."""
        if re.match(r"https?:|#", href):
            return href
        path, mark, anchor = href.partition("#")
        named = normpath(join(dirname(name), path))
        return f"{PATH}{named}{mark}{anchor}" if named in self.texts else None


def _plain(inline: Token) -> str:
    return "".join(child.content for child in inline.children or ())

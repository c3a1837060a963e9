"""What all pages have in common: the head, the bar on top."""

from html import escape

from starlette.responses import HTMLResponse

DESCRIPTION = "A multi-tenant GraphQL API on PostgreSQL"
_MARK = (
    '<svg viewBox="0 0 32 32" aria-hidden="true"><rect x="3" y="3" width="11" height="11" rx="3"/>'
    '<rect x="18" y="3" width="11" height="11" rx="3"/><rect x="3" y="18" width="11" height="11" rx="3"/>'
    '<circle cx="23.5" cy="23.5" r="5.5"/></svg>'
)
_LINKS = {"/graphql": "GraphiQL", "/docs/": "Documentation"}
# An icon of no bytes, so that browsers do not ask for one.
_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
)


def page(title: str, body: str, *, at: str = "", status: int = 200) -> HTMLResponse:
    """A page around ``body``, which is HTML. ``title`` is text, ``at`` the link of the bar that leads here."""
    links = "".join(
        f'<a href="{href}"{" aria-current=page" if href == at else ""}>{text}</a>' for href, text in _LINKS.items()
    )
    html = (
        f'{_HEAD}<title>{escape(title)}</title><link rel="stylesheet" href="/assets/page.css"></head><body>'
        f'<header class="isola-bar"><a class="isola-brand" href="/">{_MARK}Isola</a><nav>{links}</nav></header>'
        f"<main>{body}</main></body></html>"
    )
    return HTMLResponse(html, status)


def graphiql(nonce: str) -> HTMLResponse:
    """The page of GraphiQL. Style elements that have the nonce are admitted."""
    html = (
        f'{_HEAD}<title>GraphiQL · Isola</title><link rel="stylesheet" href="/assets/graphiql.css"></head><body>'
        '<div id="graphiql"><noscript>GraphiQL needs JavaScript.</noscript></div>'
        f'<script src="/assets/graphiql.js" nonce="{nonce}"></script></body></html>'
    )
    return HTMLResponse(html)

"""The page at ``/``: what this is, and where to begin."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import urlencode

from starlette.responses import HTMLResponse

from isola.pages.layout import DESCRIPTION, page


@dataclass(frozen=True, slots=True)
class Trial:
    """A tenant to try: its placement, who signs in, and operations with what they show."""

    slug: str
    name: str
    placement: str
    login: str
    person: str
    operations: Sequence[tuple[str, str]]


_LINKS = (
    (
        "/graphql",
        "GraphiQL",
        "Write operations with completion, read the schema, follow subscriptions.",
        "Open GraphiQL",
    ),
    (
        "/docs/",
        "Documentation",
        "Reads, sessions, subscriptions, sharing, and how to run a server.",
        "Open documentation",
    ),
    ("/docs/applications.md", "Your own tables", "One class declares a table with its API and its rules.", "Read how"),
)
_CURL = """curl http://127.0.0.1:8000/graphql \\
  -H 'authorization: Bearer '"$TOKEN" -H 'content-type: application/json' \\
  -d '{"query": "{ viewer { tenant { name } permissions } }"}'"""


def home(trials: Sequence[Trial], url: str) -> HTMLResponse:
    """The page. ``url`` is the address of the server."""
    cards = "".join(
        f'<li><h3>{title}</h3><p>{text}</p><a class="button quiet" href="{href}">{label}</a></li>'
        for href, title, text, label in _LINKS
    )
    curl = _CURL.replace("http://127.0.0.1:8000", url)
    return page(
        f"Isola: {DESCRIPTION[0].lower()}{DESCRIPTION[1:]}",
        f"<h1>{DESCRIPTION}</h1>"
        '<p class="lead">Each tenant lives in shared tables under row-level security, or in a schema and a role of its '
        "own. One server serves both, each read is one SQL statement, and the database enforces what a user may see."
        f'</p><ul class="cards">{cards}</ul>{_trials(trials) if trials else _TOKENS}'
        f"<h2>From a shell</h2><pre><code>{escape(curl)}</code></pre>"
        '<p class="note">These pages are served outside of production only. '
        'State: <a href="/livez">/livez</a>, <a href="/readyz">/readyz</a>.</p>',
    )


_TOKENS = (
    "<h2>Sign in</h2><p>GraphiQL takes a password, a token or an API key. "
    "<code>isola token --tenant acme --user ada</code> prints a token for development; "
    '<a href="/docs/sessions.md">Sessions</a> explains passwords and OpenID Connect.</p>'
)


def _trials(trials: Sequence[Trial]) -> str:
    cards = "".join(map(_trial, trials))
    return (
        "<h2>The tenants of this demo</h2><p>Their password is the same, new at each start, and printed where the demo "
        f'runs, beside a token for each.</p><ul class="cards">{cards}</ul>'
    )


def _trial(trial: Trial) -> str:
    def link(text: str, attributes: str = "", **wanted: str) -> str:
        fragment = urlencode({"tenant": trial.slug, "login": trial.login, **wanted})
        return f'<a href="/graphql#{escape(fragment)}"{attributes}>{text}</a>'

    operations = "".join(
        f"<li>{link(escape(name), operation=name)}: {escape(shows)}</li>" for name, shows in trial.operations
    )
    return (
        f"<li><h3>{escape(trial.name)} <code>{escape(trial.slug)}</code></h3><p>{escape(trial.placement)}</p>"
        f"<ul>{operations}</ul>{link(f'Sign in as {escape(trial.person)}', ' class=button')}</li>"
    )

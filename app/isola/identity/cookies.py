"""Refresh tokens in a cookie, where scripts of a page cannot read them.

A browser adds cookies also to requests that other sites cause. So the cookie is SameSite=Strict, is read only with a
header that a form cannot send, and only from pages of this server or of an origin in ``ISOLA_CORS_ORIGINS``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from starlette.datastructures import Headers

from isola.errors import BadUserInput, Forbidden, OperatorError
from isola.identity.resolution import identifies
from isola.platform.tenants import Tenant
from isola.settings import Settings

HEADER = "x-session-cookie"
"""The header of clients that want their refresh token in the cookie. Its value does not matter."""
NAME = "__Host-isola-refresh"
"""Browsers accept such a name only with Secure and the path /, and without a domain: no other host can set it."""
ALL = "*"

_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
_COOKIE = re.compile(rf"(?:^|;) *{re.escape(NAME)}=([^;]*)")


@dataclass(slots=True, repr=False)  # without repr: it holds a credential
class Jar:
    """The cookie of one request and of its response. ``set_cookie`` is the header of the response, if any."""

    _sent: Sequence[str]
    _from_elsewhere: bool
    set_cookie: str | None = field(default=None, init=False)

    @classmethod
    def read(cls, headers: Headers, origins: Sequence[str]) -> "Jar | None":
        """The jar of a request; None if it has no such header. ``origins`` are those of pages that may use it."""
        if HEADER not in headers:
            return None
        return cls(_COOKIE.findall(";".join(headers.getlist("cookie"))), not _is_from_here(headers, origins))

    def require_own_page(self) -> None:
        """Raise Forbidden for a request that another site may have caused."""
        if self._from_elsewhere:
            raise Forbidden("the session cookie is for pages of this server and of allowed origins only")

    @property
    def token(self) -> str:
        """The refresh token in the cookie; empty if there is none. Raises BadUserInput if there are several."""
        if len(self._sent) > 1:
            raise BadUserInput("cookie: expected the session cookie once")
        return self._sent[0] if self._sent else ""

    def keep(self, token: str, lifetime: timedelta) -> None:
        self.set_cookie = f"{NAME}={token}; Max-Age={max(0, int(lifetime.total_seconds()))}; {_ATTRIBUTES}"

    def clear(self) -> None:
        self.set_cookie = f"{NAME}=; Max-Age=0; {_ATTRIBUTES}"


@dataclass(frozen=True, slots=True)
class Cookies:
    """The tenants whose sessions may be kept in cookies, by slug or id."""

    tenants: frozenset[str]

    @classmethod
    def from_settings(cls, settings: Settings) -> "Cookies":
        """Raises OperatorError if pages of any origin could use the cookie."""
        if settings.session_cookie_tenants and "*" in settings.cors_origins:
            raise OperatorError("ISOLA_CORS_ORIGINS: expected the origins instead of *, because sessions have cookies")
        return cls(settings.session_cookie_tenants)

    def allowed(self, tenant: Tenant) -> bool:
        return ALL in self.tenants or any(identifies(name, tenant) for name in self.tenants)


def _is_from_here(headers: Headers, origins: Sequence[str]) -> bool:
    """Whether the browser says that a page of this server or of one of the origins sends a request."""
    # A header that is repeated equals nothing.
    origin, site = (",".join(headers.getlist(name)) for name in ("origin", "sec-fetch-site"))
    if origin and origin in origins:
        return True
    if site:
        return site == "same-origin"
    # Browsers of before 2023 send only the origin. Behind a proxy that changes the host, it has to be listed.
    return origin in {f"{scheme}://{headers.get('host')}" for scheme in ("https", "http")}

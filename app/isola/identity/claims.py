"""Claims of a token whose signature is verified."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isola.errors import Unauthenticated
from isola.settings import TokenSettings
from isola.subjects.permissions import Role
from isola.subjects.users import PREFIXES

MAX_TEXT_LENGTH = 255

# Prefixes of subjects that no token of the first issuer may have: users of other issuers, and users that are not people
# of the tenant itself.
RESERVED = ("iss:", *PREFIXES)

_END_OF_TIME = 253_402_300_800  # the year 10000, where datetime ends

# Control characters, line separators, and halves of surrogate pairs, which cannot be stored as UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, repr=False)  # without repr: claims are personal data, and logs print objects
class Claims:
    """The caller. ``tenant`` is a slug or the text of a UUID; the tenant need not exist.

    ``tenant`` is None only where the issuer's tokens may leave it to the request. ``subject`` begins with the
    issuer's namespace. ``name`` and ``email`` are None where the token has none that can be stored; ``email`` also if
    the issuer has not verified it. ``expires_at`` is the moment, in seconds since 1970 and with the leeway, from which
    the token is refused. ``tenants`` are those that the issuer may speak for, by slug or id; None for all.
    ``leeway`` is the tolerated error of the issuer's clock, in seconds.
    ``issued_at`` is 0 where the token does not say: then it is older than every revocation.
    """

    tenant: str | None
    subject: str
    role: Role | None
    name: str | None
    email: str | None
    expires_at: float
    issuer: str
    issued_at: float
    token_id: str | None
    session_id: str | None
    tenants: frozenset[str] | None = None
    leeway: float = 0


class NotYetValid(Unauthenticated):
    """The token is not valid yet: the only refusal that may end with time."""


class Expired(Unauthenticated):
    """The token has expired, and its issuer, audience and form are right.

    Only who knows its tenant may tell the client: see TokenExpired. The message does not.
    """

    def __init__(self, claims: Claims) -> None:
        super().__init__("the token is not valid")
        self.claims = claims


def issuer(payload: Mapping[str, Any]) -> str:
    """The issuer claimed in a payload. Raises Unauthenticated."""
    return text_of(payload, "iss")


def parse(payload: Mapping[str, Any], settings: TokenSettings, now: float) -> Claims:
    """The claims of a token's payload at ``now``, in seconds since 1970.

    Raises Unauthenticated, naming the claim but never its value, if one is missing, of a wrong type, or not
    acceptable now and here; Expired if only the time is wrong.
    """
    # PyJWT could check the registered claims, but it rounds times to whole seconds and accepts "9" and true as times.
    leeway = settings.token_leeway
    expires_at = time_of(payload, "exp") + leeway
    if any(name in payload and now < time_of(payload, name) - leeway for name in ("nbf", "iat")):
        raise NotYetValid("the token is not yet valid")
    if issuer(payload) != settings.token_issuer:
        raise Unauthenticated("the token is from another issuer")
    if settings.token_audience not in _audiences(payload):
        raise Unauthenticated("the token is for another audience")
    claims = Claims(
        tenant=_tenant(payload, settings),
        subject=_subject(payload, settings),
        role=_role(payload, settings.claim_role) if settings.token_roles else None,
        name=_contact(payload, settings.claim_name),
        # Unverified: users can give an issuer other people's addresses.
        email=_contact(payload, settings.claim_email) if payload.get(settings.claim_email_verified) is True else None,
        expires_at=expires_at,
        issuer=settings.token_issuer,
        issued_at=time_of(payload, "iat") if "iat" in payload else 0,
        token_id=_optional_text(payload, "jti"),
        session_id=_optional_text(payload, "sid"),
        tenants=settings.token_tenants,
        leeway=leeway,
    )
    if now >= expires_at:
        raise Expired(claims)
    return claims


def _tenant(payload: Mapping[str, Any], settings: TokenSettings) -> str | None:
    if settings.token_tenant_required:
        return text_of(payload, settings.claim_tenant)
    return _optional_text(payload, settings.claim_tenant)


def _subject(payload: Mapping[str, Any], settings: TokenSettings) -> str:
    subject = text_of(payload, settings.claim_user)
    if not settings.namespace and not settings.speaks_for_all and subject.startswith(RESERVED):
        raise Unauthenticated(f"the token's claim {settings.claim_user} begins with a prefix that is reserved here")
    return settings.namespace + subject


def time_of(payload: Mapping[str, Any], name: str) -> float:
    value = payload.get(name)
    # bool is a subclass of int. Comparisons with NaN are false.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _END_OF_TIME:
        raise Unauthenticated(f"the token's claim {name} must be a time in seconds since 1970")
    return float(value)


def text_of(payload: Mapping[str, Any], name: str) -> str:
    value = _contact(payload, name)
    if value is None:
        raise Unauthenticated(f"the token's claim {name} must be a text of 1 to {MAX_TEXT_LENGTH} printable characters")
    return value


def _contact(payload: Mapping[str, Any], name: str) -> str | None:
    """Contact data. It does not identify users, so an invalid value is ignored rather than refused."""
    value = payload.get(name)
    good = isinstance(value, str) and 0 < len(value) <= MAX_TEXT_LENGTH and not _UNPRINTABLE.search(value)
    return value if good else None


def _optional_text(payload: Mapping[str, Any], name: str) -> str | None:
    # Identity providers write null or "" for unknown values.
    return None if payload.get(name) in (None, "") else text_of(payload, name)


def _audiences(payload: Mapping[str, Any]) -> list[str]:
    value = payload.get("aud")
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or not all(isinstance(audience, str) for audience in audiences):
        raise Unauthenticated("the token's claim aud must be a text or a list of texts")
    return audiences


def _role(payload: Mapping[str, Any], name: str) -> Role | None:
    if payload.get(name) is None:
        return None
    try:
        return Role(payload[name])
    except ValueError:
        raise Unauthenticated(f"the token's claim {name} must be one of {', '.join(Role)}") from None

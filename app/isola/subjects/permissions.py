"""Permissions, and the built-in roles. A role is just a set of permissions: code checks permissions, never roles."""

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import cache


class Permission(StrEnum):
    """``subject:action``, sorted: those that the code asks for by name. ``declare`` adds others.

    ``write`` is to make, and to change one's own; ``manage`` is to change all.
    """

    API_KEY_MANAGE = "api_key:manage"
    API_KEY_READ = "api_key:read"
    AUDIT_MANAGE = "audit:manage"
    AUDIT_READ = "audit:read"
    DESCENDANT_ENTER = "descendant:enter"
    DOMAIN_MANAGE = "domain:manage"
    DOMAIN_READ = "domain:read"
    FAMILY_READ = "family:read"
    FEDERATION_WRITE = "federation:write"
    GHOST_READ = "ghost:read"
    ORGANIZATION_MANAGE = "organization:manage"
    ORGANIZATION_READ = "organization:read"
    OWNER_MANAGE = "owner:manage"
    PLAN_READ = "plan:read"
    RESOURCE_MANAGE = "resource:manage"
    RESOURCE_READ = "resource:read"
    RESOURCE_WRITE = "resource:write"
    ROLE_MANAGE = "role:manage"
    ROLE_READ = "role:read"
    SHARE_MANAGE = "share:manage"
    SHARE_READ = "share:read"
    SHARE_WRITE = "share:write"
    SPAN_READ = "span:read"
    SPAN_WRITE = "span:write"
    USAGE_READ = "usage:read"
    USAGE_WRITE = "usage:write"
    USER_MANAGE = "user:manage"
    USER_READ = "user:read"
    WEBHOOK_MANAGE = "webhook:manage"
    WEBHOOK_READ = "webhook:read"


class Role(StrEnum):
    """The built-in roles. Only owners make and unmake owners, and act in what is below: admins have the rest."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"
    OWNER = "owner"


# The audit log shows the actions of others and old values; the list of API keys shows which machines exist; ghosts are
# spans of which nobody says who wrote them; descendants are other tenants; URLs of webhooks may contain secrets.
_KEPT_FROM_VIEWERS = {
    Permission.API_KEY_READ,
    Permission.AUDIT_READ,
    Permission.FAMILY_READ,
    Permission.GHOST_READ,
    Permission.WEBHOOK_READ,
}
_KEPT_FROM_ADMINS = {Permission.DESCENDANT_ENTER, Permission.OWNER_MANAGE}
_FORM = re.compile(r"[a-z][a-z0-9_]*:[a-z][a-z0-9_]*", re.ASCII)
_known = {each.value for each in Permission}
_of_rules: set[str] = set()
_complete = False


def declare(*names: str) -> None:
    """Add permissions, before the server starts. Raises ValueError for a malformed name."""
    _add(_known, names)


def declare_of_rules(*names: str) -> None:
    """Add permissions that visibility rules ask for. Those that nothing else requires are kept from editors."""
    _add(_of_rules, names)


def _add(permissions: set[str], names: Iterable[str]) -> None:
    for name in names:
        if not _FORM.fullmatch(name):
            raise ValueError(f"permission {name!r}: expected subject:action, of a-z, 0-9 and '_'")
    permissions.update(names)
    all_permissions.cache_clear()
    of_role.cache_clear()


def complete() -> None:
    """Record that all applications are loaded; called by isola.installed."""
    global _complete  # noqa: PLW0603  state of the process
    _complete = True


@cache
def all_permissions() -> frozenset[str]:
    """All permissions, including those of all applications.

    Raises RuntimeError before the applications are loaded: roles would lack their permissions.
    """
    if not _complete:
        raise RuntimeError("permissions are known once isola.installed is imported")
    return frozenset(_known | _of_rules)


@cache
def of_role(name: str) -> frozenset[str]:
    """The permissions of a built-in role. Raises ValueError for other names."""
    read = {each for each in _known if each.endswith(":read")} - _KEPT_FROM_VIEWERS
    match Role(name):
        case Role.VIEWER:
            return frozenset(read)
        case Role.EDITOR:
            kept = {each for each in _known if each.endswith((":read", ":manage"))} | _KEPT_FROM_ADMINS
            return frozenset(_known - kept | read)
        case Role.ADMIN:
            return all_permissions() - _KEPT_FROM_ADMINS
        case Role.OWNER:
            return all_permissions()

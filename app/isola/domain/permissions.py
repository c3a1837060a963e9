"""What anybody may do. Roles are nothing but sets of permissions: code asks for a permission, never for a role."""

from collections.abc import Mapping
from enum import StrEnum


class Permission(StrEnum):
    """``subject:action``, sorted. ``write`` is to make, and to change one's own; ``manage`` is to change all."""

    API_KEY_MANAGE = "api_key:manage"
    API_KEY_READ = "api_key:read"
    AUDIT_READ = "audit:read"
    DESCENDANT_ENTER = "descendant:enter"
    DOMAIN_MANAGE = "domain:manage"
    DOMAIN_READ = "domain:read"
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
    USER_MANAGE = "user:manage"
    USER_READ = "user:read"


class Role(StrEnum):
    """The built-in roles. Only owners make and unmake owners, and act in what is below: admins have the rest."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"
    OWNER = "owner"


# The log tells what others did, and what was there before; the list of keys, which machines there are.
_KEPT_FROM_VIEWERS = {Permission.API_KEY_READ, Permission.AUDIT_READ}
_VIEWER = frozenset(each for each in Permission if each.endswith(":read")) - _KEPT_FROM_VIEWERS

ROLES: Mapping[str, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.EDITOR: _VIEWER | {Permission.RESOURCE_WRITE, Permission.SHARE_WRITE, Permission.SPAN_WRITE},
    Role.ADMIN: frozenset(Permission) - {Permission.DESCENDANT_ENTER, Permission.OWNER_MANAGE},
    Role.OWNER: frozenset(Permission),
}

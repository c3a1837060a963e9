"""What a principal may do. Roles are nothing but sets of permissions: code asks for a permission, never for a role."""

from enum import StrEnum


class Permission(StrEnum):
    """``subject:action``, sorted. ``write`` is to make, and to change one's own; ``manage`` is to change all."""

    ORGANIZATION_MANAGE = "organization:manage"
    ORGANIZATION_READ = "organization:read"
    RESOURCE_MANAGE = "resource:manage"
    RESOURCE_READ = "resource:read"
    RESOURCE_WRITE = "resource:write"
    SHARE_READ = "share:read"
    SHARE_WRITE = "share:write"
    SPAN_READ = "span:read"
    SPAN_WRITE = "span:write"
    USER_READ = "user:read"


class Role(StrEnum):
    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


_VIEWER = frozenset(permission for permission in Permission if permission.endswith(":read"))

ROLES: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.EDITOR: _VIEWER | {Permission.RESOURCE_WRITE, Permission.SHARE_WRITE, Permission.SPAN_WRITE},
    Role.ADMIN: frozenset(Permission),
}

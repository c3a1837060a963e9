"""What the system is about: tables and rules, written as if there were one customer only."""

from isola.domain import audit, organizations, resources, roles, shares, spans, users

__all__ = ["audit", "organizations", "resources", "roles", "shares", "spans", "users"]

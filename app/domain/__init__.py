"""What the system is about: tables and rules, written as if there were one customer only."""

from app.domain import organizations, resources, shares, spans, users

__all__ = ["organizations", "resources", "shares", "spans", "users"]

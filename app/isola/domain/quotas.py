"""What there can be only so many of. The database counts, and keeps what is allowed: see docs/plans.md."""

from enum import StrEnum


class Quota(StrEnum):
    """The names of quotas, sorted. Each is of what counts now.

    Of users those who have come in and are not disabled; of keys and shares those that have not ended.
    """

    API_KEYS = "api_keys"
    DOMAINS = "domains"
    RESOURCES = "resources"
    SHARES = "shares"
    USERS = "users"

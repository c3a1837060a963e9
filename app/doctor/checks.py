"""All checks, in the order in which they are asked."""

from collections.abc import Sequence

from app.doctor import code, grants, homes, keys, policies, roles, server, settings
from app.doctor.check import Check

CHECKS: Sequence[Check] = (
    *policies.CHECKS,
    *grants.CHECKS,
    *roles.CHECKS,
    *code.CHECKS,
    *keys.CHECKS,
    *homes.CHECKS,
    *settings.CHECKS,
    *server.CHECKS,
)

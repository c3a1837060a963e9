"""All checks, in the order in which they run."""

from collections.abc import Sequence

from isola.doctor import code, grants, homes, keys, policies, roles, server, settings
from isola.doctor.check import Check

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

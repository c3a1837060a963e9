"""What is installed here. Importing it loads all applications, so that ``metadata`` has all tables.

Raises OperatorError, when it is imported, for an application that does not fit.
"""

from collections.abc import Mapping, Sequence

from isola.shipped import shipped
from isola.subjects import (
    audit,
    branding,
    flags,
    organizations,
    permissions,
    resources,
    roles,
    signing_keys,
    spans,
    tiers,
    users,
)
from isola.subjects.applications import BUILT_IN, Application, load
from isola.subjects.metadata import metadata
from isola.subjects.subject import Subject
from isola.subjects.tiers import routes as tier_routes
from isola.subjects.usage import routes as usage_routes

__all__ = ["APPLICATIONS", "SUBJECTS", "audit", "metadata"]

_OURS = Application(
    name=BUILT_IN,
    subjects=(
        resources.Resource,
        users.User,
        roles.Role,
        organizations.Organization,
        signing_keys.SigningKey,
        spans.Span,
        tiers.Tier,
        tiers.TierCustomer,
        flags.Flag,
        branding.Branding,
    ),
    migrations=shipped("migrations") / "tenant",
    routes=(*usage_routes.ROUTES, *tier_routes.ROUTES),
)

APPLICATIONS: Mapping[str, Application] = {BUILT_IN: _OURS, **load(_OURS)}
"""All applications by name, the one that ships first."""

permissions.complete()

SUBJECTS: Sequence[type[Subject]] = [
    subject for application in APPLICATIONS.values() for subject in application.subjects
]

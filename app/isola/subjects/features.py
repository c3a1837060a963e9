"""Features: parts of the API that a plan has or has not. Fields, mutations and subjects require them by name.

The names are declared by applications (``Application.features``); those of the plans that are there to begin with are
declared here. See docs/plans.md.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

_FORM = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
MAX_NAME = 63

_known: dict[str, str] = {
    "advanced-analytics": "Advanced analytics.",
    "audit-logs": "Audit logs.",
    "custom-patterns": "Custom patterns.",
    "data-export": "Data export.",
    "priority-support": "Priority support.",
    "single-sign-on": "Single sign-on.",
}


def is_name(text: str) -> bool:
    """Whether a text has the form of a name: words of a-z and 0-9, with hyphens between them."""
    return len(text) <= MAX_NAME and _FORM.fullmatch(text) is not None


def declare(features: Mapping[str, str]) -> None:
    """Add features with their descriptions, before the server starts. Raises ValueError for a malformed name."""
    for name in features:
        if not is_name(name):
            raise ValueError(f"feature {name!r}: expected words of a-z and 0-9, with hyphens between them")
    _known.update(features)


def known() -> Mapping[str, str]:
    """All features with their descriptions."""
    return MappingProxyType(_known)

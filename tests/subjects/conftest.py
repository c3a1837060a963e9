from collections.abc import Iterator

import pytest

from isola.subjects import permissions


@pytest.fixture(autouse=True)
def known_permissions() -> Iterator[None]:
    """Forget the permissions of the subjects that a test declares."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_known", "_of_rules"):
            patch.setattr(permissions, name, set(getattr(permissions, name)))
        yield
    permissions.all_permissions.cache_clear()
    permissions.of_role.cache_clear()

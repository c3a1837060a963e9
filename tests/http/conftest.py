import pytest

from isola.subjects.permissions import Role
from isola.testing.over_http.conftest import alice, api, bob, guest, settings, standing
from isola.testing.served import Api, Client
from isola_strategies.base import Strategy

__all__ = ["alice", "api", "bob", "guest", "settings", "standing"]


@pytest.fixture
def tenant(strategy: Strategy) -> str:
    """The slug of the tenant of alice."""
    return f"{strategy.name}-a"


@pytest.fixture
def other_tenant(strategy: Strategy) -> str:
    """The slug of another tenant under the same strategy."""
    return f"{strategy.name}-b"


@pytest.fixture
def ada(api: Api, strategy: Strategy) -> Client:
    """An editor of the tenant of alice."""
    return api.client(f"{strategy.name}-a", "ada", Role.EDITOR)


@pytest.fixture
def eve(api: Api, strategy: Strategy) -> Client:
    """Another editor of that tenant."""
    return api.client(f"{strategy.name}-a", "eve", Role.EDITOR)

from isola.testing.isolation.conftest import login
from isola.testing.over_http.conftest import alice, api, bob, settings

__all__ = ["alice", "api", "bob", "login", "settings"]

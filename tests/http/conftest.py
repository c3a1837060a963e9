from isola.testing.over_http.conftest import alice, api, bob, guest, settings, standing

__all__ = ["alice", "api", "bob", "guest", "settings", "standing"]

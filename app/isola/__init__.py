"""Isola as a library: code outside of requests chooses its tenant with ``run_with_tenant``. See docs/workers.md."""

from isola.scope import run_with_tenant

__all__ = ["run_with_tenant"]

"""Isola as a library: code beside requests chooses its tenant by ``run_with_tenant``. See docs/workers.md."""

from isola.scope import run_with_tenant

__all__ = ["run_with_tenant"]

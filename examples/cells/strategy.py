"""Shared tables in several cells: a third strategy, written as a plug-in.

A cell is a schema with all tables. Some tenants share it, isolated by row-level security as under ``rls``; the others
are in other cells. So no table, index or vacuum run covers all tenants, a migration locks one cell at a time, and the
number of tables grows with the cells, not with the tenants.

docs/strategies.md goes through this file step by step.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from isola_strategies.base import Home
from isola_strategies.rls import RowLevelSecurity

# A tenant's cell is computed from this number, so it must not change once there are tenants. It is small here so that
# tests often have two tenants in one cell; use 16 to 64 in production.
CELLS = 2


class Cells(RowLevelSecurity):
    name = "cells"

    def home(self, tenant: UUID) -> Home:
        return _cell(tenant.int % CELLS)

    def homes(self, tenants: Iterable[UUID]) -> Sequence[Home]:
        return [_cell(number) for number in range(CELLS)]

    def bind(self, tenant: UUID) -> str:
        cell = self.home(tenant).schema
        return f"SET LOCAL search_path TO {cell}; SET LOCAL isola.home TO {cell}; SET LOCAL isola.tenant TO '{tenant}'"


def _cell(number: int) -> Home:
    return Home(f"cell_{number}")

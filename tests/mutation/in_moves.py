"""Sabotages of moves: of the checks that keep requests out of the old home, and of the copied data."""

from tests.mutation.in_database import rewritten
from tests.mutation.sabotage import BOTH, Patch, Sql

RLS = "rls"
MOVING, MOVES = "app/isola/testing/isolation/test_moving.py", "tests/control/test_moves.py"

IN_MOVES = (
    Sql(
        "writes in a home that is being left",
        "that nothing is written while a tenant moves",
        BOTH,
        rewritten("isola.audit_commit()", "(home <> NEW.home OR moving_to IS NOT NULL)", "false"),
        (MOVES,),
    ),
    Sql(
        "reads in a home that was left",
        "that a binding is to the tenant's home",
        RLS,
        rewritten("isola.proved_tenant_id()", "IF tenant::uuid = ANY (key.moved) THEN", "IF false THEN"),
        (MOVING, MOVES),
    ),
    Patch(
        "move that takes others' rows along",
        "the tenant in what a move copies",
        RLS,
        "app/isola/platform/moves.py",
        "{f' WHERE {predicate}' if predicate else ''}",
        "",
        (MOVING, MOVES),
    ),
    Patch(
        "move that compares nothing",
        "that a copy is compared with what was copied",
        BOTH,
        "app/isola/platform/moves.py",
        "if await transaction.value(_digest(table, source)) != await transaction.value(_digest(table, target)):",
        "if table is None:",
        (MOVES,),
    ),
)

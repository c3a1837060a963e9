"""Sabotages of moves and erasures: of the checks that keep requests out of a home that is left, of what is copied."""

from tests.mutation.in_database import rewritten
from tests.mutation.sabotage import BOTH, Patch, Sql

RLS = "rls"
ERASING = "app/isola/testing/isolation/test_erasing.py"
MOVING, MOVES = "app/isola/testing/isolation/test_moving.py", "tests/control/test_moves.py"

IN_MOVES = (
    Sql(
        "writes in a home during a move",
        "that nothing is written while a tenant moves",
        BOTH,
        rewritten("isola.audit_commit()", "home <> NEW.home OR moving_to IS NOT NULL OR ", ""),
        (MOVES,),
    ),
    Sql(
        "commits of deleted tenants",
        "that nothing is committed once a tenant is marked as deleted",
        BOTH,
        rewritten("isola.audit_commit()", " OR status = 'deleted'", ""),
        (ERASING,),
    ),
    Patch(
        "erasure that waits for no commit",
        "that commits end before their tenant is erased",
        BOTH,
        "app/isola/platform/provisioning.py",
        "if not await commits.settled(owner, PATIENCE):",
        "if owner is None:",
        (ERASING,),
    ),
    Sql(
        "reads in a former home",
        "that a binding is to the tenant's home",
        RLS,
        rewritten("isola.proved_tenant_id()", "IF tenant::uuid = ANY (key.moved) THEN", "IF false THEN"),
        (MOVING, MOVES),
    ),
    Patch(
        "move that copies others' rows",
        "the tenant in what a move copies",
        RLS,
        "app/isola/platform/moves.py",
        "{f' WHERE {predicate}' if predicate else ''}",
        "",
        (MOVING, MOVES),
    ),
    Patch(
        "move without comparison",
        "that a copy is compared with the original",
        BOTH,
        "app/isola/platform/moves.py",
        "if await transaction.value(_digest(table, source)) != await transaction.value(_digest(table, target)):",
        "if table is None:",
        (MOVES,),
    ),
)

"""Create, migrate and drop tenants with django-tenants, for the lab.

``app/isola/lab/django_tenants_peer.py`` runs it in a separate environment. Arguments: host (a directory for a socket),
port, user, database, number of tenants, rows of each, number of further tenants to create and drop, number of
processes for migrations. Prints figures as JSON; each name ends with its unit.
"""

# Django is not installed where types are checked.
# mypy: disable-error-code="import-not-found"

import importlib
import json
import statistics
import sys
import time

from django.core.management import call_command
from django.db import connection
from django_tenants_making import make, project

MIGRATION = """
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [("things", "{before}")]
    operations = [{operation}]
"""
STEPS = {
    "add_column": ("True", 'migrations.AddField("resource", "added", models.TextField(null=True))'),
    "add_index": ("False", 'AddIndexConcurrently("resource", models.Index(fields=["size_bytes"], name="added_index"))'),
    "backfill": ("True", 'migrations.RunSQL("UPDATE things_resource SET added = name")'),
}
ROWS = """
INSERT INTO {schema}.things_user (subject, name, created_at) VALUES ('a', 'Person', now());
INSERT INTO {schema}.things_resource (owner_id, name, kind, data, size_bytes, created_at)
SELECT u.id, 'amber ' || n, 'report', jsonb_build_object('measured', n), n, now()
FROM {schema}.things_user u CROSS JOIN generate_series(1, {rows}) n
"""


def main(address: tuple[str, str, str, str], tenants: int, rows: int, few: int, processes: int) -> dict[str, float]:
    # Without fork, child processes would not have the settings made here.
    executor = "multiprocessing" if sys.platform == "linux" else "standard"
    with project(*address, TENANT_MULTIPROCESSING_MAX_PROCESSES=processes) as directory:
        for number in range(tenants):
            make(f"tenant_{number}")
            furnish(f"tenant_{number}", rows)
        values = {"make_ms": statistics.median([make(f"few_{number}") for number in range(few)]) * 1000}
        for number in range(few):
            furnish(f"few_{number}", rows)
        values["drop_ms"] = statistics.median([drop(f"few_{number}") for number in range(few)]) * 1000
        values["nothing_s"] = migrate(executor)
        before = "0001_initial"
        for number, (name, (atomic, operation)) in enumerate(STEPS.items(), start=2):
            text = MIGRATION.format(atomic=atomic, before=before, operation=operation)
            before = f"{number:04}_{name}"
            (directory / "things" / "migrations" / f"{before}.py").write_text(text)
            values[f"{name}_s"] = migrate(executor)
        verify(tenants, rows)
    return values


def furnish(schema: str, rows: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(ROWS.format(schema=schema, rows=rows))


def drop(schema: str) -> float:
    from directory.models import Client  # noqa: PLC0415  the package was just generated

    started = time.perf_counter()
    Client.objects.get(schema_name=schema).delete(force_drop=True)
    return time.perf_counter() - started


def migrate(executor: str) -> float:
    importlib.invalidate_caches()
    connection.close()  # must not be shared with child processes
    started = time.perf_counter()
    call_command("migrate_schemas", tenant=True, executor=executor, verbosity=0)
    return time.perf_counter() - started


def verify(tenants: int, rows: int) -> None:
    for number in range(tenants):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(added) FROM tenant_{number}.things_resource")
            if cursor.fetchone()[0] != rows:
                raise RuntimeError(f"tenant_{number} was not migrated")


if __name__ == "__main__":
    _, host, port, user, database, *numbers = sys.argv
    print(json.dumps(main((host, port, user, database), *[int(number) for number in numbers])))

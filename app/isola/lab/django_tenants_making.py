"""Create tenants with django-tenants: three tables each, set up as in its documentation.

``benchmarks/provisioning.py --peer`` runs it in a separate environment. Arguments: host (a directory for a socket),
port, user, database, number of tenants. Prints the seconds for each tenant as JSON. It is a single file, so it
generates the application packages that Django requires.
"""

# Django is not installed where types are checked.
# mypy: disable-error-code="import-not-found"

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

MODELS = {
    "directory": """
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin

class Client(TenantMixin):
    name = models.CharField(max_length=100)
    auto_create_schema = True

class Domain(DomainMixin):
    pass
""",
    "things": """
from django.db import models

class User(models.Model):
    subject = models.TextField(unique=True)
    name = models.TextField()
    email = models.TextField(unique=True, null=True)
    created_at = models.DateTimeField(auto_now_add=True)

class Resource(models.Model):
    owner = models.ForeignKey(User, models.PROTECT)
    name = models.TextField(db_index=True)
    kind = models.TextField(null=True, db_index=True)
    data = models.JSONField(default=dict)
    size_bytes = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

class Span(models.Model):
    author = models.ForeignKey(User, models.CASCADE)
    resource = models.ForeignKey(Resource, models.SET_NULL, null=True)
    title = models.TextField()
    payload = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
""",
}


@contextmanager
def project(host: str, port: str, user: str, database: str, **further: object) -> Iterator[Path]:
    """A Django project in its own directory, with its shared tables created; ``further`` are settings."""
    with tempfile.TemporaryDirectory() as directory:
        for name, models in MODELS.items():
            package = Path(directory) / name
            (package / "migrations").mkdir(parents=True)
            for file, text in (("__init__.py", ""), ("migrations/__init__.py", ""), ("models.py", models)):
                (package / file).write_text(text)
        sys.path.insert(0, directory)
        settings.configure(
            DATABASES={
                "default": {
                    "ENGINE": "django_tenants.postgresql_backend",
                    "NAME": database, "USER": user, "HOST": host, "PORT": port,
                }
            },
            DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"],
            SHARED_APPS=["django_tenants", "django.contrib.contenttypes", "directory"],
            TENANT_APPS=["things"],
            INSTALLED_APPS=["django_tenants", "django.contrib.contenttypes", "directory", "things"],
            TENANT_MODEL="directory.Client",
            TENANT_DOMAIN_MODEL="directory.Domain",
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            **further,
        )  # fmt: skip
        django.setup()
        call_command("makemigrations", "directory", "things", verbosity=0)
        call_command("migrate_schemas", shared=True, verbosity=0)
        yield Path(directory)


def make(name: str) -> float:
    """Create a tenant. Returns the seconds that it took."""
    from directory.models import Client  # noqa: PLC0415  the package was just generated

    started = time.perf_counter()
    Client(schema_name=name, name="Tenant").save(verbosity=0)
    return time.perf_counter() - started


def main(host: str, port: str, user: str, database: str, tenants: int) -> None:
    with project(host, port, user, database):
        seconds = [make(f"tenant_{number}") for number in range(tenants)]
    print(json.dumps(seconds))


if __name__ == "__main__":
    _, host, port, user, database, tenants = sys.argv
    main(host, port, user, database, int(tenants))

"""Invalid settings: the server does not start, and one line names the setting and the expected value."""

import re
from collections.abc import Mapping

import pytest

from isola.errors import OperatorError
from isola.settings import Settings, load
from tests.cli.processes import Place

# Errors that are found before the server does anything.
WRONG = {
    "port that is no number": ({"PORT": "http"}, ["ISOLA_PORT: "]),
    "several": ({"POOL_SIZE": "0", "STATEMENT_TIMEOUT": "0.0001"}, ["ISOLA_POOL_SIZE: ", "ISOLA_STATEMENT_TIMEOUT: "]),
    "without an end": ({"SHUTDOWN_GRACE": "inf", "POOL_WAIT": "nan"}, ["ISOLA_SHUTDOWN_GRACE: ", "ISOLA_POOL_WAIT: "]),
    "no JSON list": ({"CORS_ORIGINS": "https://example.org"}, ["ISOLA_CORS_ORIGINS: expected a JSON list"]),
    "no address": ({"DATABASE_URL": "localhost"}, ["ISOLA_DATABASE_URL: expected postgresql://"]),
    "port of no number in an address": (
        {"CONTROL_URL": "postgresql://u:secret@h:x/d"},
        ["ISOLA_CONTROL_URL: expected"],
    ),
    "another database": ({"DATABASE_URL": "mysql://u:secret@h/d"}, ["ISOLA_DATABASE_URL: expected postgresql://"]),
    "empty address": ({"TENANT_URL": ""}, ["ISOLA_TENANT_URL: expected postgresql://"]),
    "unknown source": ({"TENANT_SOURCES": '["cookie"]'}, ["ISOLA_TENANT_SOURCES_0: "]),
    "source twice": ({"TENANT_SOURCES": '["token", "path", "path"]'}, ["ISOLA_TENANT_SOURCES: expected each source"]),
    "no credential": ({"TENANT_SOURCES": '["header"]'}, ["ISOLA_TENANT_SOURCES: expected", "token or key"]),
    "host with a port": ({"HOSTS": '["api.test:80"]'}, ["ISOLA_HOSTS_0: expected a host's name"]),
    "domain with a dot": ({"PLATFORM_DOMAIN": ".platform.test"}, ["ISOLA_PLATFORM_DOMAIN: expected a host's name"]),
    "no network": ({"TRUSTED_PROXIES": '["10.0.0.1/8"]'}, ["ISOLA_TRUSTED_PROXIES_0: expected networks"]),
    "name server by name": ({"DNS_SERVERS": '["dns.test"]'}, ["ISOLA_DNS_SERVERS_0: expected IP addresses"]),
    "issuer without an audience": (
        {"ISSUERS": '[{"name": "partner", "token_issuer": "x", "token_key": "secret"}]'},
        ["ISOLA_ISSUERS_0_TOKEN_AUDIENCE: "],
    ),
    "issuer with an unknown setting": (
        {"ISSUERS": '[{"name": "p", "token_issuer": "x", "token_audience": "y", "key": "secret"}]'},
        ["ISOLA_ISSUERS_0_KEY: "],
    ),
    "issuer of staff that is no object": ({"ADMIN_ISSUER": "staff"}, ["ISOLA_ADMIN_ISSUER: expected a JSON object"]),
    "issuer of staff that gives roles": (
        {"ADMIN_ISSUER": '{"token_issuer": "x", "token_audience": "y", "token_key": "secret", "token_roles": true}'},
        ["ISOLA_ADMIN_ISSUER_TOKEN_ROLES: "],
    ),
    "no user": ({"TENANT_URL": "postgresql://h/d"}, ["ISOLA_TENANT_URL: expected an address with a user"]),
}


@pytest.mark.parametrize(("settings", "named"), WRONG.values(), ids=WRONG)
def test_every_setting_that_makes_no_sense_is_named(
    empty: Place, monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str], named: list[str]
) -> None:
    monkeypatch.chdir(empty.directory)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ISOLA_{name.upper()}", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(f"ISOLA_{name}", value)

    with pytest.raises(OperatorError) as refused:
        load()

    assert all(name in refused.value.message for name in named)
    assert "\n" not in refused.value.message
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ISOLA_PORT": "http"}, "isola: invalid settings: ISOLA_PORT: .*integer"),
        ({"ISOLA_STRATEGY": "cloud"}, "isola: ISOLA_STRATEGY: expected one of rls, schema"),
        ({"ISOLA_TOKEN_KEY": "secret"}, "isola: ISOLA_TOKEN_KEY: expected a secret of at least 32 bytes"),
        ({"ISOLA_HOST": "host.invalid"}, "isola: cannot listen on ISOLA_HOST host.invalid"),
        (
            {"ISOLA_TENANT_URL": "postgresql://one@h/d", "ISOLA_CONTROL_URL": "postgresql://one@h/d"},
            "isola: ISOLA_TENANT_URL and ISOLA_CONTROL_URL name the same login",
        ),
        ({"ISOLA_TENANT_URL": "postgresql://one@h/d"}, "isola: ISOLA_CONTROL_URL is not set: expected both addresses"),
        ({"ISOLA_CONTROL_URL": "postgresql://one@h/d"}, "isola: ISOLA_TENANT_URL is not set: expected both addresses"),
        ({"ISOLA_PRODUCTION": "true"}, "isola: no database is set: .*or ISOLA_EMBEDDED=true"),
        (
            {"ISOLA_TENANT_ULR": "postgresql://one@h/d", "ISOLA_ZZZZZZZZZZZZZZZZZZZZZZZZ": "1"},
            r"isola: unknown settings: ISOLA_TENANT_ULR \(did you mean ISOLA_TENANT_URL\?\), ISOLA_Z+$",
        ),
    ],
    ids=["port", "strategy", "secret", "host", "logins", "no control", "no tenants", "production", "misspelled"],
)
def test_a_server_ends_with_one_line_about_it(empty: Place, settings: Mapping[str, str], said: str) -> None:
    assert re.match(said, empty.fail("serve", **settings))


def test_an_embedded_postgresql_replaces_all_addresses_or_none(empty: Place) -> None:
    empty.fail("serve", ISOLA_TENANT_URL="postgresql://one@h/d")
    assert not empty.data_dir.exists()


def test_a_misspelled_setting_in_a_file_is_named_too(empty: Place) -> None:
    (empty.directory / ".env").write_text("ISOLA_POOLSIZE=3\nOTHER=1\n")
    assert empty.fail("serve") == "isola: unknown settings: ISOLA_POOLSIZE (did you mean ISOLA_POOL_SIZE?)"


def test_production_runs_an_embedded_postgresql_if_a_setting_allows_it(empty: Place) -> None:
    said = empty.fail("serve", ISOLA_PRODUCTION="true", ISOLA_EMBEDDED="true")
    assert "no database is set" not in said

"""Every command: wrong usage exits with 2, rejection with 1, and read-only commands start no database."""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import pytest
import typer

from isola.commands import main as cli
from tests.cli.processes import Place, finished

# Read-only commands that need a database. They start none.
LOOKING = {
    "audit verify --tenant acme",
    "doctor",
    "federation --tenant acme",
    "incident list",
    "incident list --open --json",
    "explain operation.graphql --tenant acme",
    "migrate --check",
    "plan list",
    "plan list --json",
    "metrics hours acme",
    "metrics requests acme",
    "metrics revenue",
    "metrics tenants",
    "platform log",
    "platform proofs",
    "platform verify",
    "tenant list",
    "tenant list --json",
    "tenant override list acme",
    "tenant show acme",
}
# Commands that need no database.
WITHOUT = {
    "advise",
    "bench compare",
    "bench report",
    "bench run",
    "isolation",
    "new",
    "password",
    "plan features",
    "plan meters",
    "revision",
    "schema",
    "token",
}
CHANGING = {
    "adopt",
    "audit seal",
    "demo",
    "import",
    "incident close",
    "incident note",
    "incident open",
    "migrate",
    "operate",
    "plan change",
    "plan create",
    "retention run",
    "plan delete",
    "plan retire",
    "platform proofs",
    "platform rotate-key",
    "revoke session",
    "revoke token",
    "revoke user",
    "serve",
    "tenant create",
    "tenant drop",
    "tenant move",
    "tenant override remove",
    "tenant override set",
    "tenant resume",
    "tenant set-parent",
    "tenant set-plan",
    "tenant suspend",
    "ticket",
    "timeline verify",
    "user assign",
    "user disable",
    "user enable",
    "user unassign",
}


def leaves(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command that is not a group, with the words that call it."""
    if hasattr(command, "commands"):
        for name, further in command.commands.items():
            yield from leaves(further, *path, name)
    else:
        yield " ".join(path), command


COMMANDS: Mapping[str, Any] = dict(leaves(typer.main.get_command(cli.app)))


def ended(monkeypatch: pytest.MonkeyPatch, line: str) -> int | str | None:
    """The exit status of a command that ends while parsing its arguments."""
    monkeypatch.setattr(sys, "argv", ["isola", *shlex.split(line)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def called(line: str) -> str:
    """The words of a line that name the command."""
    return next(name for name in COMMANDS if line == name or line.startswith(f"{name} "))


def test_it_is_known_of_every_command_whether_it_changes_anything() -> None:
    assert {called(line) for line in LOOKING} | WITHOUT | CHANGING == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_a_command_does_not_have_ends_with_2(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, f"{name} --no-such-option") == 2
    said = capsys.readouterr()
    assert "No such option: --no-such-option" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("option", "setting"),
    [("--port 80", "ISOLA_PORT"), ("--host=::", "ISOLA_HOST"), ("--data-dir x", "ISOLA_DATA_DIR")],
)
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_the_help_of_an_option_names_its_setting(
    name: str, option: str, setting: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert ended(monkeypatch, f"{name} {option}") == 2
    assert f"It is a setting: {setting} in the environment" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if any(each.required for each in command.params)]
)
def test_something_that_is_needed_and_missing_ends_with_2(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, name) == 2


@pytest.mark.parametrize(
    "line",
    [
        "no-such-command",
        "tenant no-such-command",
        "advise",
        "bench report no-such-file",
        "bench run --profile huge",
        "doctor --database-url nonsense",
        "explain no-such-file --tenant acme",
        "explain pyproject.toml --tenant acme --variables nonsense",
        "explain pyproject.toml --tenant acme --variables []",
        "import no-such-file --tenant acme",
        "import pyproject.toml --tenant acme --from-line 0",
        "migrate --workers 0",
        "new Agents",
        "new json",
        "plan change small --price '9.9999 USD/month'",
        "plan create small --price '99 dollars'",
        "plan create small --quota rockets=1",
        "plan create small --quota users=-1",
        "platform log --first 0",
        "revision --application no-such-application -m more",
        "platform log --since yesterday",
        "tenant create",
        "tenant override set acme --quota rockets=1 --reason trial",
        "tenant override set acme --quota users=1",
        "tenant override set acme --reason trial",
        "tenant override set acme --feature data-export --reason trial",
        "tenant set-parent acme",
        "tenant set-parent acme --top --under globex",
        "token --tenant acme --user ada --role boss",
        "token --tenant acme --user ada --ttl 0",
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_done(
    line: str, monkeypatch: pytest.MonkeyPatch, empty: Place
) -> None:
    monkeypatch.setenv("ISOLA_DATA_DIR", str(empty.data_dir))
    assert ended(monkeypatch, line) == 2
    assert not empty.data_dir.exists()


def test_a_refused_command_prints_one_line_and_exits_with_1(awake: Place) -> None:
    refused = (
        "tenant create 'Bad slug'",
        "tenant create umbrella --name ''",
        "tenant create umbrella --strategy none",
        "tenant move acme --to none",
        "plan create Small",
        "plan create small --features no-such-feature",
        "plan delete unlimited",
        "tenant create acme",
        "tenant create umbrella --plan none",
        "tenant show nobody",
        "tenant resume acme",
        "user assign ada boss --tenant acme",
    )
    begun = {line: awake.begin(*shlex.split(line)) for line in refused}
    for line, process in begun.items():
        printed, said, status = finished(process)
        assert (status, printed, said.startswith("isola: "), said.count("\n")) == (1, "", True, 1), line


def test_looking_starts_no_database(empty: Place) -> None:
    (empty.directory / "operation.graphql").write_text("{ viewer { tenant { name } } }", encoding="utf-8")
    begun = {line: empty.begin(*shlex.split(line)) for line in LOOKING}
    expected = (
        f"isola: no PostgreSQL is running in {empty.data_dir}: run isola serve, or set ISOLA_DATABASE_URL, "
        "or ISOLA_DATA_DIR to where isola serve has it\n"
    )
    assert {line: finished(process) for line, process in begun.items()} == dict.fromkeys(LOOKING, ("", expected, 1))
    assert not empty.data_dir.exists()


def test_the_version_is_that_of_the_package(empty: Place) -> None:
    assert empty.run("--version") == f"isola {version('isola')}\n"


def test_lists_are_there_for_programs(awake: Place) -> None:
    tenants = json.loads(awake.run("tenant", "list", "--json"))
    assert {tenant["slug"]: tenant["strategy"] for tenant in tenants} == {
        "acme": "rls",
        "globex": "schema",
        "initech": "rls",
    }
    [acme] = [tenant for tenant in tenants if tenant["slug"] == "acme"]
    assert json.loads(awake.run("tenant", "show", "acme", "--json")) == acme

    awake.run("plan", "create", "small", "--quota", "users=3")
    plans = {plan["name"]: plan for plan in json.loads(awake.run("plan", "list", "--json"))}
    assert plans["small"]["quotas"] == {"users": 3}
    assert plans["small"]["retired_at"] is None


@pytest.mark.parametrize("chosen", ["", "--quota users=3 --quota users=4", "--limit executions=3 --keep spans=3d"])
def test_an_override_takes_exactly_one_quota_limit_rate_or_feature(
    chosen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert ended(monkeypatch, f"tenant override set acme --reason trial {chosen}") == 2
    assert "expected one of --quota, --limit, --rate, --feature and --keep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("users=3d", "expected one of executions, log, spans, each once"),
        ("spans=3", "expected spans=<days>d or spans=none"),
        ("spans=-3d", "expected spans=<days>d or spans=none"),
    ],
)
def test_what_cannot_be_kept_for_a_time_is_refused(
    option: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert ended(monkeypatch, f"plan change small --keep {option}") == 2
    assert expected in capsys.readouterr().err

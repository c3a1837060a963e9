"""``isola demo``: the first command of new users."""

import json
import signal
import subprocess

import httpx

from isola.testing.patience import PATIENCE
from tests.cli.conftest import FirstDemo
from tests.cli.processes import Place, Running
from tests.subjects.separately import ROOT

TENANTS = {"Acme Corporation": "rls", "Globex": "schema", "Initech": "rls"}


def ask(server: Running, token: str, query: str) -> dict[str, object]:
    answer = httpx.post(
        f"{server.url}/graphql",
        json={"query": query},
        headers={"authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=PATIENCE,
    )
    data: dict[str, object] = answer.json()["data"]
    return data


def test_the_printed_commands_work_when_pasted(furnished: Place) -> None:
    with furnished.server("demo") as demo:
        commands = [line for line in demo.printed.splitlines() if line.startswith("curl ")]
        *answers, guest = [
            json.loads(subprocess.run(command, shell=True, check=True, capture_output=True).stdout)  # noqa: S602
            for command in (*commands, commands[-1].replace('"ada"', '"tim"'))
        ]
        *answers, signed_in = answers
        admitted = ask(demo, guest["data"]["signIn"]["session"]["accessToken"], "{ viewer { roles user { name } } }")
        session = signed_in["data"]["signIn"]["session"]
        tokens = [line for line in demo.printed.splitlines() if line.count(".") == 2 and " " not in line]
        names = [ask(demo, token, "{ viewer { tenant { name } } }") for token in tokens]

        assert demo.url in commands[0]
        assert [answer["data"]["viewer"]["tenant"]["name"] for answer in answers] == list(TENANTS)
        assert all(answer["data"]["resources"]["totalCount"] >= 100 for answer in answers)
        shared = {answer["data"]["viewer"]["tenant"]["name"]: answer["data"]["sharedWithMe"] for answer in answers}
        assert {node["owner"]["name"] for node in shared["Initech"]["nodes"]} <= {"Acme Corporation", "Globex"}
        assert shared["Initech"]["nodes"]
        ada = ask(demo, session["accessToken"], "{ viewer { user { name } permissions } }")["viewer"]
        assert ada["user"] == {"name": "Ada Lovelace"}  # type: ignore[index]  # as JSON has it
        assert admitted == {"viewer": {"roles": ["viewer"], "user": {"name": "Tim Berners-Lee"}}}
        assert names == [{"viewer": {"tenant": {"name": name}}} for name in TENANTS]
        assert f"{demo.url}/graphql" in demo.printed
        home = httpx.get(demo.url, trust_env=False, timeout=PATIENCE).text
        assert [name for name in TENANTS if f"<h3>{name}" not in home] == []
        assert not [secret for secret in (*tokens, session["accessToken"]) if secret in home]
        for question in ("livez", "readyz"):
            assert httpx.get(f"{demo.url}/{question}", trust_env=False, timeout=PATIENCE).status_code == 200


def test_the_demo_ends_on_sigterm_with_status_0_and_stops_postgresql(first_demo: FirstDemo) -> None:
    assert first_demo.status == 0
    assert first_demo.place.postgresql_is_gone()
    assert not [line for line in first_demo.printed.splitlines() if "rror" in line]


def test_the_demo_ends_on_ctrl_c_and_finds_its_data_again(furnished: Place) -> None:
    with furnished.server("demo") as demo:
        token = furnished.run("token", "--tenant", "acme", "--user", "ada").splitlines()[-1]
        made = ask(demo, token, 'mutation { createResource(input: {name: "kept"}) { resource { id } } }')
        before = ask(demo, token, "{ resources { totalCount } }")
        assert demo.stop(signal.SIGINT) == 0
    assert furnished.postgresql_is_gone()

    with furnished.server("demo") as demo:
        found = ask(demo, token, "{ resources(last: 1) { nodes { id name } } }")
        assert found["resources"] == {"nodes": [{**made["createResource"]["resource"], "name": "kept"}]}  # type: ignore[index]  # JSON
        assert ask(demo, token, "{ resources { totalCount } }") == before


def test_commands_join_the_postgresql_of_a_running_demo(furnished: Place) -> None:
    with furnished.server("demo") as demo:
        assert "globex" in furnished.run("tenant", "list")
        furnished.run("tenant", "create", "umbrella", "--strategy", "schema")

        assert ask(demo, furnished.token("umbrella"), "{ resources { totalCount } }") == {
            "resources": {"totalCount": 0}
        }
        assert "in use by process" in furnished.fail("demo")
        assert demo.stop() == 0


def test_the_demo_refuses_another_database(empty: Place) -> None:
    complaint = empty.fail("demo", ISOLA_DATABASE_URL="postgresql://owner@127.0.0.1/somewhere")

    assert "ISOLA_DATABASE_URL" in complaint
    assert not empty.data_dir.exists()


def test_the_demo_fills_an_application_with_rules_of_visibility(empty: Place) -> None:
    zoo = {"ISOLA_APPLICATIONS": "tests.subjects.zoo:application", "PYTHONPATH": str(ROOT)}
    with empty.server("demo", **zoo) as demo:
        token = next(line for line in demo.printed.splitlines() if line.count(".") == 2 and " " not in line)
        found = ask(demo, token, "{ foods(first: 0) { totalCount } animals(first: 0) { totalCount } }")
    assert all(each["totalCount"] > 0 for each in found.values())  # type: ignore[index]  # as JSON has it

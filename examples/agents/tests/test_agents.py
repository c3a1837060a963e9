"""Agents over HTTP, under each strategy."""

import asyncio
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.platform import overrides, provisioning
from isola.platform.overrides import Kind
from isola.platform.platform_log import Author
from isola.subjects.permissions import Role
from isola.testing.served import Answer, Api, Client

CREATE = "mutation ($input: CreateAgentInput!) { createAgent(input: $input) { agent { id enabled kind config } } }"
UPDATE = "mutation ($input: UpdateAgentInput!) { updateAgent(input: $input) { agent { id enabled } } }"
EXECUTE = """mutation ($input: ExecuteAgentInput!) { executeAgent(input: $input) {
  agent { executions { totalCount } } execution { id status input output cost startedAt finishedAt } } }"""
FINISH = """mutation ($input: FinishExecutionInput!) { finishExecution(input: $input) {
  execution { id status output cost finishedAt } } }"""
EXECUTIONS = "{ executions { totalCount nodes { id status } } }"


async def made(client: Client, name: str = "Ada's helper", **more: Any) -> str:
    answer = await client.ask(CREATE, {"input": {"name": name, **more}})
    return str(answer.data["createAgent"]["agent"]["id"])


async def executed(client: Client, agent: str) -> str:
    answer = await client.ask(EXECUTE, {"input": {"id": agent, "input": {"question": 1}}})
    return str(answer.data["executeAgent"]["execution"]["id"])


def assert_refused(answer: Answer, code: str, message: str) -> None:
    assert (answer.code, answer.error["message"]) == (code, message)


async def test_an_agent_executes_and_the_execution_is_finished(alice: Client) -> None:
    agent = await made(alice, kind="TOOL", config={"model": "small"})

    begun = (await alice.ask(EXECUTE, {"input": {"id": agent, "input": {"question": 1}}})).data["executeAgent"]
    assert begun["agent"]["executions"]["totalCount"] == 1
    execution = begun["execution"]
    assert (execution["status"], execution["input"]) == ("RUNNING", {"question": 1})
    assert (execution["output"], execution["cost"], execution["finishedAt"]) == (None, None, None)

    done = {"id": execution["id"], "output": ["answer"], "cost": "12.3400"}
    finished = (await alice.ask(FINISH, {"input": done})).data["finishExecution"]["execution"]
    assert (finished["status"], finished["output"], finished["cost"]) == ("SUCCEEDED", ["answer"], "12.34")
    assert finished["finishedAt"] > execution["startedAt"]


async def test_an_agent_that_is_not_enabled_does_not_execute(alice: Client) -> None:
    agent = await made(alice, enabled=False)
    answer = await alice.ask(EXECUTE, {"input": {"id": agent, "input": {}}})
    assert_refused(answer, "CONFLICT", "the agent is not enabled")
    assert (await alice.ask(EXECUTIONS)).data["executions"]["totalCount"] == 0

    await alice.ask(UPDATE, {"input": {"id": agent, "enabled": True}})
    assert await executed(alice, agent)


async def test_an_execution_is_finished_once(alice: Client) -> None:
    execution = await executed(alice, await made(alice))
    done = {"id": execution, "output": {}, "cost": 1}
    first, second = await asyncio.gather(*(alice.ask(FINISH, {"input": done}) for _ in range(2)))
    codes = sorted("CONFLICT" if "errors" in each.body else "" for each in (first, second))
    assert codes == ["", "CONFLICT"]
    assert_refused(await alice.ask(FINISH, {"input": done}), "CONFLICT", "the execution is finished already")


@pytest.mark.parametrize("cost", ["-1", "0.00001", "123456789"])
async def test_what_an_execution_costs_is_checked(alice: Client, cost: str) -> None:
    execution = await executed(alice, await made(alice))
    answer = await alice.ask(FINISH, {"input": {"id": execution, "output": {}, "cost": cost}})
    assert answer.code == "BAD_USER_INPUT"
    assert answer.error["extensions"]["field"] == "input.cost"
    assert (await alice.ask(EXECUTIONS)).data["executions"]["nodes"] == [{"id": execution, "status": "RUNNING"}]


async def test_who_may_not_execute_does_not(alice: Client, api: Api) -> None:
    agent = await made(alice)
    viewer = api.client(alice.tenant, "vera", Role.VIEWER)
    answer = await viewer.ask(EXECUTE, {"input": {"id": agent, "input": 1}})
    assert_refused(answer, "FORBIDDEN", "this needs the permission agent:execute")
    assert (await alice.ask(EXECUTIONS)).data["executions"]["totalCount"] == 0
    # An editor may execute agents of other users, but not change them.
    editor = api.client(alice.tenant, "ed", Role.EDITOR)
    assert await executed(editor, agent)
    assert (await editor.ask(UPDATE, {"input": {"id": agent, "enabled": False}})).code == "FORBIDDEN"


async def test_a_name_is_unique_in_a_tenant_and_not_between_tenants(alice: Client, bob: Client) -> None:
    await made(alice, "the same")
    answer = await alice.ask(CREATE, {"input": {"name": "the same"}})
    assert answer.code == "CONFLICT"
    assert await made(bob, "the same")


async def test_agents_of_others_are_not_there(alice: Client, bob: Client) -> None:
    agent = await made(alice)
    answer = await bob.ask(EXECUTE, {"input": {"id": agent, "input": 1}})
    assert_refused(answer, "NOT_FOUND", "there is no such agent")
    assert (await alice.ask(EXECUTIONS)).data["executions"]["totalCount"] == 0


async def test_each_execution_is_one_of_those_that_the_plan_allows_in_a_month(alice: Client, control: Database) -> None:
    tenant = await provisioning.named(control, alice.tenant)
    await overrides.put(control, Author("staff:sam", None), tenant, Kind.METER, "executions", value=2, reason="a trial")
    agent = await made(alice)
    answers = await asyncio.gather(
        *(alice.ask(EXECUTE, {"input": {"id": agent, "input": {}}}) for _ in range(6)),
    )
    assert [each.code for each in answers if "errors" in each.body] == ["QUOTA_EXCEEDED"] * 4
    assert (await alice.ask(EXECUTIONS)).data["executions"]["totalCount"] == 2
    used = await alice.ask("{ usage { nodes { meter quantity } } }")
    assert used.data["usage"]["nodes"] == [{"meter": "executions", "quantity": 2}]


async def test_patterns_belong_to_many_agents_and_agents_have_many(alice: Client) -> None:
    create = 'mutation { createPattern(input: {name: "short", instructions: "Be short."}) { pattern { id } } }'
    pattern = (await alice.ask(create)).data["createPattern"]["pattern"]["id"]
    agents = [await made(alice, name) for name in ("one", "two")]
    add = """mutation ($input: AddAgentPatternsInput!) { addAgentPatterns(input: $input) {
      agent { name patterns { nodes { name agents { nodes { name } } } } } } }"""
    for agent in agents:
        answer = await alice.ask(add, {"input": {"agentId": agent, "patternId": pattern}})
    both = {"name": "short", "agents": {"nodes": [{"name": "one"}, {"name": "two"}]}}
    assert answer.data["addAgentPatterns"]["agent"] == {"name": "two", "patterns": {"nodes": [both]}}
    again = await alice.ask(add, {"input": {"agentId": agents[0], "patternId": pattern}})
    assert_refused(again, "CONFLICT", "they are related already")

    remove = "mutation ($input: RemoveAgentPatternsInput!) { removeAgentPatterns(input: $input) { agent { name } } }"
    pair = {"input": {"agentId": agents[1], "patternId": pattern}}
    assert (await alice.ask(remove, pair)).data
    assert_refused(await alice.ask(remove, pair), "NOT_FOUND", "they are not related")
    left = await alice.ask("{ patterns { nodes { agents { nodes { name } } } } }")
    assert left.data == {"patterns": {"nodes": [{"agents": {"nodes": [{"name": "one"}]}}]}}


async def test_executions_go_with_their_agent(alice: Client) -> None:
    agent, other = await made(alice, "one"), await made(alice, "two")
    await executed(alice, agent)
    kept = await executed(alice, other)
    await alice.ask("mutation ($id: ID!) { deleteAgent(input: {id: $id}) { deletedId } }", {"id": agent})
    assert [each["id"] for each in (await alice.ask(EXECUTIONS)).data["executions"]["nodes"]] == [kept]

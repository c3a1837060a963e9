from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from isola.errors import Conflict
from isola.subjects import JSON, Actor, Many, Subject, Work, action, caller, column, many, reference
from isola.subjects.users import User


class AgentKind(StrEnum):
    CHAT = "chat"
    TOOL = "tool"
    WORKFLOW = "workflow"


class ExecutionStatus(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Agent(Subject, name="agent", prefix="agt", counted=True):
    """An agent that executes skills."""

    name: str = column(max_length=200, min_length=1, unique=True)
    kind: AgentKind = column(default=AgentKind.CHAT)
    config: JSON = column(default=dict)
    enabled: bool = column(default=True, description="Only enabled agents execute.")
    owner: User = reference(default=caller)
    patterns: Many["Pattern"] = many()
    executions: Many["Execution"] = many("agent")

    shared = ("name", "kind", "config")

    @action()
    async def execute(self, work: Work, actor: Actor, *, input: JSON) -> "Execution":  # noqa: A002  what clients call it
        """Begin an execution. The agent has to be enabled."""
        if not self.enabled:
            raise Conflict("the agent is not enabled", "id")
        return await Execution.create(work, actor, agent=self, input=input, started_at=datetime.now(UTC))


class Pattern(Subject, name="pattern", prefix="pat", feature="custom-patterns"):
    """Instructions that agents follow."""

    name: str = column(max_length=200, min_length=1, unique=True)
    instructions: str = column(max_length=20_000)
    agents: Many[Agent] = many("patterns")


class Execution(
    Subject,
    name="execution",
    prefix="exe",
    mutations=frozenset(),
    order=("-created_at",),
    consumes="executions",
    kept="created_at",
):
    """What an agent did with one input."""

    agent: Agent = reference(on_delete="cascade")
    status: ExecutionStatus = column(default=ExecutionStatus.RUNNING)
    input: JSON = column()
    output: JSON | None = column()
    cost: Decimal | None = column(digits=12, scale=4, minimum=0)
    started_at: datetime = column()
    finished_at: datetime | None = column()

    @action()
    async def finish(self, work: Work, actor: Actor, *, output: JSON, cost: Decimal, failed: bool = False) -> None:
        """Stop a running execution."""
        if self.status is not ExecutionStatus.RUNNING:
            raise Conflict("the execution is finished already", "id")
        status = ExecutionStatus.FAILED if failed else ExecutionStatus.SUCCEEDED
        await self.update(work, actor, status=status, output=output, cost=cost, finished_at=datetime.now(UTC))

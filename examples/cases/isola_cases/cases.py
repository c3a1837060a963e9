from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from isola.errors import BadUserInput, Conflict
from isola.subjects import Many, Subject, Work, action, caller, column, many, reference
from isola.subjects.actor import ALLOWED, Actor, Decision
from isola.subjects.users import User


class CaseState(StrEnum):
    NEW = "new"
    OPEN = "open"
    WAITING = "waiting"
    SOLVED = "solved"
    CLOSED = "closed"


FOLLOWING: Mapping[CaseState, tuple[CaseState, ...]] = MappingProxyType(
    {
        CaseState.NEW: (CaseState.OPEN, CaseState.CLOSED),
        CaseState.OPEN: (CaseState.WAITING, CaseState.SOLVED),
        CaseState.WAITING: (CaseState.OPEN, CaseState.SOLVED),
        CaseState.SOLVED: (CaseState.OPEN, CaseState.CLOSED),
        CaseState.CLOSED: (),
    }
)
"""The states that a case can be moved to, by the one that it is in."""


class ActivityKind(StrEnum):
    COMMENT = "comment"
    MOVE = "move"


class Case(Subject, name="case", prefix="cas", counted=True, order=("-created_at",)):
    """A problem that a user wants to have solved."""

    title: str = column(max_length=200, min_length=1, index=True, insensitive=True)
    description: str = column(default="", max_length=20_000)
    state: CaseState = column(default=CaseState.NEW)
    reporter: User = reference(default=caller)
    assignee: User | None = reference(on_delete="set null", description="The user who works on it.")
    activities: Many["Activity"] = many("case", description="The activities of the case, oldest first.")

    searched = ("title", "description")
    searched_as = "english"

    def may_change(self, actor: Actor) -> Decision:
        """Who works on a case may change it, beside who reported it."""
        return ALLOWED if self.assignee and self.assignee.id == actor.user_id else super().may_change(actor)

    async def before_create(self, work: Work, actor: Actor) -> None:
        """A case begins as a new one."""
        if self.state is not CaseState.NEW:
            raise BadUserInput("state: expected NEW, or nothing", "state")

    async def before_update(self, work: Work, actor: Actor, changes: dict[str, Any]) -> None:
        """A change of state has to be one that can follow, and is an activity."""
        state = changes.get("state", self.state)
        if state is self.state:
            return
        if state not in FOLLOWING[self.state]:
            expected = " or ".join(each.name for each in FOLLOWING[self.state]) or "no other one"
            raise Conflict(f"state: a case that is {self.state.name} can become {expected}", "state")
        await Activity.create(work, actor, case=self, kind=ActivityKind.MOVE, old_state=self.state, new_state=state)

    @action(permission="case:comment")
    async def comment(self, work: Work, actor: Actor, *, text: str) -> "Activity":
        """Comment on a case, also on one that somebody else reported."""
        return await Activity.create(work, actor, case=self, kind=ActivityKind.COMMENT, text=text)


class Activity(
    Subject, name="activity", prefix="act", plural="activities", mutations=frozenset(), order=("created_at",)
):
    """A comment on a case, or a move to another state."""

    case: Case = reference(on_delete="cascade")
    author: User = reference(default=caller)
    kind: ActivityKind = column()
    text: str | None = column(max_length=20_000, min_length=1)
    old_state: CaseState | None = column()
    new_state: CaseState | None = column()

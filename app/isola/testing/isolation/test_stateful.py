"""Random operations of three tenants, their users and partners, on every mix of placements: all responses are equal.

A model in plain Python, without SQL or strategies, must agree on what each user may do and see.

``TEST_STATEFUL`` is the number of random sequences. By default they are the same each time; with it, they vary.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings as hypothesis_settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test

from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS, Cluster
from isola.testing.oracles.differential import LETTERS, Answer, Laboratory, Named, User, laboratory

CHOSEN = "TEST_STATEFUL" in os.environ
LIVES = int(os.environ.get("TEST_STATEFUL", "15"))
STEPS = 40

MANAGERS = {Role.ADMIN, Role.OWNER}
NAMES = ["map", "Map", "plan 1", "plan 2", "ü%_\\", "z"]
FIELDS = ["DATA", "KIND", "NAME", "SIZE_BYTES"]
USERS = [User(letter, role) for letter in LETTERS for role in Role]
someone = st.sampled_from(USERS)
names = st.sampled_from(NAMES)
chosen = st.frozensets(st.sampled_from(FIELDS), min_size=1)


@dataclass(frozen=True)
class Resource:
    tenant: str
    owner: User
    name: str
    order: int
    live: bool = True


@dataclass(frozen=True)
class Share:
    resource: str
    grantee: str
    granted: int
    partnership: str
    fields: frozenset[str] = frozenset(FIELDS)
    live: bool = True


@dataclass(frozen=True)
class Span:
    tenant: str
    author: User
    visibility: str
    organization: str | None
    order: int


@dataclass
class Model:
    """The expected rows, and their visibility."""

    resources: dict[str, Resource] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)
    offers: dict[str, tuple[str, str]] = field(default_factory=dict)
    partners: dict[str, tuple[str, str]] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    organizations: dict[str, tuple[str, str]] = field(default_factory=dict)
    members: set[tuple[str, User]] = field(default_factory=set)

    def own(self, user: User) -> list[str]:
        """The tenant's resources, in the order of their creation."""
        return [key for key, each in self.resources.items() if each.live and each.tenant == user.tenant]

    def changing(self, user: User, key: str) -> str | None:
        """The code with which changing a resource is refused."""
        resource = self.resources[key]
        if user.role is Role.VIEWER:
            return "FORBIDDEN"
        if not resource.live or resource.tenant != user.tenant:
            return "NOT_FOUND"
        return None if user.role in MANAGERS or resource.owner == user else "FORBIDDEN"

    def received(self, user: User) -> list[str]:
        """The resources that partners share with the user's tenant, newest first."""
        return [
            key
            for key, each in sorted(self.shares.items(), key=lambda found: found[1].granted, reverse=True)
            if self.lasts(each) and each.grantee == user.tenant
        ]

    def granted(self, user: User) -> set[str]:
        """The live shares of the resources of the user's tenant."""
        return {key for key, each in self.shares.items() if self.lasts(each) and self.owner(each) == user.tenant}

    def owner(self, share: Share) -> str:
        return self.resources[share.resource].tenant

    def lasts(self, share: Share) -> bool:
        return share.live and share.partnership in self.partners

    def partnership(self, one: str, other: str) -> str | None:
        return next((key for key, pair in self.partners.items() if {one, other} == {*pair}), None)

    def agree(self, key: str) -> None:
        """Make partners by an offer, which ends all between the two."""
        pair = self.offers[key]
        self.offers = {each: offer for each, offer in self.offers.items() if {*offer} != {*pair}}
        self.partners[key] = pair

    def timeline(self, user: User) -> list[str]:
        """The spans that the user may see, newest first."""
        return [key for key, each in reversed(self.spans.items()) if self._visible(user, each)]

    def _visible(self, user: User, span: Span) -> bool:
        if span.tenant != user.tenant:
            return False
        member = span.visibility == "ORGANIZATION" and (span.organization, user) in self.members
        return member or span.visibility == "PUBLIC" or span.author == user


class Life(RuleBasedStateMachine):
    """One sequence of operations."""

    laboratory: ClassVar[Laboratory]
    runner: ClassVar[asyncio.Runner]

    resources: Bundle[str] = Bundle("resources")
    shares: Bundle[str] = Bundle("shares")
    partnerships: Bundle[str] = Bundle("partnerships")
    spans: Bundle[str] = Bundle("spans")
    organizations: Bundle[str] = Bundle("organizations")

    def ask(self, user: User, document: str, variables: Mapping[str, Any], *made: tuple[str, str]) -> Answer:
        return self.runner.run(self.laboratory.ask(user, document, variables, *made))

    def fresh(self, kind: str) -> str:
        self.made += 1
        return f"{kind} {self.made}"

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.made = 0
        self.runner.run(self.laboratory.restart())
        for user in USERS:
            answer = self.ask(user, "{ viewer { user { id name } roles tenant { slug } } }", {}, (str(user), "user"))
            assert answer.code is None, answer
            assert answer.body["data"]["viewer"]["tenant"] == {"slug": user.tenant}

    @rule(target=resources, user=someone, name=names, kind=st.sampled_from([None, "image"]), size=st.integers(0, 9))
    def create_resource(self, user: User, name: str, kind: str | None, size: int) -> Any:
        key = self.fresh("resource")
        document = """mutation ($input: CreateResourceInput!) {
            createResource(input: $input) { resource { id name kind data sizeBytes owner { id name } } } }"""
        given = {"name": name, "kind": kind, "sizeBytes": size, "data": {"of": user.tenant.upper()}}
        answer = self.ask(user, document, {"input": given}, (key, "resource"))
        if user.role is Role.VIEWER:
            assert answer.code == "FORBIDDEN"
            return multiple()
        assert answer.body["data"]["createResource"]["resource"]["owner"]["id"] == str(user)
        self.model.resources[key] = Resource(user.tenant, user, name, self.made)
        return key

    @rule(user=someone, key=resources, name=names)
    def update_resource(self, user: User, key: str, name: str) -> None:
        document = """mutation ($input: UpdateResourceInput!) {
            updateResource(input: $input) { resource { id name kind data } } }"""
        answer = self.ask(user, document, {"input": {"id": Named(key), "name": name}})
        assert answer.code == self.model.changing(user, key)
        if answer.code is None:
            self.model.resources[key] = replace(self.model.resources[key], name=name)

    @rule(user=someone, key=resources)
    def delete_resource(self, user: User, key: str) -> None:
        document = "mutation ($input: DeleteResourceInput!) { deleteResource(input: $input) { deletedId } }"
        answer = self.ask(user, document, {"input": {"id": Named(key)}})
        assert answer.code == self.model.changing(user, key)
        if answer.code is None:
            self.model.resources[key] = replace(self.model.resources[key], live=False)
            for share, each in self.model.shares.items():
                if each.resource == key:
                    self.model.shares[share] = replace(each, live=False)

    @rule(target=partnerships, user=someone, slug=st.sampled_from([*LETTERS, "nobody"]))
    def offer(self, user: User, slug: str) -> Any:
        key = self.fresh("partnership")
        document = """mutation ($input: OfferPartnershipInput!) { offerPartnership(input: $input) { partnership {
            id slug name } } }"""
        answer = self.ask(user, document, {"input": {"slug": slug}}, (key, "partnership"))
        refusal = None if user.role in MANAGERS else "FORBIDDEN"
        if refusal is None and slug == user.tenant:
            refusal = "BAD_USER_INPUT"
        if refusal is None and self.model.partnership(user.tenant, slug):
            refusal = "CONFLICT"
        assert answer.code == refusal
        if refusal:
            return multiple()
        partnership = answer.body["data"]["offerPartnership"]["partnership"]
        key = partnership["id"]
        self.model.offers[key] = user.tenant, slug
        if (slug, user.tenant) in self.model.offers.values():
            self.model.agree(key)
        assert (partnership["name"] is not None) == (key in self.model.partners)
        return key

    @rule(user=someone, key=partnerships, way=st.sampled_from(["accept", "accept", "decline", "end"]))
    def answer(self, user: User, key: str, way: str) -> None:
        document = f"""mutation ($input: {way.title()}PartnershipInput!) {{
            {way}Partnership(input: $input) {{ __typename }} }}"""
        answer = self.ask(user, document, {"input": {"partnershipId": Named(key)}})
        offerer, offered = self.model.offers.get(key, (None, None))
        mine = {"accept": offered, "decline": offered, "end": offerer}[way] == user.tenant
        if way == "end":
            mine = mine or user.tenant in self.model.partners.get(key, ())
        refusal = None if user.role in MANAGERS else "FORBIDDEN"
        if refusal is None and not mine:
            refusal = "NOT_FOUND"
        assert answer.code == refusal
        if refusal is None and way == "accept":
            self.model.agree(key)
        if refusal is None and way == "end":
            self.model.offers.pop(key, None)
            self.model.partners.pop(key, None)

    @rule(target=shares, user=someone, key=resources, grantee=st.sampled_from([*LETTERS, "nobody"]), fields=chosen)
    def share(self, user: User, key: str, grantee: str, fields: frozenset[str]) -> Any:
        share = self.fresh("share")
        document = """mutation ($input: ShareResourceInput!) { shareResource(input: $input) { share {
            id resourceId grantee { slug } grantedBy { id } resource { name shares { totalCount } } } } }"""
        given = {"resourceId": Named(key), "grantee": grantee, "fields": sorted(fields)}
        answer = self.ask(user, document, {"input": given}, (share, "share"))
        refusal = "FORBIDDEN" if user.role is Role.VIEWER else self.model.changing(user, key)
        partnership = self.model.partnership(user.tenant, grantee)
        if refusal is None and partnership is None:
            refusal = "BAD_USER_INPUT"
        same = [each for each in self.model.shares.values() if (each.resource, each.grantee) == (key, grantee)]
        if refusal is None and any(self.model.lasts(each) for each in same):
            refusal = "CONFLICT"
        assert answer.code == refusal
        if refusal or partnership is None:
            return multiple()
        made = answer.body["data"]["shareResource"]["share"]["id"]
        self.model.shares[made] = Share(key, grantee, self.made, partnership, fields)
        return made

    @rule(user=someone, key=shares, fields=chosen | st.none())
    def change_share(self, user: User, key: str, fields: frozenset[str] | None) -> None:
        share = self.model.shares[key]
        document = "mutation ($input: ChangeShareInput!) { changeShare(input: $input) { share { id fields } } }"
        given = {"shareId": Named(key), "note": "a note", **({} if fields is None else {"fields": sorted(fields)})}
        answer = self.ask(user, document, {"input": given})
        if user.role is Role.VIEWER:
            refusal: str | None = "FORBIDDEN"
        else:
            refusal = self.model.changing(user, share.resource) if self.model.lasts(share) else "NOT_FOUND"
        assert answer.code == refusal
        if refusal is None:
            self.model.shares[key] = share = replace(share, fields=share.fields if fields is None else fields)
            assert set(answer.body["data"]["changeShare"]["share"]["fields"]) == share.fields

    @rule(user=someone, key=shares)
    def revoke(self, user: User, key: str) -> None:
        share = self.model.shares[key]
        document = "mutation ($input: RevokeShareInput!) { revokeShare(input: $input) { revokedId } }"
        answer = self.ask(user, document, {"input": {"shareId": Named(key)}})
        if user.role is Role.VIEWER:
            refusal: str | None = "FORBIDDEN"
        else:
            refusal = self.model.changing(user, share.resource) if self.model.lasts(share) else "NOT_FOUND"
        assert answer.code == refusal
        if refusal is None:
            self.model.shares[key] = replace(share, live=False)

    @rule(target=organizations, user=someone, name=names)
    def create_organization(self, user: User, name: str) -> Any:
        key = self.fresh("organization")
        document = """mutation ($input: CreateOrganizationInput!) {
            createOrganization(input: $input) { organization { id name members { totalCount } } } }"""
        answer = self.ask(user, document, {"input": {"name": name}}, (key, "organization"))
        refusal = None if user.role in MANAGERS else "FORBIDDEN"
        taken = {(tenant, other.casefold()) for tenant, other in self.model.organizations.values()}
        if refusal is None and (user.tenant, name.casefold()) in taken:
            refusal = "CONFLICT"
        assert answer.code == refusal
        if refusal:
            return multiple()
        self.model.organizations[key] = user.tenant, name
        return key

    @rule(user=someone, key=organizations, whom=someone, leaves=st.booleans())
    def change_membership(self, user: User, key: str, whom: User, leaves: bool) -> None:  # noqa: FBT001  drawn by hypothesis
        name, kind = ("removeMember", "RemoveMemberInput") if leaves else ("addMember", "AddMemberInput")
        document = f"""mutation ($input: {kind}!) {{ {name}(input: $input) {{
            organization {{ name members {{ totalCount nodes {{ id }} }} }}
            user {{ organizations {{ totalCount }} }} }} }}"""
        given = {"organizationId": Named(key), "userId": Named(str(whom))}
        answer = self.ask(user, document, {"input": given})
        here = self.model.organizations[key][0] == user.tenant == whom.tenant
        refusal = None if user.role in MANAGERS else "FORBIDDEN"
        if refusal is None and (not here or (leaves and (key, whom) not in self.model.members)):
            refusal = "NOT_FOUND"
        if refusal is None and not leaves and (key, whom) in self.model.members:
            refusal = "CONFLICT"
        assert answer.code == refusal
        if refusal is None:
            (self.model.members.discard if leaves else self.model.members.add)((key, whom))

    @rule(
        target=spans,
        user=someone,
        visibility=st.sampled_from(["PRIVATE", "ORGANIZATION", "PUBLIC"]),
        resource=st.none() | resources,
        organization=st.none() | organizations,
    )
    def create_span(self, user: User, visibility: str, resource: str | None, organization: str | None) -> Any:
        key = self.fresh("span")
        document = """mutation ($input: CreateSpanInput!) { createSpan(input: $input) {
            span { id title visibility author { id } resource { id } organization { id } } } }"""
        given: dict[str, Any] = {"title": key, "visibility": visibility}
        given |= {"resourceId": Named(resource)} if resource else {}
        given |= {"organizationId": Named(organization)} if organization else {}
        answer = self.ask(user, document, {"input": given}, (key, "span"))
        refusal = None
        if user.role is Role.VIEWER:
            refusal = "FORBIDDEN"
        elif visibility == "ORGANIZATION" and not organization:
            refusal = "BAD_USER_INPUT"
        elif organization and (organization, user) not in self.model.members:
            refusal = "FORBIDDEN"
        elif resource and resource not in self.model.own(user):
            refusal = "NOT_FOUND"
        assert answer.code == refusal
        if refusal:
            return multiple()
        self.model.spans[key] = Span(user.tenant, user, visibility, organization, self.made)
        return key

    @rule(user=someone)
    def read_everything(self, user: User) -> None:
        answer = self.ask(
            user,
            """{ resources(first: 100) { totalCount nodes { id name kind sizeBytes owner { id } } }
                timeline(first: 100) { totalCount edges { cursor node { id title visibility author { name } } } }
                sharedWithMe(first: 100) { totalCount nodes { id owner { slug } resource { grantedFields name data } } }
                myShares(first: 100, filter: {not: {grantedAt: {isNull: true}}}) { totalCount nodes { id } }
                organizations(first: 100) { totalCount nodes { id name members { nodes { id } } } }
                users(first: 100) { totalCount nodes { id } } }""",
            {},
        )
        data = answer.body["data"]
        own, timeline, received = self.model.own(user), self.model.timeline(user), self.model.received(user)
        assert [(node["id"], node["name"]) for node in data["resources"]["nodes"]] == [
            (key, self.model.resources[key].name) for key in own
        ]
        assert [edge["node"]["id"] for edge in data["timeline"]["edges"]] == timeline
        shared = [self.model.resources[self.model.shares[key].resource] for key in received]
        assert [(n["id"], n["owner"]["slug"], n["resource"]["name"]) for n in data["sharedWithMe"]["nodes"]] == [
            (key, each.tenant, each.name if "NAME" in self.model.shares[key].fields else None)
            for key, each in zip(received, shared, strict=True)
        ]
        granted = [set(each["resource"]["grantedFields"]) for each in data["sharedWithMe"]["nodes"]]
        assert granted == [self.model.shares[key].fields for key in received]
        if user.role in MANAGERS:
            assert {each["id"] for each in data["myShares"]["nodes"]} == self.model.granted(user)
        assert {node["id"] for node in data["organizations"]["nodes"]} == {
            key for key, (tenant, _) in self.model.organizations.items() if tenant == user.tenant
        }
        for node in data["organizations"]["nodes"]:
            members = {str(member) for key, member in self.model.members if key == node["id"]}
            assert {member["id"] for member in node["members"]["nodes"]} == members
        assert [node["id"] for node in data["users"]["nodes"]] == [
            str(each) for each in USERS if each.tenant == user.tenant
        ]
        assert [data[name]["totalCount"] for name in ("resources", "timeline", "sharedWithMe", "users")] == [
            len(own),
            len(timeline),
            len(received),
            len(Role),
        ]

    @rule(
        user=someone,
        text=names | st.just(""),
        comparison=st.sampled_from(["eq", "contains", "startsWith", "gt", "lte"]),
        size=st.integers(0, 3),
        way=st.sampled_from(["first", "last"]),
    )
    def search(self, user: User, text: str, comparison: str, size: int, way: str) -> None:
        document = f"""query ($filter: ResourceFilter, $size: Int) {{
            resources({way}: $size, filter: $filter, orderBy: [{{field: NAME, direction: DESC}}]) {{
                totalCount edges {{ cursor node {{ id name spans {{ totalCount }} shares {{ totalCount }} }} }}
                pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"""
        answer = self.ask(user, document, {"filter": {"name": {comparison: text}}, "size": size})
        mine = [self.model.resources[key].name for key in self.model.own(user)]
        holds = {"eq": str.__eq__, "contains": str.__contains__, "startsWith": str.startswith}.get(comparison)
        if holds:
            found = sum(holds(name, text) for name in mine)
            assert answer.body["data"]["resources"]["totalCount"] == found

    @rule(user=someone, key=resources | shares | spans | organizations | st.sampled_from([str(each) for each in USERS]))
    def look_up(self, user: User, key: str) -> None:
        document = """query ($id: ID!) { node(id: $id) { __typename id } nodes(ids: [$id, $id]) { id }
            resource(id: $id) { id name } }"""
        answer = self.ask(user, document, {"id": Named(key)})
        seen = {*self.model.own(user), *self.model.timeline(user), *self.model.received(user)}
        seen |= {each for each, (tenant, _) in self.model.organizations.items() if tenant == user.tenant}
        seen |= {str(each) for each in USERS if each.tenant == user.tenant}
        expected = key if key in seen else None
        assert (answer.body["data"]["node"] or {}).get("id") == expected
        assert (answer.body["data"]["resource"] or {}).get("id") == (expected if key in self.model.resources else None)


@pytest.mark.timeout(3600)
def test_every_mix_of_strategies_gives_the_same_responses(
    cluster: Cluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with asyncio.Runner() as runner:
        held = laboratory(cluster, DEFAULTS.model_copy(update={"data_dir": tmp_path}))
        Life.laboratory = runner.run(held.__aenter__())
        Life.runner = runner
        try:
            run_state_machine_as_test(
                Life,
                settings=hypothesis_settings(
                    max_examples=LIVES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    derandomize=not CHOSEN,
                    # Shrinking a failure takes minutes: only done if the number of sequences was set.
                    phases=(Phase.generate, Phase.shrink) if CHOSEN else (Phase.generate,),
                    suppress_health_check=list(HealthCheck),
                ),
            )
            record_property("answers compared", Life.laboratory.asked)
            print(f"{LIVES} lives, {Life.laboratory.asked} requests on {len(Life.laboratory.mixes)} mixes")  # noqa: T201  shown by make stateful
        finally:
            runner.run(held.__aexit__(None, None, None))

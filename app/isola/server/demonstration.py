"""Tenants, people and data for the demo."""

import json
import random
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from zlib import crc32

from sqlalchemy import insert, select

from isola.database.transactions import Database
from isola.errors import Conflict
from isola.identity import passwords
from isola.identity.passwords import Person
from isola.identity.tokens import mint
from isola.installed import APPLICATIONS, SUBJECTS
from isola.pages.home import Trial
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola.subjects import organizations, partnerships, resources, roles, shares, values
from isola.subjects.actor import Actor
from isola.subjects.applications import BUILT_IN
from isola.subjects.declaration import Declaration
from isola.subjects.permissions import Permission, Role, of_role
from isola.subjects.rows import generate
from isola.subjects.spans import Span, Visibility
from isola.subjects.subject import Subject
from isola.subjects.table import pair_columns, pairs_table
from isola.subjects.work import Work
from isola_strategies.base import Strategy

RESOURCES = 300
ROWS = 30
"""Rows of each subject of the other applications."""
SHARED = 5
SETTING_UP = Actor(UUID(int=0), frozenset({Permission.SHARE_MANAGE}))
"""Whoever makes the tenants partners: no user of theirs."""
TOKEN_TTL = 24 * 3600.0
QUERY = """
{ viewer { tenant { name } user { name } }
  resources(first: 3) { totalCount nodes { name kind owner { name } } }
  sharedWithMe(first: 3) { nodes { owner { name } resource { name } } } }
"""


SIGN_IN = """
mutation ($input: SignInInput!) {
  signIn(input: $input) { session { accessToken accessTokenExpiresAt refreshToken } } }
"""


@dataclass(frozen=True, slots=True)
class Cast:
    """A tenant of the demo: its placement, its owner, and its partners."""

    slug: str
    name: str
    strategy: str
    owner: str
    shares_with: str | None


TENANTS = (
    Cast("acme", "Acme Corporation", "rls", "ada", "initech"),
    Cast("globex", "Globex", "schema", "grace", "initech"),
    Cast("initech", "Initech", "rls", "peter", "acme"),
)
PEOPLE = {
    "ada": "Ada Lovelace",
    "grace": "Grace Hopper",
    "peter": "Peter Gibbons",
    "alan": "Alan Turing",
    "edsger": "Edsger Dijkstra",
    "barbara": "Barbara Liskov",
}
GUEST, GUEST_NAME = "tim", "Tim Berners-Lee"
"""Can sign in to the first tenant, and is no user of it yet: to try invitations."""
PLACEMENTS = {
    "rls": "In tables that it shares with other tenants, under row-level security",
    "schema": "In a schema and with a role of its own",
}
KINDS = ("dataset", "report", "image", "model", None)
WORDS = ("amber", "basalt", "cobalt", "delta", "ember", "fjord", "granite", "harbor", "indigo", "juniper")


async def furnish(owner: Database, tenants: Database, strategies: Mapping[str, Strategy]) -> None:
    """Create and fill the tenants of the demo. Existing data stays unchanged."""
    for cast in TENANTS:
        try:
            await provisioning.create(owner, strategies, slug=cast.slug, name=cast.name, strategy=cast.strategy)
        except Conflict:
            continue
    tenants_by_slug = {tenant.slug: tenant for tenant in await provisioning.every(owner)}
    for cast in TENANTS:
        if cast.shares_with:
            await _introduce(tenants, tenants_by_slug[cast.slug], tenants_by_slug[cast.shares_with])
    for cast in TENANTS:
        await _fill(tenants, tenants_by_slug[cast.slug], cast)


async def _introduce(tenants: Database, one: Tenant, other: Tenant) -> None:
    """Make two tenants partners: an offer in return accepts the first."""
    for tenant, partner in ((one, other), (other, one)):
        with suppress(Conflict):
            async with tenants.transaction(tenant) as work:
                await partnerships.offer(work, SETTING_UP, partner.slug)


async def _fill(tenants: Database, tenant: Tenant, cast: Cast) -> None:
    """Fill a tenant in one transaction, so that it is either empty or complete."""
    # The demo is the same every time, and nothing about it is secret.
    chance = random.Random(cast.slug)  # noqa: S311  see above
    async with tenants.transaction(tenant) as work:
        if await work.scalar(resources.resources.select().limit(1)) is not None:
            return
        people = {
            subject: await _person(work, cast, subject, name)
            for subject, name in PEOPLE.items()
            if subject == cast.owner or subject not in {c.owner for c in TENANTS}
        }
        admin = Actor(people[cast.owner], of_role(Role.OWNER))
        made = await _resources(work, chance, list(people.values()))
        await _spans(work, chance, admin, list(people.values()), made)
        await _of_applications(work, cast.slug)
        if cast.shares_with:
            for resource in made[:SHARED]:
                await shares.grant(work, admin, "resource", resource, cast.shares_with)


async def _person(work: Work, cast: Cast, subject: str, name: str) -> UUID:
    role = Role.OWNER if subject == cast.owner else Role.EDITOR
    email = f"{subject}@{cast.slug}.example"
    return (await roles.admit(work, subject=subject, name=name, email=email, role=role)).user_id


async def _resources(work: Work, chance: random.Random, people: list[UUID]) -> list[UUID]:
    made = []
    for number in range(RESOURCES):
        values = {
            "name": f"{chance.choice(WORDS)}-{chance.choice(WORDS)}-{number:03}",
            "kind": chance.choice(KINDS),
            "data": {"tags": chance.sample(WORDS, 2), "score": round(chance.random(), 3)},
            "size_bytes": chance.randrange(10**9),
        }
        made.append(await resources.create(work, Actor(chance.choice(people), of_role(Role.OWNER)), **values))
    return made


async def _spans(work: Work, chance: random.Random, admin: Actor, people: list[UUID], made: list[UUID]) -> None:
    teams = [await organizations.create(work, admin, name=name) for name in ("Research", "Operations")]
    for team in teams:
        for person in people[:3]:
            await organizations.add_member(work, admin, team, person)
    for resource in made[:100]:
        for visibility in Visibility:
            await Span.create(
                work,
                Actor(chance.choice(people[:3]), of_role(Role.OWNER)),
                title=f"{chance.choice(('reviewed', 'measured', 'renamed', 'queried'))} {chance.choice(WORDS)}",
                payload={"seconds": round(chance.expovariate(0.2), 2)},
                visibility=visibility,
                resource=resource,
                organization=chance.choice(teams) if visibility is Visibility.ORGANIZATION else None,
            )


async def _of_applications(work: Work, seed: str) -> None:
    """Rows for the subjects of all applications except the built-in one."""
    keys: dict[str, Sequence[UUID]] = {}
    for subject in APPLICATIONS[BUILT_IN].subjects:
        tenants_by_slug = await work.rows(select(subject.table.c.id).order_by(subject.table.c.id).limit(ROWS))
        keys[subject.declaration.name] = [row["id"] for row in tenants_by_slug]
    theirs = [each for each in SUBJECTS if each.application != BUILT_IN]
    counts = {**{name: len(ids) for name, ids in keys.items()}, **{each.declaration.name: ROWS for each in theirs}}
    made = generate(theirs, counts, crc32(seed.encode()))
    for name, each in made.items():
        declaration = each.subject.declaration
        rows = [_stored(declaration, row, keys) for row in each.rows]
        # A row cannot exist without the rows that it must reference: of a cycle, the demo shows a part.
        whole = [row for row in rows if all(row[it.column] or it.annotation.optional for it in declaration.references)]
        keys[name] = await values.insert_all(work, declaration, whole)
    for name, each in made.items():
        for member in each.subject.declaration.pairs:
            near, far = pair_columns(each.subject.declaration, member)
            near_ids, far_ids = keys[name], keys[member.target.declaration.name]
            # Only what the transaction may see can be paired.
            visible = await _visible(work, each.subject) | await _visible(work, member.target)
            pairs = [
                {near: near_ids[one - 1], far: far_ids[other - 1]}
                for one, other in each.pairs[member.name]
                if one <= len(near_ids) and other <= len(far_ids) and {near_ids[one - 1], far_ids[other - 1]} <= visible
            ]
            if pairs:
                await work.execute(insert(pairs_table(each.subject.declaration, member)).values(pairs))


async def _visible(work: Work, subject: type[Subject]) -> set[UUID]:
    return {row["id"] for row in await work.rows(select(subject.table.c.id))}


def _stored(declaration: Declaration, row: Mapping[str, Any], keys: Mapping[str, Sequence[UUID]]) -> dict[str, Any]:
    """A generated row with the keys of the rows that it references, as far as they are known."""
    stored = dict(row)
    for member in declaration.references:
        ids, number = keys.get(member.target.declaration.name, ()), row[member.column]
        stored[member.column] = ids[number - 1] if number and number <= len(ids) else None
    return stored


def admit(settings: Settings) -> tuple[Settings, str]:
    """Let the owners and the guest sign in with a new password: the settings for that, and the password."""
    password = secrets.token_urlsafe(12)
    file = settings.data_dir / "people.json"
    stored = passwords.hashed(password)
    people = {
        cast.slug: {cast.owner: Person(password=stored, name=PEOPLE[cast.owner], role=Role.OWNER)} for cast in TENANTS
    }
    people[TENANTS[0].slug][GUEST] = Person(password=stored, name=GUEST_NAME)
    passwords.write(file, people)
    return settings.model_copy(update={"development_passwords": file}), password


def trials() -> Sequence[Trial]:
    """The tenants as the home page presents them."""
    names = {cast.slug: cast.name for cast in TENANTS}
    by = {cast.slug: [names[each.slug] for each in TENANTS if each.shares_with == cast.slug] for cast in TENANTS}
    return [
        Trial(
            cast.slug,
            cast.name,
            PLACEMENTS[cast.strategy],
            cast.owner,
            PEOPLE[cast.owner],
            (
                ("Viewer", "who you are here, and your permissions"),
                ("ResourcesWithSpans", "two levels of lists, one SQL statement"),
                ("CreateResource", "while another window follows ResourceChanges"),
                *([("SharedWithMe", f"what {' and '.join(by[cast.slug])} shared")] if by[cast.slug] else []),
            ),
        )
        for cast in TENANTS
    ]


def explain(settings: Settings, url: str, password: str) -> None:
    """Print a token and a command for each tenant, and a command to sign in, ready to paste."""
    for cast in TENANTS:
        token = mint(settings, cast.slug, cast.owner, Role.OWNER, TOKEN_TTL)
        body = json.dumps({"query": " ".join(QUERY.split())})
        print(f"\n{cast.name} ({cast.slug}, placed under {cast.strategy}), as {cast.owner}:\n{token}\n")
        print(f"curl -s {url} -H 'content-type: application/json' -H 'authorization: Bearer {token}' -d '{body}'")
    first = TENANTS[0]
    variables = {"tenant": first.slug, "login": first.owner, "password": password}
    body = json.dumps({"query": " ".join(SIGN_IN.split()), "variables": {"input": variables}})
    print(f"\nSigning in as {first.owner}, with the password that all three have until the demo ends:")
    print(f"curl -s {url} -H 'content-type: application/json' -d '{body}'")
    print(f"\n{GUEST} has the same password in {first.slug}, and is no user there yet: see docs/invitations.md\n")

"""The limit: an ASGI function with one SQL statement per operation. Only the form of its answers is GraphQL.

It has only the steps that every API on these tables needs: it verifies the token (once), binds the transaction to the
tenant, runs one statement that returns the answer, and commits. It has no parser, no error handling and no limits.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import asyncpg
import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from isola.lab.peers.tokens import Verifier

_OWNER = """
(SELECT concat('{"id":"usr_', u.id, '","name":', to_json(u.name)%s, '}')
 FROM users u WHERE u.tenant_id = r.tenant_id AND u.id = r.owner_id)
"""
OWNER = _OWNER % ""
OWNER_WITH_EMAIL = _OWNER % """, ',"email":', coalesce(to_json(u.email)::text, 'null')"""

RESOURCE = f"""
SELECT concat(
    '{{"id":"res_', r.id, '","name":', to_json(r.name), ',"kind":', coalesce(to_json(r.kind)::text, 'null'),
    ',"data":', r.data, ',"sizeBytes":', r.size_bytes, ',"createdAt":', to_json(r.created_at),
    ',"updatedAt":', to_json(r.updated_at), ',"owner":', {OWNER_WITH_EMAIL}, '}}'
)
FROM resources r WHERE r.tenant_id = isola.claimed_tenant_id() AND r.id = $1
"""

RESOURCES = f"""
SELECT concat(
    '{{"nodes":[', array_to_string((array_agg(node))[:50], ','),
    '],"pageInfo":{{"hasNextPage":', to_json(count(*) > 50),
    ',"endCursor":"', (array_agg(id))[least(count(*), 50)], '"}}}}'
)
FROM (
    SELECT r.id, concat(
        '{{"id":"res_', r.id, '","name":', to_json(r.name), ',"data":', r.data, ',"sizeBytes":', r.size_bytes,
        ',"createdAt":', to_json(r.created_at), ',"owner":', {OWNER}, '}}'
    ) AS node
    FROM resources r WHERE r.tenant_id = isola.claimed_tenant_id() ORDER BY r.id LIMIT 51
) page
"""

RESOURCES_WITH_SPANS = """
SELECT concat('{"nodes":[', string_agg(concat(
    '{"id":"res_', r.id, '","name":', to_json(r.name), ',"spans":{"nodes":[', (
        SELECT string_agg(concat(
            '{"id":"spn_', s.id, '","title":', to_json(s.title), ',"visibility":"', upper(s.visibility),
            '","createdAt":', to_json(s.created_at), ',"author":', (
                SELECT concat('{"id":"usr_', u.id, '","name":', to_json(u.name), '}')
                FROM users u WHERE u.tenant_id = s.tenant_id AND u.id = s.author_id
            ), '}'
        ), ',')
        FROM (
            SELECT * FROM spans s
            WHERE s.tenant_id = isola.claimed_tenant_id() AND s.resource_id = r.id AND (
                s.visibility = 'public' OR s.author_id = $1 OR s.visibility = 'organization' AND EXISTS (
                    SELECT FROM memberships m WHERE m.tenant_id = isola.claimed_tenant_id()
                    AND m.organization_id = s.organization_id AND m.user_id = $1
                )
            )
            ORDER BY s.created_at DESC, s.id DESC LIMIT 5
        ) s
    ), ']}}'
), ','), ']}')
FROM (SELECT * FROM resources WHERE tenant_id = isola.claimed_tenant_id() ORDER BY id LIMIT 20) r
"""

SEARCH = """
SELECT concat(
    '{"totalCount":', (SELECT count(*) FROM resources WHERE tenant_id = isola.claimed_tenant_id() AND kind = $1),
    ',"edges":[', array_to_string((array_agg(edge))[:20], ','), '],"pageInfo":{"hasNextPage":', to_json(count(*) > 20),
    ',"hasPreviousPage":false,"startCursor":"', (array_agg(key))[1], '","endCursor":"',
    (array_agg(key))[least(count(*), 20)], '"}}'
)
FROM (
    SELECT key, concat(
        '{"cursor":"', key, '","node":{"id":"res_', id, '","name":', to_json(name), ',"kind":', to_json(kind),
        ',"sizeBytes":', size_bytes, ',"updatedAt":', to_json(updated_at), '}}'
    ) AS edge
    FROM (
        SELECT *, translate(encode(convert_to(concat(name, ' ', id), 'UTF8'), 'base64'), E'\\n', '') AS key
        FROM resources r
        WHERE tenant_id = isola.claimed_tenant_id() AND kind = $1 ORDER BY name, id LIMIT 21
    ) r
) page
"""

CREATE = f"""
WITH r AS (
    INSERT INTO resources (owner_id, name, kind, data, size_bytes) VALUES ($1, $2, $3, $4, $5) RETURNING *
)
SELECT concat(
    '{{"resource":{{"id":"res_', r.id, '","name":', to_json(r.name), ',"kind":', to_json(r.kind), ',"data":', r.data,
    ',"sizeBytes":', r.size_bytes, ',"createdAt":', to_json(r.created_at), ',"owner":', {OWNER}, '}}}}'
)
FROM r
"""

Values = Callable[[str, dict[str, Any]], tuple[object, ...]]


def _created(user: str, given: dict[str, Any]) -> tuple[object, ...]:
    made = given["input"]
    return user, made["name"], made["kind"], json.dumps(made["data"]), made["sizeBytes"]


# For each operation: its BEGIN, the field, the statement, and its parameters from user and variables.
OPERATIONS: dict[str, tuple[str, str, str, Values]] = {
    "Resource": ("BEGIN READ ONLY", "resource", RESOURCE, lambda _, given: (given["id"][4:],)),
    "Resources": ("BEGIN READ ONLY", "resources", RESOURCES, lambda *_: ()),
    "ResourcesWithSpans": ("BEGIN READ ONLY", "resources", RESOURCES_WITH_SPANS, lambda user, _: (user,)),
    "SearchResources": ("BEGIN READ ONLY", "resources", SEARCH, lambda _, given: (given["filter"]["kind"]["eq"],)),
    "CreateResource": ("BEGIN", "createResource", CREATE, _created),
}


def application(pool: asyncpg.Pool, verifier: Verifier) -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        claims = verifier.claims(headers[b"authorization"].decode())
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message.get("more_body", False)
        asked = json.loads(body)
        begin, field, statement, values = OPERATIONS[asked["operationName"]]
        async with pool.acquire() as connection:
            await connection.execute(
                f"{begin}; SET LOCAL search_path TO rls; SET LOCAL isola.tenant TO '{claims['tenant']}'; "
                # The database creates the proof: see visitor.sql.
                f"SELECT set_config('isola.proof', isola.proof('{claims['tenant']}'), true)"
            )
            text = await connection.fetchval(statement, *values(claims["sub"], asked["variables"]))
            await connection.execute("COMMIT")
        answer = f'{{"data":{{"{field}":{text or "null"}}}}}'.encode()
        length = str(len(answer)).encode()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/json"), (b"content-length", length)],
            }
        )
        await send({"type": "http.response.body", "body": answer})

    return application


async def _nothing(connection: asyncpg.Connection) -> None:
    """A pool reset that does nothing: all settings of a request end with its transaction."""


async def serve() -> None:
    async with asyncpg.create_pool(
        os.environ["PEER_TENANT_URL"], min_size=0, max_size=int(os.environ["PEER_POOL"]), reset=_nothing
    ) as pool:
        config = uvicorn.Config(
            application(pool, Verifier(os.environ["PEER_SECRET"])),
            port=int(os.environ["PEER_PORT"]),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
        )
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(serve())

"""A request with two tokens is rejected, in either order: there is no rule of which one counts."""

import json

from isola.testing.served import Client


async def test_two_tokens_are_refused(alice: Client, bob: Client) -> None:
    body = json.dumps({"query": "{ viewer { tenant { slug } } }"})
    mine, theirs = (client.headers["authorization"] for client in (alice, bob))
    for pair in ((mine, theirs), (theirs, mine), (mine, mine)):
        headers = [("content-type", "application/json"), *(("authorization", token) for token in pair)]
        response = await alice.http.post("/graphql", content=body, headers=headers)
        assert response.status_code == 401
        assert "data" not in response.json()

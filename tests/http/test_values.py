"""Values survive a round trip: JSON numbers keep their digits, timestamps have six digits."""

import json
import re
from collections.abc import Callable

import pytest

from isola.testing.served import Client

# PostgreSQL writes no exponents.
WRITTEN = {
    "12345678901234567.89": "12345678901234567.89",
    "1.10": "1.10",
    "1" + "0" * 29 + "1": "1" + "0" * 29 + "1",
    "0.1": "0.1",
    "-7": "-7",
    "1e-90": "0." + "0" * 89 + "1",
    "1E5": "100000",
    "0.0": "0.0",
    "5.000": "5.000",
}
REFUSED = ["1e400", "1e-400", "1e101", "-0.0", "-0", "-0.00e5", "9" * 101, "1e9999999999999999999"]
CREATE = """mutation ($data: JSON!) {
    createResource(input: {name: "numbers", data: $data}) { resource { id data createdAt } }
}"""


def by_variable(number: str) -> str:
    return f'{{"query": {json.dumps(CREATE)}, "variables": {{"data": [{number}]}}}}'


def by_literal(number: str) -> str:
    document = CREATE.replace("mutation ($data: JSON!)", "mutation").replace("$data", f"[{number}]")
    return f'{{"query": {json.dumps(document)}}}'


@pytest.mark.parametrize("asked", [by_variable, by_literal])
@pytest.mark.parametrize("number", WRITTEN)
async def test_numbers_keep_their_digits(number: str, asked: Callable[[str], str], alice: Client) -> None:
    made = await alice.send(asked(number))
    kept = f'"data":[{WRITTEN[number]}]'
    assert kept in made.response.text
    key = made.data["createResource"]["resource"]["id"]
    read = await alice.ask("query ($id: ID!) { resource(id: $id) { data } }", {"id": key})
    assert kept in read.response.text


@pytest.mark.parametrize("asked", [by_variable, by_literal])
@pytest.mark.parametrize("number", REFUSED)
async def test_numbers_that_cannot_be_kept_are_refused(number: str, asked: Callable[[str], str], alice: Client) -> None:
    before = (await alice.ask("{ resources { totalCount } }")).data
    refused = await alice.send(asked(number))
    assert refused.code == "BAD_USER_INPUT"
    assert (await alice.ask("{ resources { totalCount } }")).data == before


async def test_moments_have_six_digits(alice: Client) -> None:
    for _ in range(20):
        made = await alice.ask(CREATE, {"data": {}})
        written = made.data["createResource"]["resource"]["createdAt"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", written)

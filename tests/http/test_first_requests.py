"""The requests of docs/requests.md work as they stand, one after the other."""

import json
import re
from pathlib import Path
from typing import Any

from isola.testing.served import Client

PAGE = (Path(__file__).parents[2] / "docs" / "requests.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```graphql\n(.*?)```", PAGE, re.DOTALL)
[SHOWN] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


async def test_the_first_requests_work_as_they_stand(alice: Client) -> None:
    known: dict[str, Any] = {"cursor": None}
    answers = {}
    for document in BLOCKS:
        answer = await alice.ask(document, {name: known[name] for name in re.findall(r"\$(\w+):", document)})
        answers[document] = answer.body
        if "errors" in answer.body:
            assert json.loads(SHOWN) == answer.body
            continue
        for value in answer.data.values():
            if "cursor" in document:
                cursor = value["pageInfo"]["endCursor"]
                next_page = (await alice.ask(document, {"cursor": cursor})).data["resources"]
                assert len(next_page["nodes"]) == len(value["nodes"]) == 2
                assert not next_page["pageInfo"]["hasNextPage"]
            if made := value.get("resource"):
                known |= {"id": made["id"], "read": made["updatedAt"]}
    assert len(BLOCKS) == 12
    data = [answer["data"] for answer in answers.values()]
    assert data[2]["resources"]["totalCount"] == 2
    assert [node["name"] for node in data[3]["resources"]["nodes"]] == ["map a", "map c"]
    assert data[-2] == {"deleteResource": {"deletedId": known["id"]}}

"""``isola token``: the token is alone on the last line, and valid."""

import base64
import json

from tests.cli.processes import Place, finished


def claims(token: str) -> dict[str, object]:
    said: dict[str, object] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return said


def test_the_last_line_is_only_the_token(empty: Place) -> None:
    printed = empty.run("token", "--tenant", "acme", "--user", "ada", "--role", "admin", "--ttl", "60")

    *_, token = printed.splitlines()
    assert {"tenant": "acme", "sub": "ada", "role": "admin"}.items() <= claims(token).items()
    assert token.count(".") == 2


def test_in_production_there_are_no_tokens_for_development(empty: Place) -> None:
    assert "ISOLA_PRODUCTION" in empty.fail("token", "--tenant", "acme", "--user", "ada", ISOLA_PRODUCTION="true")


def test_a_role_that_is_none_is_wrong_usage(empty: Place) -> None:
    _, said, status = finished(empty.begin("token", "--tenant", "acme", "--user", "ada", "--role", "king"))

    assert status == 2
    assert "king" in said
    assert "viewer" in said

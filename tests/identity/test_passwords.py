"""The file of users who sign in with a password, for development."""

import json
from pathlib import Path
from typing import Any

import pytest

from isola.errors import OperatorError
from isola.identity import passwords
from isola.identity.passwords import Passwords, Person, hashed
from isola.subjects.permissions import Role
from tests.identity.conftest import MakeSettings

ADA = Person(password=hashed("secret"), name="Ada", role=Role.ADMIN)


async def test_a_person_is_identified_by_tenant_login_and_password() -> None:
    known = Passwords({"acme": {"ada": ADA}})
    assert await known.verify("acme", "ada", "secret") == ADA
    for wrong in (
        ("acme", "ada", "Secret"),
        ("acme", "ada", ""),
        ("acme", "bob", "secret"),
        ("globex", "ada", "secret"),
    ):
        assert await known.verify(*wrong) is None


def test_hashes_of_the_same_password_differ() -> None:
    assert hashed("secret") != hashed("secret")
    assert "secret" not in hashed("secret")


async def test_unknown_and_known_logins_take_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Passwords({"acme": {"ada": ADA}})
    worked: list[str] = []
    digest = passwords._digest

    def counted(password: str, salt: bytes) -> bytes:
        worked.append(password)
        return digest(password, salt)

    monkeypatch.setattr(passwords, "_digest", counted)
    for login in ("ada", "nobody"):
        worked.clear()
        assert await known.verify("acme", login, "wrong") is None
        assert worked == ["wrong"]


def test_a_written_file_can_be_read_only_by_its_owner(make_settings: MakeSettings, tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    passwords.write(file, {"acme": {"ada": ADA}})
    assert file.stat().st_mode & 0o777 == 0o600
    found = passwords.from_settings(make_settings(development_passwords=file))
    assert found is not None
    assert found._people == {"acme": {"ada": ADA}}
    assert passwords.from_settings(make_settings()) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        {"acme": []},
        {"acme": {"ada": "secret"}},
        {"acme": {"ada": {"password": "secret"}}},
        {"acme": {"ada": {"password": "scrypt$!$!"}}},
        {"acme": {"ada": {**ADA.model_dump(), "role": "emperor"}}},
        {"acme": {"key:ada": ADA.model_dump()}},
        {"acme": {"": ADA.model_dump()}},
    ],
    ids=lambda content: json.dumps(content)[:30],
)
def test_an_invalid_file_is_refused(make_settings: MakeSettings, tmp_path: Path, content: Any) -> None:
    file = tmp_path / "people.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(OperatorError, match="ISOLA_DEVELOPMENT_PASSWORDS") as refusal:
        passwords.from_settings(make_settings(development_passwords=file))
    assert "secret" not in refusal.value.message


def test_passwords_are_refused_in_production(make_settings: MakeSettings, tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    passwords.write(file, {})
    with pytest.raises(OperatorError, match="is for development"):
        passwords.from_settings(make_settings(development_passwords=file, production=True, token_key="s" * 32))
    with pytest.raises(OperatorError, match="cannot be read: No such file"):
        passwords.from_settings(make_settings(development_passwords=tmp_path / "nothing"))

"""docker-compose.yml, which Docker Compose itself has to take, and the image that it builds."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from isola.settings import Settings

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
KEY = {"ISOLA_TOKEN_KEY": "a secret of at least 32 bytes, so long"}
# These end: their exit status says what a health check would.
ENDING = {"migrate"}


def composed(file: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What Docker Compose makes of a file: merged, interpolated and validated. That needs no engine.

    Skips the test where it is not installed, but on CI it must be.
    """
    program = shutil.which("docker-compose")
    if program is None:
        reason = "the program docker-compose is missing: expected Debian's package of that name"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ISOLA_", "COMPOSE_"))}
    command = [program, "--file", str(file), "config"]
    return subprocess.run(command, check=False, env={**kept, **environment}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def services() -> Mapping[str, Any]:
    # From the file: what Docker Compose prints of it differs from version to version.
    found: Mapping[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    return found


def test_docker_compose_takes_it() -> None:
    read = composed(FILE, KEY)
    assert read.returncode == 0, read.stderr


def test_without_a_key_for_tokens_nothing_is_composed() -> None:
    read = composed(FILE, {})
    assert read.returncode != 0
    assert "expected a secret of at least 32 bytes" in read.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("read_only: true", "readonly: true"), ("service_healthy", "healthy"), ("<<: *logins", "<<: *x")],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, right: str, wrong: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert right in text
    file = tmp_path / FILE.name
    file.write_text(text.replace(right, wrong), encoding="utf-8")
    assert composed(file, KEY).returncode != 0


def test_no_container_can_write_to_its_root_or_gain_rights(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "pid", "network_mode"} & service.keys(), name
        # Ours says who it runs as in its image.
        assert "build" in service or service["user"] not in {"root", "0"}, name


def test_each_container_that_stays_says_whether_it_is_well(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        check = service.get("healthcheck")
        if name in ENDING:
            assert check == {"disable": True}, name
        elif name != "api":  # which has that of the image
            assert check["test"][0] == "CMD", name
        for other, condition in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ENDING else "service_healthy"
            assert condition["condition"] == expected, name


def test_what_the_containers_are_set_to_are_settings(services: Mapping[str, Any]) -> None:
    given = {name for service in services.values() for name in service.get("environment", {})}
    ours = {name.removeprefix("ISOLA_").lower() for name in given if name.startswith("ISOLA_")}
    assert {"tenant_url", "control_url", "database_url", "token_key"} <= ours <= Settings.model_fields.keys()


def test_only_the_api_is_reached_from_outside_and_only_from_this_machine(services: Mapping[str, Any]) -> None:
    assert {name for name, service in services.items() if "ports" in service} == {"api"}
    assert [port.split(":")[0] for port in services["api"]["ports"]] == ["127.0.0.1"]
    # Who serves strangers does not know the owner.
    assert "ISOLA_DATABASE_URL" not in services["api"]["environment"]


def test_the_image_is_not_roots_and_has_a_health_check() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert int(users[-1]) > 0
    assert [line for line in lines if line.startswith("HEALTHCHECK ")]
    assert lines[-2:] == ['ENTRYPOINT ["isola"]', 'CMD ["serve"]']


def test_what_the_image_is_made_of_is_sent_to_its_builder() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {source for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for source in line.split()[:-1]}
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert copied == set(sent)
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_distribution_says_and_holds_its_licence() -> None:
    described = metadata("isola")
    assert described["License-Expression"] == "Apache-2.0"
    assert described.get_all("License-File") == ["LICENSE"]
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text(encoding="utf-8")

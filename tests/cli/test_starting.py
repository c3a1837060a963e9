"""Reasons why a server does not start, and their messages."""

import socket

import pytest
from sqlalchemy import make_url

from isola.testing.fixtures import Copy
from tests.cli.processes import Place


def test_a_port_in_use_is_reported_in_one_line_before_anything_starts(empty: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        complaint = empty.fail("demo", ISOLA_PORT=port)

    assert f"ISOLA_PORT {port}: Address already in use" in complaint
    assert not empty.data_dir.exists()


@pytest.mark.parametrize("login", ["owner", "control"])
async def test_a_login_that_could_bypass_isolation_is_refused(empty: Place, copy: Copy, login: str) -> None:
    dangerous = copy.where.owner if login == "owner" else copy.where.control
    assert dangerous
    # The control plane with another login, because the same login for both is rejected for that reason.
    control = make_url(copy.where.control).set(username="isola_tenant").render_as_string(hide_password=False)

    complaint = empty.fail("serve", ISOLA_TENANT_URL=dangerous, ISOLA_CONTROL_URL=control)

    assert "could bypass isolation" in complaint

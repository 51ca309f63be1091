"""The App of FiftyOne: a server that shows a dataset in the browser until it is told to end."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from urllib.parse import quote

from dfine_cli.errors import DfineError, UsageError
from dfine_cli.visualize.fiftyone_bridge import Bridged

LOCAL = "127.0.0.1"
ANYWHERE = ("0.0.0.0", "::")


def choose_address(fiftyone: ModuleType, port: int | None) -> tuple[str, int]:
    """Where the App is to listen: as the user has configured FiftyOne, else on this machine only.

    Raises:
        UsageError: Something listens there already; FiftyOne would take it for its own.
    """
    address = fiftyone.config.default_app_address or LOCAL
    chosen = port or fiftyone.config.default_app_port
    require_free(address, chosen)
    return address, chosen


def is_local(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return address in (LOCAL, "localhost", "::1")


def require_free(address: str, port: int) -> None:
    """See that nothing listens on a port.

    Raises:
        UsageError: Something does, or it may not be used.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise UsageError(
            f"port {port} cannot be used: {error.strerror}", f"choose another with --port, such as {port + 1}"
        ) from error


@contextmanager
def app(fiftyone: ModuleType, made: Bridged, address: str, port: int, remote: bool) -> Iterator[str]:
    """Run the App on a dataset and open a browser; gives its address, and ends it afterwards.

    Args:
        fiftyone: The module, connected.
        made: The dataset, and the view to begin with.
        address: Where it listens.
        port: Which must be free.
        remote: Open no browser: it is on another machine.

    Raises:
        DfineError: It does not start.
    """
    from fiftyone.core.service import ServerService, ServiceException

    page = page_of(fiftyone, made, address, port)
    try:
        # Without a `Session`, which is for those who steer the App from Python: the page says all there is to show.
        server = ServerService(port, address=address, do_not_track=fiftyone.config.do_not_track)
    except (OSError, ServiceException) as error:
        raise DfineError(f"FiftyOne's App does not start: {error}", "try another --port") from error
    try:
        if not remote:
            webbrowser.open(page, new=2)
        yield page
    finally:
        server.stop()


def page_of(fiftyone: ModuleType, made: Bridged, address: str, port: int) -> str:
    """What to type into a browser; a wildcard address is that of this machine."""
    host = "localhost" if is_local(address) else socket.gethostname() if address in ANYWHERE else address
    page = f"http://{host}:{port}/datasets/{quote(made.dataset.name)}"
    if made.first_view is None:
        return page
    return f"{page}?view={quote(fiftyone.core.utils.to_slug(made.first_view))}"

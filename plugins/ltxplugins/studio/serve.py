"""Listen on an address, and serve the studio there until the user stops it."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

import click
import uvicorn

from ltxcore.api import ConfigError
from ltxplugins.studio.app import make_app
from ltxplugins.studio.safety import Admission
from ltxplugins.studio.workspace import Workspace


def serve(folder: Path, host: str, port: int, names: Sequence[str] = (), token: str | None = None) -> None:
    """Serve the studio until Ctrl-C.

    Args:
        folder: the folder that the studio may read and write.
        host: the address to listen on.
        port: the port; 0 for any free port.
        names: names by which browsers reach this machine, other than its own name, "localhost" and addresses.
        token: the token that admits a browser; None to make a new one.

    Raises:
        ConfigError: the server cannot listen on the address.
    """
    listening = _listen(host, port)
    taken = listening.getsockname()[1]
    beyond = not is_loopback(host)
    own = {socket.gethostname()} if beyond else set()
    admission = Admission(token or secrets.token_urlsafe(24), taken, frozenset({*names, *own}), beyond)
    server = uvicorn.Server(uvicorn.Config(make_app(Workspace(folder), admission), log_level="warning", server_header=False))
    click.echo(f"Open http://{_in_address(host)}:{taken}/?token={admission.token}")
    click.echo("Ctrl-C ends this server. Runs that it started go on.")
    server.run([listening])


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)
    except OSError as error:
        remedy = "Give another --port (0 takes a free one), or another --host."
        raise ConfigError(f"cannot listen on {host} at port {port}: {error.strerror or error}", remedy=remedy) from error


def _in_address(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host

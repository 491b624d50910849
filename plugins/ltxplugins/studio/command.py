"""The command `ltx studio`, which serves the studio to a browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ltxcore.api import ConfigError
from ltxcore.api.commands import FilePath

TOKEN = "LTX_STUDIO_TOKEN"
SHORTEST = 16
"""The minimum number of characters in a token that the user chooses."""


@click.command()
@click.argument("folder", type=FilePath(exists=True, file_okay=False), default=Path())
@click.option("--port", type=click.IntRange(0, 65535), default=8420, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. With any address other than 127.0.0.1, other machines that know the token can connect too.",
)
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="Name by which browsers reach this machine with --host; may be repeated."
)
def studio(folder: Path, port: int, host: str, names: tuple[str, ...]) -> None:
    """Serve a page on this machine that shows data and runs, edits run files, compares and generates samples, and exports LoRAs.

    FOLDER is the folder that the page may read and write; by default the current one. Open the address that is printed: it contains a token
    that gives your browser access. The token is new each time, unless the environment variable LTX_STUDIO_TOKEN sets it.

    Runs continue after the page is closed, and after this command ends.
    """
    if sys.platform == "win32":
        raise ConfigError(
            "`ltx studio` runs on Linux and macOS", remedy="On Windows, start it in WSL, and open its address in any browser."
        )
    token = os.environ.get(TOKEN)
    if token is not None and len(token) < SHORTEST:
        raise ConfigError(
            f"{TOKEN} has fewer than {SHORTEST} characters", remedy="Choose a longer token, or unset the variable to use a random one."
        )
    try:
        from ltxplugins.studio.serve import serve
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("jinja2", "starlette", "tomlkit", "uvicorn"):
            raise
        raise ConfigError(
            f"`ltx studio` needs the package {error.name}, which is not installed", remedy='Run `pip install "ltx[studio]"`.'
        ) from error
    serve(folder, host, port, names, token)

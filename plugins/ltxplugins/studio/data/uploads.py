"""Files that the user drops on the page: each is written whole or not at all, and none replaces another unless the user says so."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from ltxcore.api import DataError
from ltxcore.api.sources import kind_of
from ltxplugins.studio.arriving import arriving
from ltxplugins.studio.workspace import Workspace

TEXTS = (".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet")
"""The endings of captions and dataset files."""


def place_of(workspace: Workspace, folder: str, name: str) -> Path:
    """Return where a dropped file belongs.

    Args:
        workspace: the opened folder.
        folder: the folder to write to; "" for the opened folder itself.
        name: the path of the file below it, as the browser gives it.

    Raises:
        DataError: the place is outside the opened folder or hidden, or the file is neither media, captions nor a dataset file.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    if not parts or any(part.startswith(".") for part in parts):
        raise DataError(f"{name} is hidden, so it is not accepted", remedy="Give it a name that does not begin with a dot.")
    path = workspace.path(f"{folder or '.'}/{'/'.join(parts)}")
    if kind_of(path.name) is None and path.suffix.lower() not in TEXTS:
        raise DataError(f"{name} is neither a clip, picture or sound nor captions or a dataset file", remedy="Leave it out.")
    return path


def received(workspace: Workspace) -> Callable[[Request], object]:
    """Return the handler that writes the body of a request to a file."""

    async def receive(request: Request) -> Response:
        asked = request.query_params
        try:
            path = await run_in_threadpool(place_of, workspace, asked.get("folder", ""), asked.get("name", ""))
        except DataError as error:
            return PlainTextResponse(str(error), 422)
        replaces = asked.get("replace") == "1"
        try:
            if not replaces and path.exists():
                return PlainTextResponse(f"{asked.get('name', '')} is there already.", 409)
            return await _write(request.stream(), path, int(request.headers.get("content-length", "0")), replaces=replaces)
        except OSError as error:
            remedy = "Free some space, give the file another name, or open another folder."
            return PlainTextResponse(f"{path.name} cannot be written: {error.strerror}. {remedy}", 507)

    return receive


async def _write(body: AsyncIterator[bytes], path: Path, size: int, *, replaces: bool) -> Response:
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < size:
        return PlainTextResponse(f"The disk has no room for {path.name}. Free some space.", 507)
    try:
        async with arriving(body, path.parent) as beside:
            if replaces:
                beside.replace(path)
            else:
                _link(beside, path)
    except ClientDisconnect:
        return PlainTextResponse("The file did not arrive whole.", 400)
    except FileExistsError:
        return PlainTextResponse(f"{path.name} is there already.", 409)
    return PlainTextResponse("", 201)


def _link(beside: Path, path: Path) -> None:
    """Give a file that was written a name that no file has.

    Raises:
        FileExistsError: another file came meanwhile.
        OSError: the file cannot be written.
    """
    try:
        path.hardlink_to(beside)
    except FileExistsError:
        raise
    except OSError:  # the file system has no hard links
        if path.exists():
            raise FileExistsError from None
        beside.replace(path)

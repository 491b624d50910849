"""Everything that the screens of the studio share: the workspace, the jobs, and the functions that make responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute

from ltxcore.api import DataError
from ltxplugins.studio.jobs import Jobs
from ltxplugins.studio.workspace import Workspace

Fields = Mapping[str, Sequence[str]]
"""The fields of a form, each with all of its values."""

MOST_TEXT = 8 * 2**20
"""The maximum number of bytes in a form."""
PLAYED = frozenset({".mp4", ".webm", ".mov", ".mkv", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".wav", ".mp3", ".flac", ".ogg", ".m4a"})
"""The endings of files that are shown as they are. None of them is a page or a script, which would act in the studio's name."""


@attrs.frozen
class Screen:
    """A screen of the studio.

    Attributes:
        name: the first part of the screen's addresses, and the name of its template, style sheet and script.
        title: the title in the navigation.
        routes: a function that makes the screen's routes; their paths begin with "/" and the name.
    """

    name: str
    title: str
    routes: Callable[[Studio], Sequence[BaseRoute]]


class Studio:
    """The objects that the screens share.

    Attributes:
        workspace: the folder that was opened.
        jobs: the jobs of that folder.
    """

    def __init__(self, workspace: Workspace, screens: Sequence[Screen]) -> None:
        self.workspace, self.screens = workspace, screens
        self.jobs = Jobs(workspace.state / "jobs", workspace.root)
        self._templates = Environment(
            loader=PackageLoader("ltxplugins.studio"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )

    def text(self, template: str, **values: Any) -> Markup:
        """Return a template with its values filled in and escaped."""
        return Markup(self._templates.get_template(template).render(studio=self, **values))

    def answer(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page, or a part of one, made from a template."""
        return HTMLResponse(self.text(template, **values), status)


def one(fields: Fields, name: str, default: str | None = None) -> str:
    """Return the value of a field that occurs once in a form, with lines that end as they do in files.

    Args:
        fields: the fields of a form.
        name: the name of the field.
        default: the value if there is no such field.

    Raises:
        DataError: there is no such field, and no default.
    """
    value = next(iter(fields.get(name, ())), default)
    if value is None:
        raise DataError(f"the request has no field {name}", remedy="Reload the page.")
    return value.replace("\r\n", "\n").replace("\r", "\n")


def posted(action: Callable[[Request, Fields], Response]) -> Callable[[Request], Any]:
    """Return a handler that calls an action with every value of each field of a form. The action runs in a thread of its own."""

    async def handle(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MOST_TEXT:
                return HTMLResponse(f"A form holds at most {MOST_TEXT:,} bytes.", 413)
        return await run_in_threadpool(action, request, parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True))

    return handle


def show(path: Path) -> Response:
    """Return a media file as it is, in the parts that a player asks for.

    Raises:
        DataError: there is no such file, or it is not a media file.
    """
    if path.suffix.lower() not in PLAYED or not path.is_file():
        raise DataError(f"{path.name} is not a media file that can be shown", remedy="Reload the page: the file may have been moved.")
    return FileResponse(path)

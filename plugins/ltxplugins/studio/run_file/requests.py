"""What the routes of the run file share: answers for the editor's script."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ltxcore.api import LtxError
from ltxplugins.studio.studio import Fields, Studio

Action = Callable[[Request, Fields], Response]


def told(studio: Studio, action: Action) -> Action:
    """Return an action whose refusals are answers for the editor's script, which shows them beside the text."""

    def tell(request: Request, fields: Fields) -> Response:
        try:
            return action(request, fields)
        except LtxError as error:
            if "x-part" not in request.headers:
                raise
            return JSONResponse({"refused": studio.text("problems.html", problems=error.problems)})

    return tell


def address(name: str) -> str:
    """Return the address of a run file's editor."""
    return f"/run-file/edit?name={quote(name)}"

"""What the routes of the run file share: the fields of a request, and answers for the editor's script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ltxcore.api import DataError, LtxError
from ltxplugins.studio.studio import Studio

Fields = dict[str, list[str]]
Action = Callable[[Request, Fields], Response]


def one(fields: Mapping[str, Sequence[str]], name: str) -> str:
    """Return the value of a field.

    Raises:
        DataError: there is none.
    """
    try:
        return fields[name][0]
    except (KeyError, IndexError):
        raise DataError(f"the request has no field {name}", remedy="Reload the page.") from None


def text_in(fields: Mapping[str, Sequence[str]]) -> str:
    """Return the text of a run file in a request, with lines that end as they do in run files.

    Raises:
        DataError: there is none.
    """
    return one(fields, "text").replace("\r\n", "\n").replace("\r", "\n")


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

"""The screen of the run file."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ltxplugins.studio.studio import Screen, Studio


def routes(studio: Studio) -> Sequence[BaseRoute]:
    def page(request: Request) -> Response:
        return studio.answer("run-file.html")

    return [Route("/run-file", page)]


RUN_FILE = Screen("run-file", "Run file", routes)

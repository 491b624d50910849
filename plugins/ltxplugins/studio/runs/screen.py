"""The screen of the runs."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ltxplugins.studio.studio import Screen, Studio


def routes(studio: Studio) -> Sequence[BaseRoute]:
    def page(request: Request) -> Response:
        return studio.answer("runs.html")

    return [Route("/runs", page)]


RUNS = Screen("runs", "Runs", routes)

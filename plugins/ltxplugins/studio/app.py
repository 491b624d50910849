"""The studio as a web application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ltxcore.api import LtxError
from ltxplugins.studio.safety import Admission, Guard
from ltxplugins.studio.screens import SCREENS
from ltxplugins.studio.studio import Studio
from ltxplugins.studio.workspace import Workspace

logger = logging.getLogger("ltx.studio")

QUEUE_SECONDS = 0.5
"""The interval, in seconds, at which the server checks whether a waiting job may start."""


def make_app(workspace: Workspace, admission: Admission) -> Starlette:
    """Return the application that serves a workspace to those whom `admission` lets in."""
    studio = Studio(workspace, SCREENS)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        starting = asyncio.create_task(_start_waiting(studio))
        yield
        starting.cancel()

    def home(request: Request) -> Response:
        return RedirectResponse(f"/{studio.screens[0].name}", 303)

    def refused(request: Request, error: Exception) -> Response:
        template = "problems.html" if "x-part" in request.headers else "refused.html"
        return studio.answer(template, 422, problems=error.problems if isinstance(error, LtxError) else [])

    routes: list[BaseRoute] = [Route("/", home), Mount("/static", StaticFiles(packages=[("ltxplugins.studio", "static")]))]
    for screen in studio.screens:
        routes.extend(screen.routes(studio))
    app = Starlette(
        routes=routes, lifespan=lifespan, middleware=[Middleware(Guard, admission=admission)], exception_handlers={LtxError: refused}
    )
    app.state.studio = studio
    return app


async def _start_waiting(studio: Studio) -> None:
    said = ""
    while True:
        try:
            await run_in_threadpool(studio.jobs.start_next)
            said = ""
        except OSError as error:  # a full disk, or a folder that is away for a while: the queue goes on when it is back
            if said != (said := str(error)):
                logger.warning("waiting jobs cannot be started: %s; trying again", error)
        await asyncio.sleep(QUEUE_SECONDS)

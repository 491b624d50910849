"""The picture of the very next batch of a run, which `ltx inspect` draws."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ltxplugins.studio.jobs import Job
from ltxplugins.studio.run_file.files import RunFiles
from ltxplugins.studio.run_file.requests import told
from ltxplugins.studio.studio import Fields, Studio, one, posted, show


class NextBatch:
    """The routes of the next batch."""

    def __init__(self, studio: Studio, files: RunFiles) -> None:
        self._studio, self._files = studio, files

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/run-file/batch", self.last, methods=["GET"]),
            Route("/run-file/batch", posted(told(self._studio, self.draw)), methods=["POST"]),
            Route("/run-file/batch-stop", posted(told(self._studio, self.stop)), methods=["POST"]),
            Route("/run-file/picture", self.picture),
        ]

    def draw(self, request: Request, fields: Fields) -> Response:
        """Add the job that draws the next batch of a run file as it is saved."""
        name = one(fields, "name")
        path = self._files.path(name)
        for job in self._jobs(name):
            self._studio.jobs.stop(job)
        png = self._studio.workspace.own("run-file", "batches") / f"{time.time_ns():020}.png"
        about = {"run_file": name, "png": self._studio.workspace.name(png)}
        return self._shown(self._studio.jobs.add("inspect", f"Next batch of {name}", ["inspect", str(path), "--png", str(png)], about))

    def last(self, request: Request) -> Response:
        """Return the next batch as it was last drawn, or how far the drawing is."""
        jobs = self._jobs(request.query_params.get("name", ""))
        return self._shown(jobs[-1]) if jobs else JSONResponse({"html": "", "running": False})

    def stop(self, request: Request, fields: Fields) -> Response:
        job = self._studio.jobs.get(one(fields, "job"))
        if job.kind == "inspect":
            self._studio.jobs.stop(job)
        return self._shown(job)

    def picture(self, request: Request) -> Response:
        return show(self._png(self._studio.jobs.get(request.query_params.get("job", ""))))

    def _jobs(self, name: str) -> list[Job]:
        return [job for job in self._studio.jobs.all() if job.kind == "inspect" and job.about.get("run_file") == name]

    def _png(self, job: Job) -> Path:
        return self._studio.workspace.path(str(job.about.get("png", "nothing")))

    def _shown(self, job: Job) -> Response:
        state, said = job.state, job.tail().strip()
        busy = [each for each in self._studio.jobs.all() if each.uses_gpu and each.state == "running"] if state == "waiting" else []
        is_drawn = state == "done" and self._png(job).is_file()
        html = self._studio.text("run-file-batch.html", job=job, state=state, said=said, busy=busy, is_drawn=is_drawn)
        return JSONResponse({"html": html, "running": state in ("waiting", "running")})

"""The screen that exports and publishes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import LtxError
from ltxplugins.studio.export.targets import DTYPES, Target, targets
from ltxplugins.studio.export.work import KINDS, add_export, add_merge, add_preview, add_upload, first, shown, written
from ltxplugins.studio.jobs import Job
from ltxplugins.studio.studio import Fields, Screen, Studio, posted
from ltxplugins.studio.try_out.found import Found, find

FOLDER = "exports"
"""The folder with which the name of a new file begins."""


def routes(studio: Studio) -> Sequence[BaseRoute]:
    kept: list[Target] = []

    def known() -> list[Target]:
        if not kept:  # a new exporter is there after the next start
            kept.extend(targets(studio))
        return kept

    def page(request: Request) -> Response:
        found = find(studio.workspace)
        values = _of_form(found, known(), request.query_params.get("lora", ""), request.query_params.get("target", ""))
        return studio.answer("export.html", **values, jobs=shown(studio), dtypes=DTYPES)

    def choice(request: Request) -> Response:
        query = request.query_params
        values = _of_form(find(studio.workspace), known(), query.get("lora", ""), query.get("target", ""))
        return studio.answer("export-target.html", **values)

    def jobs(request: Request) -> Response:
        return studio.answer("export-jobs.html", jobs=shown(studio))

    def adding(add: Callable[[Found, Fields], Job]) -> Callable[[Request], Any]:
        """Return a handler that adds a job, and says so, or what is wrong."""

        def handle(request: Request, fields: Fields) -> Response:
            try:
                job = add(find(studio.workspace), fields)
            except LtxError as error:  # shown beside the button: a mistake in a form is no error of the page
                return studio.answer("problems.html", problems=error.problems)
            return studio.answer("export-added.html", job=job)

        return posted(handle)

    def stop(request: Request, fields: Fields) -> Response:
        job = studio.jobs.get(first(fields, "job"))
        if job.kind in KINDS:
            studio.jobs.stop(job)
        return jobs(request)

    def upload(request: Request, fields: Fields) -> Response:
        add_upload(studio, studio.jobs.get(first(fields, "job")))
        return jobs(request)

    def file(request: Request) -> Response:
        path = written(studio, studio.jobs.get(request.query_params.get("job", "")))
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    return [
        Route("/export", page),
        Route("/export/target", choice),
        Route("/export/jobs", jobs),
        Route("/export/export", adding(lambda found, fields: add_export(studio, found, known(), fields)), methods=["POST"]),
        Route("/export/merge", adding(lambda found, fields: add_merge(studio, found, fields)), methods=["POST"]),
        Route("/export/preview", adding(lambda found, fields: add_preview(studio, found, fields)), methods=["POST"]),
        Route("/export/upload", posted(upload), methods=["POST"]),
        Route("/export/stop", posted(stop), methods=["POST"]),
        Route("/export/file", file),
    ]


def _of_form(found: Found, known: Sequence[Target], lora: str, target: str) -> dict[str, Any]:
    """Return what the form needs: the chosen LoRA or the first, and the chosen program or the first that takes the LoRA."""
    chosen = next((each for each in found.loras if each.name == lora), found.loras[0] if found.loras else None)
    fitting = [each for each in known if chosen is None or chosen.type in each.adapters]
    for_ = next((each for each in fitting if each.name == target), fitting[0] if fitting else None)
    name = ""
    if chosen is not None and for_ is not None:
        path = PurePosixPath(chosen.name)
        base = path.stem if not chosen.run else f"{PurePosixPath(chosen.run).name}{'' if path.stem == 'lora' else f'-{path.stem}'}"
        name = f"{FOLDER}/{base}.{for_.name}.safetensors"
    return {"found": found, "targets": known, "chosen": chosen, "target": for_, "file": name}


EXPORT = Screen("export", "Export", routes)

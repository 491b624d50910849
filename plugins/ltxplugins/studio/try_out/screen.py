"""The screen that generates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeVar

import attrs
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import LtxError, Problem
from ltxplugins.studio.studio import Fields, Screen, Studio, one, posted, show
from ltxplugins.studio.try_out.conditions import KINDS, OTHER, Row, dropped
from ltxplugins.studio.try_out.form import BASIC, MORE, PATHS, Form
from ltxplugins.studio.try_out.found import Found, find
from ltxplugins.studio.try_out.history import KIND, SHOWN, result_of, results
from ltxplugins.studio.try_out.keep import change_of, left_out
from ltxplugins.studio.try_out.media import frame_of, mask_of_spans, new_upload, receive, waveform
from ltxplugins.studio.try_out.of_run import form_of

FOLDER = "samples"
"""The folder that results are written to, each sample into a folder of its own."""
T = TypeVar("T")


@attrs.frozen
class Said:
    """What the form says to the user after an action: problems, or a sentence."""

    problems: Sequence[Problem] = ()
    text: str = ""


def routes(studio: Studio) -> Sequence[BaseRoute]:
    def page(request: Request) -> Response:
        found, said = find(studio.workspace), Said()
        form = Form({"model": found.models[-1] if len(found.models) == 1 else ""})
        query = request.query_params
        try:
            if "job" in query:
                form, said = result_of(studio, studio.jobs.get(query["job"])).form, Said(text="These are the settings of that sample.")
            elif "lora" in query:
                form, said = _of_lora(studio, found, query["lora"])
        except LtxError as error:
            said = Said(error.problems)
        if "x-part" in request.headers:
            return _form(studio, found, form, said)
        return studio.answer("try.html", **_of_form(found, form, said), **_of_results(studio, every=False), **_of_now(studio))

    def change(request: Request, fields: Fields) -> Response:
        found = find(studio.workspace)
        return _form(studio, found, *_done(studio, found, Form.read(fields), fields))

    def now(request: Request) -> Response:
        return studio.answer("try-now.html", **_of_now(studio))

    def history(request: Request) -> Response:
        return studio.answer("try-history.html", **_of_results(studio, every="all" in request.query_params))

    def stop(request: Request, fields: Fields) -> Response:
        studio.jobs.stop(studio.jobs.get(one(fields, "job")))
        return now(request)

    return [
        Route("/try", page),
        Route("/try/form", posted(change), methods=["POST"]),
        Route("/try/now", now),
        Route("/try/history", history),
        Route("/try/stop", posted(stop), methods=["POST"]),
        *_media_routes(studio),
        *_keep_routes(studio),
    ]


def _media_routes(studio: Studio) -> Sequence[BaseRoute]:
    def file(request: Request) -> Response:
        return show(studio.workspace.path(request.query_params.get("name", "")))

    async def upload(request: Request) -> Response:
        try:
            path = await run_in_threadpool(new_upload, studio.workspace, request.query_params.get("name", ""))
            await receive(path, request.stream())
        except LtxError as error:
            return _refused(error)
        return JSONResponse({"name": studio.workspace.name(path)})

    def frame(request: Request) -> Response:
        return show(frame_of(studio.workspace, studio.workspace.path(request.query_params.get("name", ""))))

    def wave(request: Request) -> Response:
        try:
            return JSONResponse(waveform(studio.workspace.path(request.query_params.get("name", ""))))
        except LtxError as error:
            return _refused(error)

    def spans(request: Request, fields: Fields) -> Response:
        try:
            path = mask_of_spans(studio.workspace, studio.workspace.path(one(fields, "name")), one(fields, "spans"))
        except LtxError as error:
            return _refused(error)
        return JSONResponse({"name": studio.workspace.name(path)})

    return [
        Route("/try/file", file),
        Route("/try/upload", upload, methods=["POST"]),
        Route("/try/frame", frame),
        Route("/try/wave", wave),
        Route("/try/spans", posted(spans), methods=["POST"]),
    ]


def _keep_routes(studio: Studio) -> Sequence[BaseRoute]:
    def shown(request: Request) -> Response:
        result = result_of(studio, studio.jobs.get(request.query_params.get("job", "")))
        found = find(studio.workspace)
        name = request.query_params.get("file", found.run_files[0] if len(found.run_files) == 1 else "")
        change = change_of(studio.workspace, name, result.form) if name else None
        return studio.answer(
            "try-keep.html", result=result, run_files=found.run_files, name=name, change=change, left_out=list(left_out(result.form))
        )

    def write(request: Request, fields: Fields) -> Response:
        form, name = result_of(studio, studio.jobs.get(one(fields, "job"))).form, one(fields, "file")
        change_of(studio.workspace, name, form).write(one(fields, "mark"))
        return studio.answer("try-kept.html", name=name)

    return [Route("/try/keep", shown), Route("/try/keep", posted(write), methods=["POST"])]


def _refused(error: LtxError) -> Response:
    """Return what is wrong for a script to say."""
    problem = error.problems[0]
    return JSONResponse({"problem": " ".join(filter(None, (f"{problem.what}.".replace("..", "."), problem.remedy)))})


def _form(studio: Studio, found: Found, form: Form, said: Said) -> Response:
    return studio.answer("try-form.html", **_of_form(found, form, said))


def _of_form(found: Found, form: Form, said: Said) -> dict[str, Any]:
    return {
        "found": found,
        "form": form,
        "said": said,
        "basic": BASIC,
        "more": MORE,
        "paths": PATHS,
        "kinds": KINDS,
        "other": OTHER,
        "known": {lora.name: lora for lora in found.loras},
    }


def _of_results(studio: Studio, *, every: bool) -> dict[str, Any]:
    ended = [each for each in results(studio) if each.state not in ("waiting", "running")]
    return {"ended": ended if every else ended[:SHOWN], "left": 0 if every else max(0, len(ended) - SHOWN)}


def _of_now(studio: Studio) -> dict[str, Any]:
    found = results(studio)
    going = [each for each in reversed(found) if each.state in ("waiting", "running")]
    busy = any(job.uses_gpu and job.kind != KIND and job.state == "running" for job in studio.jobs.all()) if going else False
    return {"going": going, "count": len(found) - len(going), "busy": busy}


# ---- what the buttons of the form do


def _done(studio: Studio, found: Found, form: Form, fields: Fields) -> tuple[Form, Said]:
    """Carry out the action of a button of the form, and return the form as it is afterwards."""
    action, _, place = one(fields, "do", "").partition(":")
    try:
        if action == "generate":
            return form, _started(studio, found, [form])
        if action == "sweep":
            return form, _started(studio, found, [form.with_strength(strength) for strength in form.sweep()])
        if action == "add-lora":
            return _with_lora(studio, found, form, one(fields, "add_lora", ""))
        if action == "settings":
            name = next((name for index, (name, _) in enumerate(form.loras) if str(index) == place), "")
            return _of_lora(studio, found, name, form)
    except LtxError as error:
        return form, Said(error.problems)
    if action == "add-condition" and (kind := one(fields, "add_condition", "")):
        return attrs.evolve(form, conditions=(*form.conditions, Row(kind, "video"))), Said()
    if action == "dropped" and (name := one(fields, "dropped", "")):
        return attrs.evolve(form, conditions=(*form.conditions, dropped(name))), Said()
    if action == "remove-lora":
        return attrs.evolve(form, loras=_without(form.loras, place)), Said()
    if action == "remove-condition":
        return attrs.evolve(form, conditions=_without(form.conditions, place)), Said()
    return form, Said()


def _without(all_: tuple[T, ...], place: str) -> tuple[T, ...]:
    return tuple(each for index, each in enumerate(all_) if str(index) != place)


def _with_lora(studio: Studio, found: Found, form: Form, name: str) -> tuple[Form, Said]:
    """Add a LoRA; with the first one come the settings of its run."""
    if name and not form.loras and found.lora(name).run:
        return _of_lora(studio, found, name, form)
    return attrs.evolve(form, loras=(*form.loras, *([(name, "1")] if name else []))), Said()


def _of_lora(studio: Studio, found: Found, name: str, before: Form | None = None) -> tuple[Form, Said]:
    """Return the form with the settings of the run that a LoRA came from. A prompt that is there already stays."""
    lora = found.lora(name)
    form = form_of(studio.workspace, lora)
    if before is not None and before["prompt"]:
        form = form.changed(prompt=before["prompt"])
    if not lora.run:
        return form, Said(text="It is not known which run this LoRA came from, so choose its model.")
    return form, Said(text=f"The settings are those of the run {lora.run}.")


def _started(studio: Studio, found: Found, forms: Sequence[Form]) -> Said:
    """Add a job for each form."""
    made = []
    for form in forms:
        form.arguments(studio.workspace, found, "")  # refuses before anything is made
    for form in forms:
        folder = _new_folder(studio)
        about = {
            "prompt": form["prompt"],
            "seed": form.seed,
            "loras": [[name, float(strength or 1)] for name, strength in form.loras],
            "settings": form.fields(),
            "output": folder,
        }
        title = form["prompt"] if len(form["prompt"]) <= 80 else f"{form['prompt'][:79]}…"
        made.append(studio.jobs.add(KIND, title, form.arguments(studio.workspace, found, folder), about))
    return Said(text="The sample is in the queue." if len(made) == 1 else f"{len(made)} samples are in the queue.")


def _new_folder(studio: Studio) -> str:
    """Make a new folder for a sample, and return its name."""
    first = time.strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        name = f"{FOLDER}/{first}" + (f"-{number}" if number > 1 else "")
        try:
            studio.workspace.path(name).mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return name


TRY_OUT = Screen("try", "Try", routes)

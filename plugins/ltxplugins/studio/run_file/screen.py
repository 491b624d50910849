"""The screen of the run file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import ConfigError
from ltxcore.api.config import parsed_toml
from ltxplugins.studio.programs import answer
from ltxplugins.studio.run_file.editing import literal_of, with_entry, with_value, without
from ltxplugins.studio.run_file.faults import said_faults
from ltxplugins.studio.run_file.files import Changed, RunFiles
from ltxplugins.studio.run_file.look import Look, look_at, value_of
from ltxplugins.studio.run_file.making import Making
from ltxplugins.studio.run_file.next_batch import NextBatch
from ltxplugins.studio.run_file.planning import Planning
from ltxplugins.studio.run_file.plans import GPUS, RELEASED
from ltxplugins.studio.run_file.requests import address, told
from ltxplugins.studio.run_file.schemas import Schemas, plugins_of
from ltxplugins.studio.studio import Fields, Screen, Studio, one, posted

CHECK_SECONDS = 600


class Editor:
    """The routes of the editor."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.files = RunFiles(studio.workspace)
        self.schemas = Schemas(studio)

    def list(self, request: Request) -> Response:
        return self.studio.answer("run-file.html", files=self.files.all())

    def edit(self, request: Request) -> Response:
        name = self._name(request.query_params.get("name", ""))
        opened = self.files.open(name)
        look = look_at(opened.text, self.files.path(name), self.schemas)
        has_batch = any(job.kind == "inspect" and job.about.get("run_file") == name for job in self.studio.jobs.all())
        return self.studio.answer(
            "run-file-edit.html", name=name, opened=opened, look=look, gpus=GPUS, released=RELEASED, has_batch=has_batch
        )

    def look(self, request: Request, fields: Fields) -> Response:
        name, text, base = self._name(one(fields, "name")), one(fields, "text"), one(fields, "base")
        is_draft = self.files.keep(name, text, base)
        return JSONResponse({**self._shown(name, text), "draft": is_draft})

    def change(self, request: Request, fields: Fields) -> Response:
        """Return the text after changes that the form asks for."""
        name, text, base = self._name(one(fields, "name")), one(fields, "text"), one(fields, "base")
        for change in json.loads(one(fields, "changes")):
            path = tuple(change["path"])
            if change["do"] == "set":
                text = with_value(text, path, literal_of(change["control"], change["value"]))
            elif change["do"] == "add":
                text = with_entry(text, path, {change["key"]: change["kind"]} if change.get("key") else {})
            else:
                text = without(text, path)
        is_draft = self.files.keep(name, text, base)
        return JSONResponse({**self._shown(name, text), "draft": is_draft, "text": text})

    def save(self, request: Request, fields: Fields) -> Response:
        name, text, base = self._name(one(fields, "name")), one(fields, "text"), one(fields, "base")
        try:
            saved = self.files.save(name, text, base)
        except Changed as error:
            return self._conflict(name, text, error)
        return JSONResponse({"base": saved})

    def discard(self, request: Request, fields: Fields) -> Response:
        name = self._name(one(fields, "name"))
        self.files.forget(name)
        return JSONResponse({"to": address(name) if self.files.path(name).exists() else "/run-file"})

    def take(self, request: Request, fields: Fields) -> Response:
        """Return the text of the file as it is now."""
        name = self._name(one(fields, "name"))
        return JSONResponse({"text": self.files.saved(name), "base": self.files.base(name)})

    def trust(self, request: Request, fields: Fields) -> Response:
        name, text = self._name(one(fields, "name")), one(fields, "text")
        path = self.files.path(name)
        self.schemas.trust(plugins_of(parsed_toml(text, path), path.parent))
        return JSONResponse(self._shown(name, text))

    def check(self, request: Request, fields: Fields) -> Response:
        """Return what the whole `ltx check` finds in a text, with its data."""
        name, text = self._name(one(fields, "name")), one(fields, "text")
        path = self.files.path(name)
        plugins = plugins_of(parsed_toml(text, path), path.parent)
        beside = self.files.beside(name, text)
        try:
            options = [] if self.schemas.trusted(plugins) else ["--no-plugins"]
            told = answer(self.studio, ["check", str(beside), *options], CHECK_SECONDS)
        finally:
            beside.unlink(missing_ok=True)
        said, errors = (each.replace(str(beside), name) for each in (told.text, told.errors))
        if not told.status:
            return JSONResponse({"checked": self.studio.text("run-file-checked.html", said=said.strip(), errors="")})
        faults = said_faults(errors, name)
        rest = "" if faults else f"{said}\n{errors}".strip()
        look = look_at(text, path, self.schemas, faults or None)
        checked = self.studio.text("run-file-checked.html", said="", errors=rest)
        return JSONResponse({**self._html(look), "checked": checked})

    def start(self, request: Request, fields: Fields) -> Response:
        """Save a text, and add its run to the queue."""
        name, text, base = self._name(one(fields, "name")), one(fields, "text"), one(fields, "base")
        path = self.files.path(name)
        try:
            saved = self.files.save(name, text, base)
        except Changed as error:
            return self._conflict(name, text, error)
        look = look_at(text, path, self.schemas)
        if refused := [fault for fault in look.faults if fault.kind != "unread"]:
            body = self.studio.text("run-file-not-started.html", count=len(refused))
            return JSONResponse({**self._html(look), "base": saved, "checked": body})
        if any(
            job.kind == "run" and job.about.get("run_file") == name and job.state in ("waiting", "running")
            for job in self.studio.jobs.all()
        ):
            raise ConfigError(f"{name} is already in the queue or running", remedy="Look at it under Runs; stop it there to start it anew.")
        output = value_of(parsed_toml(text, path), "output_dir")
        about = {"run_file": name, "output_dir": self._output(output if isinstance(output, str) else "outputs")}
        job = self.studio.jobs.add("run", name, ["run", str(path)], about)
        return JSONResponse({"base": saved, "to": f"/runs?job={quote(job.id)}"})

    def _output(self, given: str) -> str:
        folder = (self.studio.workspace.root / given).resolve()
        inside = folder.is_relative_to(self.studio.workspace.root)
        return self.studio.workspace.name(folder) if inside else str(folder)

    def _conflict(self, name: str, text: str, error: Changed) -> Response:
        lines = difflib.unified_diff(error.text.splitlines(), text.splitlines(), "the file", "your text", lineterm="")
        rows = [(line, {"+": "good", "-": "bad"}.get(line[0], "quiet")) for line in list(lines)[:400]]
        body = self.studio.text("run-file-conflict.html", name=name, problems=error.problems, rows=rows)
        return JSONResponse({"conflict": body, "base": self.files.base(name)})

    def _name(self, given: str) -> str:
        return self.studio.workspace.name(self.files.path(given))

    def _shown(self, name: str, text: str) -> dict[str, Any]:
        return self._html(look_at(text, self.files.path(name), self.schemas))

    def _html(self, look: Look) -> dict[str, Any]:
        return {
            "form": None if look.fields is None else self.studio.text("run-file-form.html", look=look),
            "faults": self.studio.text("run-file-faults.html", look=look),
            "marks": look.marks,
            "wrong": look.wrong,
        }


def routes(studio: Studio) -> Sequence[BaseRoute]:
    editor = Editor(studio)
    others = (Planning(studio, editor.files, editor.schemas), Making(studio, editor.files), NextBatch(studio, editor.files))
    actions = {
        "look": editor.look,
        "change": editor.change,
        "save": editor.save,
        "discard": editor.discard,
        "take": editor.take,
        "trust": editor.trust,
        "check": editor.check,
        "start": editor.start,
    }
    return [
        Route("/run-file", editor.list),
        Route("/run-file/edit", editor.edit),
        *(Route(f"/run-file/{name}", posted(told(studio, action)), methods=["POST"]) for name, action in actions.items()),
        *(route for other in others for route in other.routes()),
    ]


RUN_FILE = Screen("run-file", "Run file", routes)

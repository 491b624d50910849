"""New run files, which `ltx new` writes for a mode, a model, the user's clips and the memory of a GPU."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import ConfigError
from ltxplugins.studio.programs import answer
from ltxplugins.studio.run_file.files import RunFiles
from ltxplugins.studio.run_file.requests import address, told
from ltxplugins.studio.studio import Fields, Studio, one, posted

MODELS = {"2.3": "LTX-2.3 (22B)", "2.5": "LTX-2.5 (22B)", "2.0": "LTX-2 (19B)", "tiny": "tiny, which comes with ltx"}
"""The models that `ltx new --model` knows."""
PURPOSES = ("style", "subject", "motion", "voice", "ic-lora")
"""What a LoRA may learn for `ltx new --for`."""
LISTS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""The endings of files that list a dataset."""
MOST = 200
"""The maximum number of folders and files that are proposed as data."""


class Making:
    """The routes of new run files."""

    def __init__(self, studio: Studio, files: RunFiles) -> None:
        self._studio, self._files = studio, files

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/run-file/new", self.page, methods=["GET"]),
            Route("/run-file/new", posted(told(self._studio, self.make)), methods=["POST"]),
            Route("/run-file/made", self.made),
        ]

    def page(self, request: Request) -> Response:
        return self._studio.answer(
            "run-file-new.html",
            modes=self._modes,
            models=MODELS,
            purposes=PURPOSES,
            data=datasets(self._studio.workspace.root),
            chosen=request.query_params.get("data", ""),
        )

    def make(self, request: Request, fields: Fields) -> Response:
        """Add the job that writes a run file."""
        name = one(fields, "as").strip()
        name = name if name.endswith(".toml") else f"{name}.toml"
        path = self._files.path(name)
        if path.exists():
            raise ConfigError(f"{name} already exists", remedy="Give another name.")
        mode, model, purpose, memory, data = (one(fields, key).strip() for key in ("mode", "model", "for", "memory", "data"))
        if mode not in self._modes:
            raise ConfigError(f'there is no mode "{mode}"', remedy="Choose one from the list.")
        arguments = ["new", mode, "--output", str(path)]
        if "demo" in fields:
            arguments += ["--demo", str(path.parent)]
        else:
            arguments += ["--model", model]
            arguments += ["--data", str(self._studio.workspace.path(data))] if data else []
            arguments += ["--memory", memory] if memory and model != "tiny" else []
        arguments += ["--for", purpose] if purpose else []
        path.parent.mkdir(parents=True, exist_ok=True)
        job = self._studio.jobs.add("new", f"Make {name}", arguments, {"run_file": self._studio.workspace.name(path)}, uses_gpu=False)
        return JSONResponse({"made": f"/run-file/made?job={quote(job.id)}"})

    def made(self, request: Request) -> Response:
        """Return how far the job that writes a run file is, and what it printed."""
        job = self._studio.jobs.get(request.query_params.get("job", ""))
        said = job.tail().replace(f"{self._studio.workspace.root}/", "").strip()
        name = str(job.about.get("run_file", ""))
        html = self._studio.text("run-file-made.html", job=job, name=name, said=said)
        going = job.state in ("waiting", "running")
        return JSONResponse({"html": html, "running": going, "to": address(name) if job.state == "done" else ""})

    @functools.cached_property
    def _modes(self) -> dict[str, str]:
        """The modes of `ltx new`, each with a description."""
        return dict(re.findall(r"^(\w+) {2,}(\S.*)$", answer(self._studio, ["new"]).text, re.MULTILINE))


def datasets(root: Path) -> list[str]:
    """Return the folders and lists near the top of a folder that may hold a dataset."""
    found: list[str] = []
    for folder in (root, *sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))[:MOST]):
        found += [folder.relative_to(root).as_posix()] if folder != root else []
        found += [
            each.relative_to(root).as_posix() for each in sorted(folder.glob("*")) if each.suffix.lower() in LISTS and len(found) < MOST
        ]
    return found[:MOST]

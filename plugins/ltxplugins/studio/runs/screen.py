"""The screen of the runs: the queue, the runs of the folder, and a page for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import attrs
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import ConfigError, LtxError
from ltxcore.api.runs import Drawn, Record, Series, short_number
from ltxplugins.studio.jobs import Job, State
from ltxplugins.studio.runs.charts import charts_of, validation_rows
from ltxplugins.studio.runs.found import Library, job_of, output_in, output_of
from ltxplugins.studio.runs.gpu_memory import GpuMemory, gpus_of
from ltxplugins.studio.runs.told import duration, end_of, seconds_left
from ltxplugins.studio.studio import Fields, Screen, Studio, one, posted, show

ENDED = 8
"""The number of ended jobs that the queue shows until the user asks for all."""

STEPS = 3
"""The number of steps whose samples a page shows until the user asks for all."""

APART = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "media-src data: blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""The policy of a page that is not the studio's: it may run its own scripts, but belongs to no origin and reaches no address."""

WORDS: Mapping[State, str] = {
    "waiting": "waiting",
    "running": "running",
    "done": "done",
    "stopped": "stopped",
    "failed": "failed",
    "lost": "broken off",
}


@attrs.frozen
class Row:
    """A job as a list shows it."""

    job: Job
    state: State
    run: str
    why: str

    @property
    def word(self) -> str:
        return WORDS[self.state]

    @property
    def time(self) -> str:
        return duration(self.job.seconds) if self.job.seconds else ""


@attrs.frozen
class Screens:
    """What the addresses of the screen answer."""

    studio: Studio
    library: Library

    def page(self, request: Request) -> Response:
        if job := request.query_params.get("job"):
            return RedirectResponse(f"/runs/job?id={quote(job)}", 303)
        chosen = request.query_params.get("file", "")
        return self.studio.answer("runs.html", files=self.library.found().files, chosen=chosen, **self._queue(), **self._runs())

    def queue(self, request: Request) -> Response:
        return self.studio.answer("runs-queue.html", **self._queue(every="all" in request.query_params))

    def list(self, request: Request) -> Response:
        return self.studio.answer("runs-list.html", **self._runs())

    def add(self, request: Request, fields: Fields) -> Response:
        """Put a run file, or a run that is to go on, into the queue."""
        name = one(fields, "file")
        path = self.studio.workspace.path(name)
        if not name or not path.is_file():
            raise ConfigError("no run file was chosen", remedy="Choose one in the folder; the screen Run file writes one.")
        gpus = one(fields, "gpus", "1")
        if not gpus.isdecimal() or not 1 <= int(gpus) <= 1024:
            raise ConfigError(f"{gpus} is not a number of GPUs", remedy="Give a whole number from 1.")
        output = output_in(self.studio.workspace, path)
        for job in self.studio.jobs.all():
            if job.kind == "run" and job.about.get("output_dir") == output and job.state in ("waiting", "running"):
                raise ConfigError(
                    f"a run that writes to {output} is already {WORDS[job.state]}",
                    remedy="Stop or remove it first, or give another output_dir.",
                )
        count = int(gpus)
        name = self.studio.workspace.name(path)
        command = ["run", str(path)] if count == 1 else ["launch", str(path), "--num-gpus", gpus]
        title = output if path.name == "run.toml" and path.parent == self.studio.workspace.path(output) else name
        self.studio.jobs.add("run", title, command, {"run_file": name, "output_dir": output, "gpus": count})
        return self._done(request)

    def change(self, request: Request, fields: Fields) -> Response:
        """Carry out the action of a button beside a job."""
        jobs = self.studio.jobs
        job, what = jobs.get(one(fields, "id")), one(fields, "do")
        if what == "stop":
            jobs.stop(job)
        elif what == "remove":
            jobs.remove(job)
        elif what in ("earlier", "later"):
            jobs.move(job, -1 if what == "earlier" else 1)
        elif what == "anyway":
            jobs.start_anyway(job)
        return self._done(request)

    def _done(self, request: Request) -> Response:
        """Show the part of the page that the button was on."""
        self.library.forget()
        if "run" in request.query_params:
            return self.facts(request)
        return self.job_part(request) if "id" in request.query_params else self.queue(request)

    def job(self, request: Request) -> Response:
        return self._of_job(request, "runs-job.html")

    def job_part(self, request: Request) -> Response:
        return self._of_job(request, "runs-job-part.html")

    def _of_job(self, request: Request, template: str) -> Response:
        row = self._row(self.studio.jobs.get(request.query_params.get("id", "")))
        return self.studio.answer(template, row=row, log=row.job.tail(), end=end_of(row.job, row.state))

    def run(self, request: Request) -> Response:
        return self.studio.answer("runs-run.html", **{**self._facts(request), **self._curves(request), **self._samples(request)})

    def facts(self, request: Request) -> Response:
        return self.studio.answer("runs-facts.html", **self._facts(request))

    def log(self, request: Request) -> Response:
        job = job_of(self.studio, self.library.folder(request.query_params.get("run", "")))
        return self.studio.answer("runs-log.html", job=job, log=job.tail() if job is not None else "")

    def curves(self, request: Request) -> Response:
        return self.studio.answer("runs-curves.html", **self._curves(request))

    def samples(self, request: Request) -> Response:
        return self.studio.answer("runs-samples.html", **self._samples(request))

    def file(self, request: Request) -> Response:
        return show(self.studio.workspace.path(request.query_params.get("name", "")))

    def report(self, request: Request) -> Response:
        """Show a run's report as it is. It has scripts and styles of its own, so it gets a place of its own, from which nothing reaches the
        studio.
        """
        path = self.library.folder(request.query_params.get("run", "")) / "report.html"
        if not path.is_file():
            raise ConfigError(
                "this run has no report yet", remedy="A run writes its report when it ends; `ltx report` writes one at any time."
            )
        return HTMLResponse(path.read_bytes(), headers={"content-security-policy": APART})

    # ---- what the templates show

    def _row(self, job: Job) -> Row:
        folder, state = output_of(self.studio, job), job.state
        run = self.studio.workspace.name(folder) if folder is not None and (folder / "run.json").is_file() else ""
        return Row(job, state, run, self.studio.jobs.held_up_by(job) if state == "waiting" else "")

    def _queue(self, every: bool = False) -> dict[str, Any]:
        rows = [self._row(job) for job in self.studio.jobs.all()]
        order = {job.id: place for place, job in enumerate(self.studio.jobs.waiting())}
        waiting = sorted((row for row in rows if row.state == "waiting"), key=lambda row: order.get(row.job.id, len(rows)))
        ended = [row for row in reversed(rows) if row.state not in ("waiting", "running")]
        return {
            "running": [row for row in rows if row.state == "running"],
            "waiting": waiting,
            "ended": ended if every else ended[:ENDED],
            "left": 0 if every else max(0, len(ended) - ENDED),
            "gpus_of": gpus_of,
        }

    def _runs(self) -> dict[str, Any]:
        return {"runs": self.library.glances(), "number": short_number}

    def _facts(self, request: Request) -> dict[str, Any]:
        name = request.query_params.get("run", "")
        record = self.library.record(name)
        glance, job = self.library.glance(name), job_of(self.studio, self.library.folder(name))
        state = job.state if job is not None else None
        if state == "running":  # also before it has its folder, and until it has said its last
            glance = attrs.evolve(glance, state="running")
        left = seconds_left(record) if glance.state == "running" else None
        return {
            "name": name,
            "glance": glance,
            "record": record,
            "job": job,
            "job_state": state,
            "log": job.tail() if job is not None else "",
            "end": end_of(job, state) if job is not None and state is not None and glance.state != "finished" else None,
            "left": duration(left) if left is not None else "",
            "spent": duration(record.seconds) if record.seconds else "",
            "memory": _last(record, "peak_memory_gib"),
            "host": _last(record, "peak_host_memory_gib"),
            "pace": _last(record, "step_seconds"),
            "processes": record.status.get("processes", 1),
            "has_report": (record.folder / "report.html").is_file(),
            "validation": validation_rows(record),
            "number": short_number,
        }

    def _curves(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        log, smooth = "log" in query, "rough" not in query
        name = query.get("run", "")
        return {"name": name, "log": log, "smooth": smooth, "charts": charts_of(self.library.record(name), log=log, smooth=smooth)}

    def _samples(self, request: Request) -> dict[str, Any]:
        name = request.query_params.get("run", "")
        record = self.library.record(name)
        steps: dict[int, list[Media]] = {}
        for drawn in record.drawn:
            if media := media_of(self.studio, drawn):
                steps.setdefault(drawn.step, []).append(media)
        newest = sorted(steps.items(), reverse=True)
        every = "all" in request.query_params
        return {"name": name, "steps": newest if every else newest[:STEPS], "more": 0 if every else max(0, len(newest) - STEPS)}


@attrs.frozen
class Media:
    """A sample as the page plays it: its name, the kind of player, and the address."""

    name: str
    kind: str
    address: str


def media_of(studio: Studio, drawn: Drawn) -> Media | None:
    """Return how a sample of a run is played; None if its file is not in the opened folder."""
    return playable(studio, drawn.path, drawn.name)


def playable(studio: Studio, path: Path, name: str) -> Media | None:
    """Return how a file is played; None if it is not in the opened folder."""
    try:
        inside = studio.workspace.name(studio.workspace.path(str(path)))
    except LtxError:
        return None
    suffix = path.suffix.lower()
    kind = (
        "audio"
        if suffix in (".wav", ".mp3", ".flac", ".ogg", ".m4a")
        else "img"
        if suffix in (".png", ".jpg", ".jpeg", ".webp")
        else "video"
    )
    return Media(name, kind, f"/runs/file?{urlencode({'name': inside})}")


def _last(record: Record, name: str) -> float | None:
    values = record.series.get(name, Series()).values
    return values[-1] if values else None


def routes(studio: Studio) -> Sequence[BaseRoute]:
    screens = Screens(studio, Library(studio.workspace))
    studio.jobs.may_start = GpuMemory(studio).holds_up
    return [
        Route("/runs", screens.page),
        Route("/runs/queue", screens.queue),
        Route("/runs/list", screens.list),
        Route("/runs/add", posted(screens.add), methods=["POST"]),
        Route("/runs/change", posted(screens.change), methods=["POST"]),
        Route("/runs/job", screens.job),
        Route("/runs/job/part", screens.job_part),
        Route("/runs/show", screens.run),
        Route("/runs/facts", screens.facts),
        Route("/runs/log", screens.log),
        Route("/runs/curves", screens.curves),
        Route("/runs/samples", screens.samples),
        Route("/runs/file", screens.file),
        Route("/runs/report", screens.report),
    ]


RUNS = Screen("runs", "Runs", routes)

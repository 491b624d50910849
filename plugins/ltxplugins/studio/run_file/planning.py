"""The routes of the plan: whether a run fits the GPU that the user names, and what would make it fit."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ltxcore.api import ConfigError
from ltxcore.api.config import parsed_toml
from ltxplugins.studio.run_file.faults import faults_of
from ltxplugins.studio.run_file.files import RunFiles
from ltxplugins.studio.run_file.look import value_of
from ltxplugins.studio.run_file.plans import GPUS, RELEASED, Plan, Plans, parts_of
from ltxplugins.studio.run_file.requests import told
from ltxplugins.studio.run_file.schemas import Schemas, plugins_of
from ltxplugins.studio.studio import Fields, Studio, one, posted

USUAL_STEPS = 3000
"""The number of steps of a run file that does not set it."""
WIDTH = 1000
"""The width of the gauge in units of its own."""


class Planning:
    """The routes of the plan."""

    def __init__(self, studio: Studio, files: RunFiles, schemas: Schemas) -> None:
        self._studio, self._files, self._schemas = studio, files, schemas
        self._plans = Plans(files)

    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/run-file/plan", posted(told(self._studio, self.plan)), methods=["POST"])]

    def plan(self, request: Request, fields: Fields) -> Response:
        """Return the plan of a text, or how far it is; the script asks again until it is ready."""
        name, text, gpu, model = one(fields, "name"), one(fields, "text"), one(fields, "gpu"), one(fields, "model")
        gpus = one(fields, "gpus")
        if gpu not in GPUS or model not in ("", *RELEASED) or not gpus.isdecimal() or not 1 <= int(gpus) <= 1024:
            raise ConfigError("this is not a GPU, a number of GPUs or a model that can be planned for", remedy="Choose again.")
        path = self._files.path(name)
        document = parsed_toml(text, path)
        if not self._schemas.trusted(plugins_of(document, path.parent)):
            self._plans.stop(name)
            return self._waits("The plan executes the Python files that the run file names. Let them be executed, below the text.")
        if any(fault.kind == "wrong" for fault in faults_of(text, path)):
            self._plans.stop(name)
            return self._waits("The plan follows when the mistakes are corrected.")
        plan = self._plans.ask(name, text, gpu, int(gpus), model)
        steps = value_of(document, "optimization", "steps")
        return JSONResponse(
            {"plan": self._shown(plan, steps if isinstance(steps, int) else USUAL_STEPS), "running": plan.state == "running"}
        )

    def _waits(self, why: str) -> Response:
        return JSONResponse({"plan": self._studio.text("run-file-plan.html", plan=None, why=why), "running": False})

    def _shown(self, plan: Plan, steps: int) -> str:
        if plan.state != "done":
            return self._studio.text("run-file-plan.html", plan=plan, why="")
        cost = plan.cost
        moment, parts = parts_of(cost)
        needed, memory = cost["gpu_peak_with_margin"], cost["gpu_memory"]
        parts.append(("margin", needed - cost["gpu_peak"]))
        scale = WIDTH / max(needed, memory)
        bars, at = [], 0.0
        for part, size in parts:
            bars.append((part, size, at, size * scale))
            at += size * scale
        return self._studio.text(
            "run-file-plan.html",
            plan=plan,
            why="",
            cost=cost,
            moment=moment,
            bars=bars,
            edge=memory * scale,
            steps=steps,
            gib=gib,
            lasts=lasts(cost["seconds"]["step"] * steps),
            a_step=one_step(cost["seconds"]["step"]),
        )


def gib(size: float) -> str:
    """Return a number of bytes in GiB."""
    found = size / 2**30
    return f"{found:.1f} GiB" if found >= 0.05 else f"{size / 2**20:.0f} MiB" if size >= 2**19 else "0 MiB"


def one_step(seconds: float) -> str:
    """Return the seconds of a step in words, with two digits: they are a prediction."""
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds:.0f} s"


def lasts(seconds: float) -> str:
    """Return how long a run lasts in words."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"

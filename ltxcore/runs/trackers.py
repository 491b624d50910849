"""The trackers of a run, and their use as one tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs
import tomli

from ltxcore.config.load import LoadedRun
from ltxcore.errors import ConfigError, Problem
from ltxcore.objectives import labelled
from ltxcore.protocols import Tracker
from ltxcore.redact import leaving
from ltxcore.runs.zero_losses import ZeroLosses

DEFAULT = ("jsonl", "console", "report")
"""The trackers that every run has; `[trackers.NAME]` sets their keys."""


@attrs.frozen(eq=False)
class Trackers:
    """A tracker that passes every call on to several trackers."""

    trackers: Sequence[Tracker]
    run: LoadedRun

    def start(self, output_dir: Path, total_steps: int, first_step: int) -> None:
        run = leaving(tomli.loads(self.run.resolved()))
        with ExitStack() as started:  # if one cannot start, those that have started are stopped
            for tracker in self.trackers:
                tracker.start(output_dir, run, total_steps, first_step)
                started.callback(tracker.finish)
            started.pop_all()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(step, metrics)

    def sample(self, step: int, name: str, path: Path) -> None:
        for tracker in self.trackers:
            tracker.sample(step, name, path)

    def finish(self) -> None:
        for tracker in self.trackers:
            tracker.finish()


def trackers_of(loaded: LoadedRun) -> Trackers:
    """Return the trackers that every run has, if their plugins are installed, the trackers that the run file names, and the tracker that
    warns of losses that stay 0.

    Raises:
        ConfigError: `[wandb]` asks for a tracker that is not available.
    """
    known = loaded.registry.of_kind("tracker")
    defaults = {name: known[name].value() for name in DEFAULT if name in known}
    named = {**defaults, **loaded.config.trackers, **_of_wandb_table(loaded)}
    return Trackers([*named.values(), ZeroLosses.of(labelled(loaded.config.objectives))], loaded)


def _of_wandb_table(loaded: LoadedRun) -> dict[str, Tracker]:
    """Return the tracker "wandb" if the table `[wandb]`, which run files of other trainers have, enables it."""
    table, where = loaded.config.wandb, loaded.where("wandb.enabled")
    if not table.enabled:
        return {}
    if "wandb" in loaded.config.trackers:
        raise ConfigError("there is a table [trackers.wandb] too", where=where, remedy="Keep only one of the two tables.")
    named = loaded.registry.get("tracker", "wandb", where)
    tracker: Tracker = named.value(project=table.project, entity=table.entity, tags=table.tags, media=table.log_validation_videos)
    problems = [Problem(what, where, remedy) for _, what, remedy in getattr(tracker, "problems", list)()]
    if problems:
        raise ConfigError.of(problems)
    return {"wandb": tracker}

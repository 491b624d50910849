"""The samples that were generated, from the jobs on disk."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import LtxError
from ltxplugins.studio.jobs import Job, State
from ltxplugins.studio.studio import PLAYED, Studio
from ltxplugins.studio.try_out.form import BASIC, MORE, PATHS, Form

KIND = "sample"
SHOWN = 30
"""How many results are shown until the user asks for all."""


@attrs.frozen
class Result:
    """A job that generates a sample.

    Attributes:
        job: the job.
        state: how far the job is.
        form: the form as the user filled it in.
        files: the files that the job has written, relative to the opened folder.
    """

    job: Job
    state: State
    form: Form
    files: tuple[str, ...]

    @property
    def seed(self) -> int:
        return int(self.job.about.get("seed", 0))

    @property
    def loras(self) -> list[tuple[str, float]]:
        return [(str(name), float(strength)) for name, strength in self.job.about.get("loras", [])]

    @property
    def settings(self) -> Iterator[tuple[str, str]]:
        """What the user set, with its label."""
        form = self.form
        yield "Model", form["model"]
        if form["width"]:
            yield "Size", f"{form['width']} x {form['height']}, {form['frames']} frames"
        if form["preset"]:
            yield "Preset", form["preset"]
        for setting in (*BASIC[1:], *MORE, *PATHS):
            if form[setting.name]:
                yield setting.label, form[setting.name]
        for name, label in (("negative_prompt", "Negative prompt"), ("only", "Only"), ("memory", "Text encoder"), ("tiling", "VAE tiling")):
            if form[name]:
                yield label, form[name]
        for row in form.conditions:
            yield row.about.title, ", ".join(filter(None, (row.file, row.mask and f"mask {row.mask}", row.keys)))

    @property
    def command(self) -> str:
        """The command line that generates the same again."""
        return shlex.join(["ltx", *self.job.arguments])

    @property
    def notes(self) -> list[str]:
        """The lines that the command printed beside the names of its files: warnings and, if it failed, why."""
        names = {name.rpartition("/")[2] for name in self.files}
        return [line for line in self.job.tail().splitlines() if line.strip() and Path(line.strip()).name not in names]


def results(studio: Studio) -> list[Result]:
    """Return every job that generates a sample; the newest first."""
    return [result_of(studio, job) for job in reversed(studio.jobs.all()) if job.kind == KIND]


def result_of(studio: Studio, job: Job) -> Result:
    """Return what a job generates."""
    settings = job.about.get("settings", {})
    fields = {name: [str(value) for value in values] for name, values in settings.items() if isinstance(values, list)}
    return Result(job, job.state, Form.read(fields), tuple(_files(studio, job.about)))


def _files(studio: Studio, about: Any) -> Iterator[str]:
    try:
        folder = studio.workspace.path(str(about.get("output", "")))
    except LtxError:
        return
    if about.get("output") and folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in PLAYED and not path.name.startswith("."):
                yield studio.workspace.name(path)

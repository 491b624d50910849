"""The jobs of the screen: exports, merges, previews of what would be published, and uploads."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from ltxcore.api import ConfigError, DataError, LtxError, Problem
from ltxplugins.studio.export.targets import DTYPES, Target
from ltxplugins.studio.jobs import Job, State
from ltxplugins.studio.studio import Fields, Studio, one
from ltxplugins.studio.try_out.found import Found, sizes

EXPORT, MERGE, PREVIEW, UPLOAD = "export", "merge", "publish-preview", "publish"
KINDS = (EXPORT, MERGE, PREVIEW, UPLOAD)
LARGEST_CARD = 256 * 1024
"""How many bytes of a model card are shown."""


def first(fields: Fields, name: str) -> str:
    """Return the value of a field that occurs once; "" if the browser did not send it."""
    return one(fields, name, "").strip()


def add_export(studio: Studio, found: Found, known: Sequence[Target], fields: Fields) -> Job:
    """Add the job that exports a LoRA.

    Raises:
        LtxError: there is no such LoRA or program, or the file cannot be written under this name.
    """
    lora = found.lora(first(fields, "lora"))
    target = next((each for each in known if each.name == first(fields, "target")), None)
    if target is None:
        raise ConfigError("no program was chosen", remedy="Choose what the LoRA is exported for.")
    model, keys, dtype = (first(fields, name) for name in ("model", "keys", "dtype"))
    if lora.type in target.needs_base and not model:
        raise ConfigError(
            f'{target.name} needs the base model of a LoRA of the type "{lora.type}"', remedy="Name the model that it was trained on."
        )
    _check_model(studio, found, model)
    if dtype and dtype not in DTYPES:
        raise ConfigError(f'"{dtype}" is not one of {", ".join(DTYPES)}', where="dtype")
    file = _file(studio, first(fields, "file"), overwrite=bool(first(fields, "overwrite")))
    words = ["export", "--for", f"{target.name},{keys}" if keys else target.name, "--output", file]
    words += ["--model", model] if model else []
    words += ["--dtype", dtype] if dtype else []
    words += ["--overwrite"] if first(fields, "overwrite") else []
    about = {"lora": lora.name, "target": target.name, "file": file}
    return studio.jobs.add(EXPORT, f"{lora.name} for {target.name}", [*words, "--", lora.name], about, uses_gpu=False)


def add_merge(studio: Studio, found: Found, fields: Fields) -> Job:
    """Add the job that merges LoRAs into one.

    Raises:
        LtxError: there are fewer than two LoRAs, or a strength is not a number.
    """
    chosen = [
        (found.lora(name).name, strength.strip())
        for name, strength in zip(fields.get("merged", ()), fields.get("strength", ()), strict=False)
    ]
    chosen = [(name, strength) for name, strength in chosen if strength]
    if len(chosen) < 2:
        raise ConfigError("a merge takes two LoRAs or more", remedy="Write a strength beside each LoRA that it takes.")
    words = [name if (strength := _strength(name, text)) == 1 else f"{name}:{strength!r}" for name, text in chosen]
    file = _file(studio, first(fields, "file"), overwrite=False)
    about = {"loras": words, "file": file}
    return studio.jobs.add(MERGE, f"{len(words)} LoRAs merged", ["lora", "merge", "--output", file, "--", *words], about, uses_gpu=False)


def add_preview(studio: Studio, found: Found, fields: Fields) -> Job:
    """Add the job that writes what would be uploaded to a folder of the studio. Earlier previews are removed, since each holds a copy of
    the weights.

    Raises:
        LtxError: there is no such run, or the repository is not NAME/MODEL.
    """
    run, repository = first(fields, "run"), first(fields, "repository")
    if run not in found.runs:
        raise DataError(f"there is no finished run {run} in the opened folder", remedy="Choose one from the list.")
    if repository and (repository.count("/") != 1 or repository.startswith("-") or not all(repository.split("/"))):
        raise ConfigError(f'"{repository}" is not the name of a repository', remedy="Write NAME/MODEL, as on the Hugging Face Hub.")
    folder = studio.workspace.own("publish")
    busy = {str(job.about["folder"]) for job in studio.jobs.all() if job.kind == PREVIEW and job.state in ("waiting", "running")}
    for old in folder.iterdir():
        if studio.workspace.name(old) not in busy:
            shutil.rmtree(old, ignore_errors=True)
    place = studio.workspace.name(folder / f"{time.time_ns()}")
    to = ["--to", repository] if repository else []
    about = {"run": run, "repository": repository, "private": bool(first(fields, "private")), "folder": place}
    words = ["publish", *to, "--dry-run", place, "--", run]
    return studio.jobs.add(PREVIEW, f"What would be uploaded of {run}", words, about, uses_gpu=False)


def add_upload(studio: Studio, preview: Job) -> Job:
    """Add the job that uploads what a preview showed.

    Raises:
        DataError: the job is not a preview that was made.
    """
    if preview.kind != PREVIEW or preview.state != "done":
        raise DataError("this is not a preview of what would be uploaded", remedy="Look at what would be uploaded first.")
    about = preview.about
    words = ["publish", *(["--to", str(about["repository"])] if about["repository"] else []), *(["--private"] if about["private"] else [])]
    kept = {name: about[name] for name in ("run", "repository", "private")}
    return studio.jobs.add(UPLOAD, f"Upload of {about['run']}", [*words, "--", str(about["run"])], kept, uses_gpu=False)


def _check_model(studio: Studio, found: Found, model: str) -> None:
    if model and model not in found.files and not studio.workspace.path(model).exists():
        raise DataError(f"there is no model {model}", remedy='Choose one from the list, or write "tiny".')


def _strength(name: str, text: str) -> float:
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise ConfigError(f'"{text}" is not a number', where=f"Strength of {name}", remedy="Write a number such as 0.8.")
    return strength


def _file(studio: Studio, name: str, *, overwrite: bool) -> str:
    """Return the file to write, relative to the opened folder."""
    problems: list[Problem] = []
    if not name.endswith(".safetensors") or name.rpartition("/")[2].startswith("."):
        problems.append(Problem("must be a name that ends in .safetensors", "File", "Write for example exports/mine.safetensors."))
    path = studio.workspace.path(name)
    if path.is_relative_to(studio.workspace.state):
        problems.append(Problem("lies in the studio's own folder", "File", "Choose another folder."))
    if not problems and path.exists() and not overwrite:
        problems.append(Problem(f"the file {name} already exists", "File", "Choose another name, or tick that it may be overwritten."))
    if problems:
        raise ConfigError.of(problems)
    return studio.workspace.name(path)


# ---- what the list shows


@attrs.frozen
class Shown:
    """A job of the screen as the list shows it.

    Attributes:
        job: the job.
        state: how far the job is.
        size: the size of the file that the job wrote, as text; "" if there is none.
        files: the files that would be uploaded, each with its size.
        card: the model card that would be uploaded.
    """

    job: Job
    state: State
    size: str = ""
    files: tuple[tuple[str, str], ...] = ()
    card: str = ""

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The licence and the base model that the card states."""
        head = self.card.partition("---\n")[2].partition("\n---")[0]
        lines = (line.partition(":") for line in head.splitlines())
        labels = {
            "license": "Licence",
            "license_name": "Name of the licence",
            "license_link": "Text of the licence",
            "base_model": "Base model",
        }
        return [(labels[key], value.strip()) for key, _, value in lines if key in labels and value.strip()]


def shown(studio: Studio) -> list[Shown]:
    """Return the jobs of the screen; the newest first."""
    return [_shown(studio, job) for job in reversed(studio.jobs.all()) if job.kind in KINDS]


def _shown(studio: Studio, job: Job) -> Shown:
    state = job.state
    try:
        if job.kind in (EXPORT, MERGE):
            return Shown(job, state, sizes(written(studio, job).stat().st_size) if state == "done" else "")
        if job.kind == PREVIEW and state == "done":
            folder = studio.workspace.path(str(job.about["folder"]))
            return Shown(job, state, files=tuple(_listed(folder)), card=_card(folder))
    except (LtxError, OSError):  # the file was moved since
        return Shown(job, state)
    return Shown(job, state)


def written(studio: Studio, job: Job) -> Path:
    """Return the file that a job wrote.

    Raises:
        DataError: the job wrote no file, or the file is gone.
    """
    name = str(job.about.get("file", ""))
    path = studio.workspace.path(name)
    if job.kind not in (EXPORT, MERGE) or path.suffix != ".safetensors" or not path.is_file():
        raise DataError(f"there is no file {name} of this job", remedy="Export again: the file may have been moved.")
    return path


def _listed(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), sizes(path.stat().st_size)


def _card(folder: Path) -> str:
    with (folder / "README.md").open("rb") as file:
        return file.read(LARGEST_CARD).decode("utf-8", "replace")

"""The settings of a run, as the form has them: those that its LoRA was trained and tried with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

from ltxcore.api.runs import Record, Weights, read_run, sample_command
from ltxplugins.studio.try_out.conditions import rows_of
from ltxplugins.studio.try_out.form import BASIC, MORE, PATHS, SIZE, Form
from ltxplugins.studio.try_out.found import Lora
from ltxplugins.studio.workspace import Workspace

USUAL_SIZE = [960, 544, 89]
ONLY = {"--no-generate-audio": "video", "--no-generate-video": "audio"}


def form_of(workspace: Workspace, lora: Lora) -> Form:
    """Return the form with a LoRA, and with the model, the conditions and the settings of the run that it came from; with the LoRA alone
    if that is not known.

    Raises:
        LtxError: the run cannot be read.
    """
    if not lora.run:
        return Form(loras=((lora.name, "1"),))
    record = read_run(workspace.path(lora.run))
    path = workspace.path(lora.name)
    weights = next((each for each in (record.weights, *record.more) if each is not None and each.path == path), None)
    metadata = {} if record.weights is None else record.weights.metadata
    words = shlex.split(sample_command(record, weights or Weights(path, lora.size, 0, metadata)))[2:]
    form = Form({**_validation(record), "prompt": _first_prompt(record)})
    trained = str(path)
    loras, conditions, plugins = [], [], []
    texts: dict[str, str] = {}
    for option, value in _options(words):
        if option == "--lora":
            name, _, strength = value.rpartition(":") if not Path(value).is_file() else (value, "", "1")
            loras.append((lora.name if value == trained else _inside(workspace, name or value), strength or "1"))
        elif option == "--condition":
            conditions.append(value)
        elif option == "--plugin":
            plugins.append(value)
        elif option in ONLY:
            texts["only"] = ONLY[option]
        elif option != "-o":
            texts[option.removeprefix("--").replace("-", "_")] = _inside(workspace, value) if option == "--model" else value
    return attrs.evolve(form.changed(**texts), loras=tuple(loras), conditions=rows_of(conditions), plugins=tuple(plugins))


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the options of a command line with their values, without the prompt."""
    rest = iter(words[1:])
    for word in rest:
        yield word, "" if word in ONLY else next(rest, "")


def _inside(workspace: Workspace, path: str) -> str:
    """Return a path relative to the opened folder if it is in it, else as it is."""
    found = Path(path)
    return workspace.name(found) if found.is_absolute() and found.is_relative_to(workspace.root) else path


def _validation(record: Record) -> dict[str, str]:
    """Return the values of `[validation]` in the run file that the form has, except those that apply anyway: a run's own copy of its file
    has every key, and a default would contradict a preset, or be another for the model.
    """
    table = record.get("validation", {})
    if not isinstance(table, dict):
        return {}
    usual = {each.name: each.usual for each in (*BASIC, *MORE) if each.name != "attention"}
    found = {name: _said(table[name]) for name in (*usual, "negative_prompt") if table.get(name) is not None}
    found = {name: text for name, text in found.items() if text != usual.get(name)}
    size = table.get("video_dims")
    if isinstance(size, list) and len(size) == len(SIZE) and size != USUAL_SIZE:
        found |= dict(zip(SIZE, map(str, size), strict=True))
    for part in PATHS:
        found |= {part.name: path} if (path := str(record.get(f"model.{part.name}", ""))) else {}
    return found


def _said(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def _first_prompt(record: Record) -> str:
    samples = record.get("validation.samples", [])
    first = samples[0] if isinstance(samples, list) and samples else {}
    prompt = str(first.get("prompt", "")) if isinstance(first, dict) else ""
    return prompt or str(record.get("preprocessing.lora_trigger", ""))

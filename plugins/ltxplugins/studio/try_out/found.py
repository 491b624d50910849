"""Find the LoRAs, the models and the run files of the opened folder."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import DataError, LtxError
from ltxcore.api.config import parsed_toml
from ltxcore.api.models import LoraInventory, inspect_model
from ltxplugins.studio.workspace import Workspace

MOST_FILES = 200_000
"""How many entries of the opened folder are looked at."""
MOST_WEIGHTS = 500
"""How many files of weights are looked into."""
LARGEST_RUN_FILE = 2**20
"""The maximum size in bytes of a TOML file that may be a run file."""
PARTS = ("text_encoder_path", "connectors_path", "video_vae_path", "audio_vae_path")
"""The keys of `[model]` with further paths."""


@attrs.frozen
class Lora:
    """A LoRA of the opened folder.

    Attributes:
        name: the path of the LoRA, relative to the opened folder.
        type: the type of the adapters.
        generation: the generation of the base model; "" if the file does not state it.
        trigger: the trigger word; "" if there is none.
        size: the size of the file in bytes.
        run: the output folder of the run that trained it, relative to the opened folder; "" if it is not known.
        finished: whether the LoRA is the final result of a run.
        time: when the file was written, in seconds since 1970.
    """

    name: str
    type: str
    generation: str
    trigger: str
    size: int
    run: str
    finished: bool
    time: float


@attrs.frozen
class Found:
    """The files of the opened folder with which samples can be generated.

    Attributes:
        loras: the LoRAs; the results of finished runs come first, and newer files come before older ones.
        models: the models that the user may choose: "tiny", what runs used, and the models in the folder.
        files: paths outside the folder that runs of the folder used, and that may therefore be used here.
        runs: the output folders of finished runs, by name.
        run_files: the run files that were not written by a run, by name.
    """

    loras: tuple[Lora, ...]
    models: tuple[str, ...]
    files: frozenset[str]
    runs: tuple[str, ...]
    run_files: tuple[str, ...]

    def lora(self, name: str) -> Lora:
        """Return the LoRA with a name.

        Raises:
            DataError: the folder has no such LoRA.
        """
        found = next((each for each in self.loras if each.name == name), None)
        if found is None:
            raise DataError(f"there is no LoRA {name} in the opened folder", remedy="Reload the page: the file may have been moved.")
        return found


@attrs.define
class _Walk:
    weights: list[Path] = attrs.field(factory=list)
    runs: list[Path] = attrs.field(factory=list)
    tomls: list[Path] = attrs.field(factory=list)
    models: list[Path] = attrs.field(factory=list)


def find(workspace: Workspace) -> Found:
    """Look through the opened folder."""
    walk = _walked(workspace.root)
    models: dict[str, None] = {"tiny": None}
    files: set[str] = set()
    for path in [*(run / "run.toml" for run in walk.runs), *walk.tomls]:
        table = run_table(path)
        model = table.get("model")
        if isinstance(model, dict):
            models |= {str(model["model_path"]): None} if "model_path" in model else {}
            files |= {str(model[key]) for key in PARTS if key in model}
            files |= {part for lora in _texts(model.get("loras")) for part in (lora, lora.rpartition(":")[0])}
        files |= set(_texts(table.get("plugins")))
    loras, whole = [], []
    for path in walk.weights[:MOST_WEIGHTS]:
        stat = path.stat()
        about = _looked_into(path, stat.st_mtime_ns, stat.st_size)
        if about is None:
            continue
        if not about:
            whole.append(path)
            continue
        kind, generation, trigger = about
        run = next((run for run in walk.runs if path.is_relative_to(run)), None)
        place = "" if run is None else workspace.name(run)
        loras.append(Lora(workspace.name(path), kind, generation, trigger, stat.st_size, place, path.parent == run, stat.st_mtime))
    models |= {workspace.name(path): None for path in [*whole, *walk.models]}
    loras.sort(key=lambda lora: (not lora.finished, lora.run == "", -lora.time, lora.name))
    finished = tuple(workspace.name(run) for run in sorted(walk.runs) if (run / "lora.safetensors").is_file() or _has_model(run))
    run_files = tuple(workspace.name(path) for path in sorted(walk.tomls) if "training_strategy" in run_table(path))
    return Found(tuple(loras), tuple(models), frozenset({*models, *files}), finished, run_files)


def run_table(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; empty if it cannot be read."""
    with suppress(OSError):
        stat = path.stat()
        if stat.st_size <= LARGEST_RUN_FILE:
            return _parsed(path, stat.st_mtime_ns)
    return {}


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _has_model(run: Path) -> bool:
    return any(run.glob("model*.safetensors*"))


def _walked(root: Path) -> _Walk:
    walk = _Walk()
    seen = 0
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        seen += len(folders) + len(names)
        if seen > MOST_FILES:
            break
        if any(name.startswith("manifest-") and name.endswith(".jsonl") for name in names):  # these are encoded samples
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        is_run = "run.json" in names and "run.toml" in names
        if is_run:
            walk.runs.append(here)
        if "model_index.json" in names:
            walk.models.append(here)
            folders.clear()
            continue
        for name in sorted(names):
            if name.endswith(".safetensors") and name != "state.safetensors" and not name.startswith("."):
                walk.weights.append(here / name)
            elif name.endswith(".toml") and not is_run and name != "pyproject.toml":
                walk.tomls.append(here / name)
    return walk


@lru_cache(maxsize=2 * MOST_WEIGHTS)
def _looked_into(path: Path, time: int, size: int) -> tuple[str, ...] | None:
    """Return the type, the generation and the trigger word of a LoRA, nothing of a whole model, and None for another file."""
    try:
        found = inspect_model(path)
    except (LtxError, OSError):
        return None
    if isinstance(found, LoraInventory):
        return found.type, found.generation, found.metadata.get("trigger", "")
    return ()


@lru_cache(maxsize=256)
def _parsed(path: Path, time: int) -> dict[str, Any]:
    try:
        return dict(parsed_toml(path.read_text(encoding="utf-8"), path))
    except (LtxError, OSError, ValueError):
        return {}


def sizes(bytes_: int) -> str:
    """Return a number of bytes in words, such as "1.5 MiB"."""
    value, names = float(bytes_), iter(("KiB", "MiB", "GiB"))
    unit = "bytes"
    while value >= 1024 and (larger := next(names, "")):
        value, unit = value / 1024, larger
    return f"{bytes_:,} bytes" if unit == "bytes" else f"{value:.1f} {unit}"

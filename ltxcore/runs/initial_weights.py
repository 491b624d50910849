"""The weights that a run starts from beside its model: which file they are in, and whether they fit, as far as headers tell."""

from __future__ import annotations

from pathlib import Path

from ltxcore.config.load import LoadedRun
from ltxcore.errors import CheckpointError, Problem, collecting
from ltxcore.headers import INDEX, is_index, read_file
from ltxcore.models.base import Base, base_of
from ltxcore.models.lora_load import check_start
from ltxcore.models.targets import resolve_targets
from ltxcore.runs.checkpoint import STATE


def start_problems(loaded: LoadedRun, base: Base, modalities: frozenset[str], streams: frozenset[str], here: bool) -> list[Problem]:
    """Find what is wrong with a run's LoRA targets and with the weights that it starts from; no tensor is read.

    Args:
        loaded: the run file.
        base: its model.
        modalities: of the run.
        streams: that the model is loaded with.
        here: false: the weights to start from are on another machine, and are not looked at.
    """
    model, lora, problems = loaded.config.model, loaded.config.lora, list[Problem]()
    with collecting(problems):
        if model.training_mode == "full":
            with collecting(problems, loaded.where("model.load_checkpoint")):
                if here and model.load_checkpoint is not None:
                    base_of(str(newest(model.load_checkpoint))).check_tensors()
            return problems
        backbone = base.described(streams)
        targets = resolve_targets(backbone, lora.target_modules, modalities=modalities)
        with collecting(problems, loaded.where("model.load_checkpoint")):
            if here and model.load_checkpoint is not None:
                check_start(backbone, newest(model.load_checkpoint), targets, lora.rank, lora.use_dora)
    return problems


def newest(path: Path) -> Path:
    """A weights file or the index of one, or the one in a folder that was written last.

    Raises:
        CheckpointError: the folder holds none.
    """
    if not path.is_dir():
        return path
    found = [*path.rglob("*.safetensors"), *path.rglob(f"*.safetensors{INDEX}")]
    parts = {part for file in found if is_index(file) for part in read_file(file).files}
    weights = sorted((file for file in found if file.name != STATE and file not in parts), key=lambda file: file.stat().st_mtime)
    if not weights:
        raise CheckpointError("the folder holds no weights", where=str(path), remedy="Name a .safetensors file.")
    return weights[-1]

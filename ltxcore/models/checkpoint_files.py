"""Functions that find the file or folder of a base model's transformer, read the names of the tensors in it, and check that no tensor is
missing.

There are two layouts. The first is a safetensors file with the names of the original implementation and with the configuration in its
metadata; it holds the transformer alone, or also codecs and connectors. The second is a diffusers folder with diffusers' names, a
`config.json`, and one or more files.

Source: docs/explanation/model-files.md#layouts, #names-of-the-transformers-tensors
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from ltxcore.errors import CheckpointError, ConfigError, Problem, listed, many
from ltxcore.files import is_file, is_folder
from ltxcore.headers import BF16, Slots, read_json
from ltxcore.model_config import object_of
from ltxcore.model_folder import transformer_in
from ltxcore.models import TINY_BASE
from ltxcore.models.parameter_names import CHECKPOINT_PREFIXES, prefix_of, to_diffusers, to_original
from ltxcore.models.released import config_of_shapes
from ltxcore.models.transformer_settings import (
    Config,
    checkpoint_config,
    generation_of,
    generation_of_tensors,
    official_config,
    transformer_config,
)
from ltxcore.safetensors_files import dtype_of, read_header

TRANSFORMER, WHOLE_TRANSFORMER = "transformer", "transformer_full"
"""The folders of a transformer in a diffusers model. In releases that have both, `transformer` is distilled: it generates in few steps, but
would lose this ability in training. `transformer_full`, from which it was distilled, is the model to train.
"""

CONNECTORS = "connectors"
"""The folder of a diffusers model that holds the text connectors."""

_CONNECTOR_NAMES = ("video_embeddings_connector.", "audio_embeddings_connector.")
_OTHER_PARTS = ("vae.", "audio_vae.", "vocoder.", "text_embedding_projection.")
_ONLY_DISTILLED = "2.5"


@attrs.frozen
class Checkpoint:
    """A base model's file or folder, as its header describes it.

    Attributes:
        header: the header of the file, or of the transformer's folder.
        prefix: the prefix of the transformer's names; "" in a folder.
        config: the whole configuration, in official names: the section "transformer", and the codecs' sections if there are any.
        stored: the names of the transformer's tensors in the file, by their original names without prefix.
        has_connectors: whether the checkpoint has text connectors.
        apart: the header of the separate file with the text connectors; None if there is no such file.
    """

    header: Slots
    prefix: str
    config: Config
    stored: Mapping[str, str]
    has_connectors: bool
    apart: Slots | None = None

    @property
    def where(self) -> str:
        return str(self.header.where)

    @property
    def transformer(self) -> Config:
        """The transformer's configuration, in official names."""
        section: Config = self.config["transformer"]
        return section

    @property
    def is_folder(self) -> bool:
        """Whether the checkpoint is a folder in the diffusers layout."""
        return self.header.where.is_dir()

    @property
    def generation(self) -> str:
        metadata = self.header.metadata
        return metadata.get("generation") or generation_of(self.transformer, metadata.get("model_version", ""))


def open_checkpoint(model_path: str, connectors_path: Path | None = None) -> Checkpoint:
    """Read the header of a base model's file or folder, and find the transformer in it.

    Args:
        model_path: "tiny", or the file or folder.
        connectors_path: the separate file of the text connectors; None if the model's own are used.

    Raises:
        ConfigError: the path is neither a file nor a folder, or is a folder with more than one model to choose from.
        CheckpointError: the file is incomplete, holds no transformer, or holds unknown tensors.
    """
    path = located(model_path)
    if path.is_dir():
        if connectors_path is not None:
            remedy = "Remove connectors_path."
            raise ConfigError("a folder in the layout of diffusers has its own text connectors", where=str(connectors_path), remedy=remedy)
        return _open_folder(path)
    return _open_file(path, None if connectors_path is None else _connectors_apart(connectors_path))


def located(model_path: str) -> Path:
    """Return the file, or the folder of the transformer, that a `model_path` names.

    Raises:
        ConfigError: there is nothing at this path, or a folder with only a distilled transformer or with several transformers.
        CheckpointError: the folder has no transformer.
    """
    if model_path == "tiny":
        return TINY_BASE
    path = Path(model_path)
    if not is_file(path) and not is_folder(path):
        raise ConfigError("model_path names neither a file nor a folder", where=model_path, remedy='Check the path, or use "tiny".')
    path = transformer_in(path)
    return _transformer_folder(path) if path.is_dir() else path


def _transformer_folder(path: Path) -> Path:
    """Return the folder to train from: `transformer_full` if it exists, or else `transformer`, or else the folder itself if it holds only a
    transformer.
    """
    if (path / "config.json").is_file():
        return path
    if (path / WHOLE_TRANSFORMER).is_dir():
        return path / WHOLE_TRANSFORMER
    found = path / TRANSFORMER
    if not found.is_dir():
        raise CheckpointError(
            f'this folder has neither a folder "{TRANSFORMER}" nor a config.json, nor a file of a transformer',
            where=str(path),
            remedy="Name a safetensors file in the official layout, a folder with one, or a complete folder in the layout of diffusers.",
        )
    if generation_of(official_config(read_json(found / "config.json"), str(found / "config.json"))) == _ONLY_DISTILLED:
        raise ConfigError(
            f'"{TRANSFORMER}" of LTX-{_ONLY_DISTILLED} is the distilled model, but the one to train, "{WHOLE_TRANSFORMER}", is missing',
            where=str(path),
            remedy=f"Download {WHOLE_TRANSFORMER} too; or, to train the distilled model anyway, name {found} itself.",
        )
    return found


def _open_file(path: Path, apart: Slots | None) -> Checkpoint:
    header = read_header(path)
    prefix = prefix_of(header.slots)
    if prefix is None:
        raise CheckpointError(
            f'this file holds no transformer: no tensor\'s name begins with "{CHECKPOINT_PREFIXES[0]}"',
            where=str(path),
            remedy="Name the checkpoint of the transformer, in the official layout.",
        )
    foreign = [name for name in header.slots if not name.startswith((prefix, *_OTHER_PARTS))]
    if foreign:
        raise CheckpointError(f"this file holds tensors that do not belong to any known model: {listed(foreign)}", where=str(path))
    names = [name.removeprefix(prefix) for name in header.slots if name.startswith(prefix) and not name.startswith(_OTHER_PARTS)]
    own = {name: prefix + name for name in names if not name.startswith(_CONNECTOR_NAMES)}
    has_connectors = len(own) < len(names) or apart is not None
    return Checkpoint(header, prefix, _config(header, prefix, apart), own, has_connectors, apart)


def _config(header: Slots, prefix: str, apart: Slots | None) -> Config:
    """Return the configuration of a file or, if it has none, the configuration that follows from the shapes of the transformer and the
    connectors."""
    where = str(header.where)
    told = checkpoint_config(header.metadata, where) if "config" in header.metadata else {}
    if "transformer" in told:
        transformer_config(header.metadata, where)  # this reports what is wrong with the section
        return told
    if apart is not None and isinstance(beside := object_of(apart.metadata.get("config")).get("transformer"), dict) and beside:
        return {**told, "transformer": beside}
    shapes = {name.removeprefix(prefix): slot.shape for name, slot in header.slots.items() if name.startswith(prefix)}
    if apart is not None:
        there = connectors_prefix(apart)
        shapes |= {name.removeprefix(there): slot.shape for name, slot in apart.slots.items()}
    return {**told, "transformer": config_of_shapes(shapes, where)}


def connectors_prefix(header: Slots) -> str:
    """Return the prefix of the names of text connectors in a file, which precedes their own names."""
    prefixes = (*CHECKPOINT_PREFIXES, "")
    return next((p for p in prefixes if any(name.startswith(tuple(p + own for own in _CONNECTOR_NAMES)) for name in header.slots)), "")


def _connectors_apart(path: Path) -> Slots:
    header = read_header(path)
    if not any(own in name for name in header.slots for own in _CONNECTOR_NAMES):
        raise CheckpointError(
            "this file holds no text connectors", where=str(path), remedy="Set connectors_path under [model] to the file that holds them."
        )
    return header


def _open_folder(path: Path) -> Checkpoint:
    config = path / "config.json"
    header = read_header(path)
    official = official_config(read_json(config), str(config))
    stored = {to_original(name): name for name in header.slots}
    return Checkpoint(header, "", {"transformer": official}, stored, has_connectors=(path.parent / CONNECTORS).is_dir())


def check_tensors(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a checkpoint unless its transformer has exactly the parameters that follow from its configuration: those in `shapes`, by
    diffusers' names.

    Raises:
        CheckpointError: tensors are missing, unexpected or of another shape; the error names all of them. If they belong to another
            generation, the error says so first.
    """
    expected = {to_original(name): shape for name, shape in shapes.items()}
    found = {name: checkpoint.header.slots[stored].shape for name, stored in checkpoint.stored.items()}
    dtypes = {stored: dtype_of(checkpoint.header.slots[stored]) for stored in checkpoint.stored.values()}
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    wrong = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    problems = _other_generation(checkpoint, expected, found) if missing and unexpected else []
    if missing:
        problems.append(
            Problem(f"{many(len(missing), 'tensor is', 'tensors are')} missing: {listed(_spelled(checkpoint, missing))}", checkpoint.where)
        )
    if unexpected:
        shown = listed(_spelled(checkpoint, unexpected))
        problems.append(Problem(f"{many(len(unexpected), 'tensor is', 'tensors are')} not part of the model: {shown}", checkpoint.where))
    if wrong:
        shapes_shown = (f"{name} is {list(found[name])}, but should be {list(expected[name])}" for name in wrong)
        problems.append(
            Problem(f"{many(len(wrong), 'tensor has', 'tensors have')} the wrong shape: {listed(shapes_shown)}", checkpoint.where)
        )
    packed = [f"{name} ({dtypes[stored]})" for name, stored in sorted(checkpoint.stored.items()) if not dtypes[stored].is_floating_point]
    if packed:
        what = f"{many(len(packed), 'tensor is', 'tensors are')} packed, which is not supported: {listed(packed)}"
        problems.append(Problem(what, checkpoint.where, BF16))
    if problems:
        raise CheckpointError.of(problems)


def _spelled(checkpoint: Checkpoint, names: list[str]) -> list[str]:
    """Return original names in the checkpoint's own spelling, for a message."""
    return [to_diffusers(name) for name in names] if checkpoint.is_folder else names


def _other_generation(checkpoint: Checkpoint, expected: Mapping[str, object], found: Mapping[str, object]) -> list[Problem]:
    says, has = generation_of_tensors(expected.keys()), generation_of_tensors(found.keys())
    if says == has:
        return []
    what = f"the tensors are those of LTX-{has}, but the configuration says LTX-{says}"
    return [Problem(what, checkpoint.where, "Download the file again, with the configuration that belongs to it.")]

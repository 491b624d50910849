"""The content of a checkpoint (its parts with their sizes, its generation, its text encoder) or of a LoRA file, read
from headers without torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.errors import CheckpointError, listed
from ltxcore.headers import Slot, Slots, read_file, read_folder, read_json
from ltxcore.model_config import building, object_of
from ltxcore.models.lora_names import ALPHA, MAGNITUDE, A, layout_of, parsed
from ltxcore.models.parameter_names import CHECKPOINT_PREFIXES, stream_of, to_diffusers, to_original, within_block
from ltxcore.models.transformer_settings import generation_of, video_scale_of

STREAMS = {"video": "transformer: video", "audio": "transformer: audio", "cross": "transformer: between video and audio"}
_PREFIXES: tuple[tuple[str, str], ...] = (
    ("video_embeddings_connector.", "text connector: video"),
    ("audio_embeddings_connector.", "text connector: audio"),
    ("text_embedding_projection.", "text projections"),
    ("vae.", "video VAE"),
    ("audio_vae.", "audio VAE"),
    ("vocoder.", "vocoder"),
    ("encoder.", "video VAE"),
    ("decoder.", "video VAE"),
    ("per_channel_statistics.", "video VAE"),
    ("language_model.", "text encoder"),
    ("model.", "text encoder"),
    ("vision_tower.", "text encoder"),
    ("multi_modal_projector.", "text encoder"),
    ("hf_asset__", "tokenizer"),
    ("tokenizer_json", "tokenizer"),
)
_FOLDERS = ("transformer", "transformer_full", "connectors", "vae", "audio_vae", "vocoder", "text_encoder")
_TRANSFORMER = "LTX2VideoTransformer3DModel"
_GEMMA_4_SINCE = (2, 4)


@attrs.define
class Part:
    """A part of a model, with the number, size and dtypes of its parameters.

    Attributes:
        name: the part's name for people.
        parameters: the number of parameters.
        size: the size in bytes.
        dtypes: the number of parameters of each dtype, as safetensors names them.
    """

    name: str
    parameters: int = 0
    size: int = 0
    dtypes: dict[str, int] = attrs.field(factory=dict)

    def add(self, slot: Slot) -> None:
        """Count a tensor in this part."""
        self.parameters += slot.count
        self.size += slot.size
        self.dtypes[slot.dtype] = self.dtypes.get(slot.dtype, 0) + slot.count


@attrs.frozen
class Inventory:
    """The content of a checkpoint.

    Attributes:
        path: the file or folder.
        layout: "original" or "diffusers".
        generation: "2.0", "2.3", "2.5" or "tiny"; "" if nothing tells it.
        version: the version that it gives, or "".
        parts: the parts, in the order of the model.
        num_layers: the number of blocks of the transformer; 0 if it holds none.
        video_scale: the pixel frames, rows and columns that a cell of a video latent covers; None if nothing tells it.
        text_encoder: the text encoder that the model was trained with, in words; "" if it holds no transformer.
        metadata: the file's metadata without its configuration.
    """

    path: Path
    layout: str
    generation: str
    version: str
    parts: tuple[Part, ...]
    num_layers: int
    video_scale: tuple[int, int, int] | None
    text_encoder: str
    metadata: Mapping[str, str]


def inventory(path: Path) -> Inventory | LoraInventory:
    """Describe the content of a checkpoint's file or folder, or of a LoRA.

    Raises:
        CheckpointError: it is missing, incomplete, or neither of these.
    """
    if path.is_dir():
        with building("a model", str(path)):
            return _of_folder(path)
    found = read_file(path)
    if is_lora(found):
        return lora_inventory(found)
    with building("a model", str(found.where)):
        return _of_slots(found)


def _of_slots(found: Slots) -> Inventory:
    config = object_of(found.metadata.get("config"))
    transformer = config.get("transformer")
    parts = _parts(found)
    has_transformer = any(part.name in STREAMS.values() for part in parts)
    version = str(found.metadata.get("model_version") or config.get("model_version") or "")
    generation = found.metadata.get("generation", "")
    if not generation and (isinstance(transformer, dict) or version):
        generation = generation_of(transformer or {}, version)
    return Inventory(
        path=found.where,
        layout="original",
        generation=generation,
        version=version,
        parts=parts,
        num_layers=_layers(found) if has_transformer else 0,
        video_scale=video_scale_of(config) if has_transformer or "vae" in config else None,
        text_encoder=_text_encoder(found.metadata, config, generation) if has_transformer else "",
        metadata={key: value for key, value in found.metadata.items() if key != "config"},
    )


def _parts(found: Slots) -> tuple[Part, ...]:
    parts: dict[str, Part] = {}
    prefix = next((p for p in CHECKPOINT_PREFIXES if any(name.startswith(p) for name in found.slots)), None)
    for name, slot in found.slots.items():
        called = _part_of(name, prefix)
        parts.setdefault(called, Part(called)).add(slot)
    order = [*STREAMS.values(), *(called for _, called in _PREFIXES)]
    return tuple(sorted(parts.values(), key=lambda part: order.index(part.name) if part.name in order else len(order)))


def _part_of(name: str, prefix: str | None) -> str:
    own = name.removeprefix(prefix) if prefix is not None and name.startswith(prefix) else None
    for start, called in _PREFIXES:
        if (name if own is None else own).startswith(start):
            return called
    return "other" if own is None else STREAMS[stream_of(to_diffusers(own))]


def _layers(found: Slots) -> int:
    blocks = {name.partition("transformer_blocks.")[2].partition(".")[0] for name in found.slots if "transformer_blocks." in name}
    return len({block for block in blocks if block.isdigit()})


def _text_encoder(metadata: Mapping[str, str], config: Mapping[str, Any], generation: str) -> str:
    """Name the text encoder that a model was trained with, in words.

    Source: docs/explanation/model-files.md#text-encoders
    """
    told = object_of(metadata.get("gemma_source_checkpoint") or config.get("gemma_source_checkpoint")).get("gemma_version")
    if told:
        return str(told)
    if generation == "tiny":
        return "that of the tiny model"
    numbers = tuple(int(number) for number in generation.split(".")[:2] if number.isdigit())
    return "Gemma 4" if numbers >= _GEMMA_4_SINCE else "Gemma 3 12B"


def _of_folder(path: Path) -> Inventory:
    """Describe a diffusers folder, of a whole model or of one part."""
    folders = [path] if (path / "config.json").is_file() else [path / name for name in _FOLDERS if (path / name / "config.json").is_file()]
    if not folders:
        raise CheckpointError(
            "this folder holds no model: it has neither a config.json nor a folder of a part",
            where=str(path),
            remedy="Name another folder.",
        )
    configs = {folder: read_json(folder / "config.json") for folder in folders}
    transformers = [told for told in configs.values() if told.get("_class_name") == _TRANSFORMER]
    told = transformers[-1] if transformers else {}
    generation = _generation(told) if told else ""
    return Inventory(
        path=path,
        layout="diffusers",
        generation=generation,
        version="",
        parts=tuple(part for folder in folders for part in _parts_of_folder(folder, configs[folder])),
        num_layers=int(told.get("num_layers", 48)) if told else 0,
        video_scale=tuple(told.get("vae_scale_factors", (8, 32, 32))) if told else None,
        text_encoder=_text_encoder({}, {}, generation) if told else "",
        metadata={},
    )


def _generation(told: Mapping[str, Any]) -> str:
    """Return the generation that diffusers' settings show."""
    return generation_of(
        {
            "ff_bias": told.get("ff_bias", True),
            "use_keyframes_abs_pos_embedding": told.get("use_keyframes_abs_pos_embedding", False),
            "caption_proj_before_connector": not told.get("use_prompt_embeddings", True),
        }
    )


def _parts_of_folder(folder: Path, told: Mapping[str, Any]) -> Iterator[Part]:
    parts: dict[str, Part] = {}
    for name, slot in read_folder(folder).slots.items():
        if told.get("_class_name") == _TRANSFORMER:
            called = f"{folder.name}: {STREAMS[stream_of(name)].partition(': ')[2]}"
        elif name.startswith(("video_connector.", "audio_connector.")):
            called = f"{folder.name}: {name.partition('_')[0]}"
        else:
            called = folder.name
        parts.setdefault(called, Part(called)).add(slot)
    yield from sorted(parts.values(), key=lambda part: part.name.endswith("between video and audio"))


@attrs.frozen
class LoraInventory:
    """The content of a LoRA file.

    Attributes:
        path: the file.
        layout: the layout of its names, in words.
        generation: the generation of the base it was made for, if the file gives it, else "".
        modules: the number of adapted modules.
        ranks: the number of modules of each rank.
        targets: the number of modules for each path without its block number (original names).
        streams: the number of modules of each stream, "video", "audio" and "cross".
        parameters: the number of parameters.
        size: the size in bytes.
        dtypes: the dtypes, as safetensors names them.
        has_alpha: whether modules have an alpha of their own.
        is_dora: whether it has magnitudes.
        metadata: the file's whole metadata.
    """

    path: Path
    layout: str
    generation: str
    modules: int
    ranks: Mapping[int, int]
    targets: Mapping[str, int]
    streams: Mapping[str, int]
    parameters: int
    size: int
    dtypes: tuple[str, ...]
    has_alpha: bool
    is_dora: bool
    metadata: Mapping[str, str]


def is_lora(found: Slots) -> bool:
    """Return whether a file holds adapters rather than whole weights."""
    return any(".lora_" in name for name in found.slots)


def lora_inventory(found: Slots) -> LoraInventory:
    """Describe the content of a LoRA file.

    Raises:
        CheckpointError: for all tensors that do not belong to a LoRA of this model.
    """
    roles = {name: parsed(name) for name in found.slots}
    unknown = sorted(name for name, (_, role) in roles.items() if not role)
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} tensors are not part of a LoRA of this model: {listed(unknown)}", where=str(found.where), remedy=""
        )
    ranks = {module: found.slots[name].shape[0] for name, (module, role) in roles.items() if role == A}
    return LoraInventory(
        path=found.where,
        layout=_layout(found),
        generation=found.metadata.get("generation", ""),
        modules=len(ranks),
        ranks=dict(sorted(Counter(ranks.values()).items())),
        targets=dict(sorted(Counter(within_block(to_original(module)) for module in ranks).items())),
        streams=dict(Counter(stream_of(module) for module in sorted(ranks))),
        parameters=sum(slot.count for slot in found.slots.values()),
        size=sum(slot.size for slot in found.slots.values()),
        dtypes=tuple(sorted({slot.dtype for slot in found.slots.values()})),
        has_alpha=any(role == ALPHA for _, role in roles.values()),
        is_dora=any(role == MAGNITUDE for _, role in roles.values()),
        metadata=dict(found.metadata),
    )


def _layout(found: Slots) -> str:
    """Name the layout of a file: it is ComfyUI's if any name is of that layout, since alphas accompany names that other layouts share."""
    layouts = {layout_of(name) for name in found.slots}
    return "ComfyUI" if "ComfyUI" in layouts else min(layouts)

"""The content of a checkpoint (parts with sizes, generation, text encoder) or of a LoRA file, read from headers without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ltxcore.errors import CheckpointError, listed
from ltxcore.gguf_files import PACKED
from ltxcore.headers import FLOATING, Slot, Slots, read_file, read_folder, read_json
from ltxcore.model_config import building, object_of
from ltxcore.model_folder import MODEL, files_in, part_of
from ltxcore.models.adapter_types import TYPE, Types, adapter_types, endings_of, title_of, type_of
from ltxcore.models.lora_header import lora_header
from ltxcore.models.lora_names import layout_of, parsed, unread_format
from ltxcore.models.parameter_names import prefix_of, stream_of, to_diffusers, to_original, within_block
from ltxcore.models.transformer_settings import generation_of, generation_of_tensors, video_scale_of

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
    ("spiece_model", "tokenizer"),
)
_FOLDERS = ("transformer", "transformer_full", "connectors", "vae", "audio_vae", "vocoder", "text_encoder")
_TRANSFORMER = "LTX2VideoTransformer3DModel"
_GEMMA_4_SINCE = (2, 4)


@attrs.define
class Part:
    """A part of a model, with the number, size and dtypes of its parameters.

    Attributes:
        name: the part's name, for messages.
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
        generation: "2.0", "2.3", "2.5" or "tiny"; "" if it is not known.
        version: the version that the checkpoint gives, or "".
        parts: the parts, in the order of the model.
        num_layers: the number of blocks of the transformer; 0 if there is no transformer.
        video_scale: the pixel frames, rows and columns that a cell of a video latent covers; None if this is not known.
        text_encoder: the text encoder that the model was trained with, in words; "" if there is no transformer.
        metadata: the file's metadata without its configuration.
        quantization: how weights are stored in fewer bits, in words; "" if they are not.
        key: the key of `[model]` that the file or folder is for; "" if it is for none.
        lacks: the keys of `[model]` that have to name further files.
        unread: the dtypes of weights that are not read; a file with any is refused.
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
    quantization: str = ""
    key: str = ""
    lacks: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def inventory(path: Path, types: Types | None = None) -> Inventory | LoraInventory:
    """Describe the content of a checkpoint, in a file or a folder, or of a LoRA file.

    Args:
        path: the file or folder.
        types: the known classes of adapters, by name; by default, those of the installed plugins.

    Raises:
        CheckpointError: there is nothing at the path, or what is there is incomplete or of none of these kinds.
    """
    if path.is_dir():
        with building("a model", str(path)):
            return _of_folder(path)
    found = read_file(path)
    if is_lora(found, types):
        return lora_inventory(found, types)
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
    if not generation and has_transformer:
        generation = generation_of_tensors([name.removeprefix(prefix_of(found.slots) or "") for name in found.slots])
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
        quantization=_quantization(found),
        key=part_of(found.slots),
        lacks=_lacking({part.name for part in parts}, generation) if has_transformer else (),
        unread=_unread(parts),
    )


def _quantization(found: Slots) -> str:
    """Return how the weights of a file are stored in fewer bits, in words; "" if they are not."""
    packed = sorted({slot.dtype for slot in found.slots.values() if slot.is_gguf and slot.dtype not in FLOATING})
    if packed:
        return f"GGUF, {', '.join(packed)}"
    eight = [slot for slot in found.slots.values() if slot.dtype.startswith("F8")]
    if not eight:
        return ""
    return "8-bit floating point, " + ("with scales" if any(slot.scale for slot in eight) else "without scales")


def _lacking(parts: Collection[str], generation: str) -> tuple[str, ...]:
    """Return the keys of the parts that a model's file does not hold."""
    if generation == "tiny":
        return ()
    held = {
        "connectors_path": any(name.startswith("text connector") for name in parts),
        "text_encoder_path": "text encoder" in parts,
        "video_vae_path": "video VAE" in parts,
        "audio_vae_path": {"audio VAE", "vocoder"} <= set(parts),
    }
    return tuple(key for key, is_held in held.items() if not is_held)


def _unread(parts: Sequence[Part]) -> tuple[str, ...]:
    """Return the dtypes of weights that are not read. Tokenizers are bytes, and no weights."""
    weights = {dtype for part in parts if part.name not in ("tokenizer", "other") for dtype in part.dtypes}
    return tuple(sorted(weights - FLOATING - PACKED))


def _parts(found: Slots) -> tuple[Part, ...]:
    parts: dict[str, Part] = {}
    prefix = prefix_of(found.slots)
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
    """Return in words the text encoder that a model was trained with.

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
    """Describe a diffusers folder of a whole model or of a part."""
    folders = [path] if (path / "config.json").is_file() else [path / name for name in _FOLDERS if (path / name / "config.json").is_file()]
    if not folders:
        files = [each for found in files_in(path).values() for each in found]
        if files:
            what, remedy = (
                "this is a folder of separate files, each of which is described alone",
                f"Name one of them: {listed(map(str, files))}.",
            )
        else:
            what = "this folder holds no model: it contains neither a config.json nor a folder with a part of a model"
            remedy = "Name another folder."
        raise CheckpointError(what, where=str(path), remedy=remedy)
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
        key=MODEL if told else "",
    )


def _generation(told: Mapping[str, Any]) -> str:
    """Return the generation of a model according to diffusers' settings."""
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
        layout: the layout of the names, in words.
        generation: the generation of the base that the file was made for; "" if the file does not give it.
        modules: the number of adapted modules.
        ranks: the number of modules of each rank.
        targets: the number of modules for each path without block number (original names).
        streams: the number of modules of each stream, "video", "audio" and "cross".
        parameters: the number of parameters.
        size: the size in bytes.
        dtypes: the dtypes, as safetensors names them.
        has_alpha: whether the file has an alpha for each module.
        is_dora: whether the file is a DoRA.
        metadata: the file's whole metadata.
        type: the type of the adapters.
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
    type: str

    @property
    def title(self) -> str:
        """The type of the adapters, as its class spells it."""
        return title_of(self.type)


def is_lora(found: Slots, types: Types | None = None) -> bool:
    """Return whether a file holds adapters rather than whole weights."""
    if TYPE in found.metadata:
        return True
    endings = endings_of(adapter_types() if types is None else types)
    return any(".lora_" in name or parsed(name, endings)[1] or unread_format(name) for name in found.slots)


def type_in(found: Slots) -> str:
    """Return the type of the adapters in a file; "" if it has none. If no plugin here adds the type, the result is the name that the file
    states.
    """
    types = adapter_types()
    endings = endings_of(types)
    names = {parsed(full, endings)[1] for full in found.slots} - {""}
    try:
        return type_of(names, found.metadata, types, str(found.where)).type if names else ""
    except CheckpointError:
        return found.metadata.get(TYPE, "")


def lora_inventory(found: Slots, types: Types | None = None) -> LoraInventory:
    """Describe the content of a file of adapters.

    Raises:
        CheckpointError: as in `lora_header`.
    """
    header = lora_header(found, str(found.where), types)
    modules = header.modules
    return LoraInventory(
        path=found.where,
        layout=_layout(found),
        generation=found.metadata.get("generation", ""),
        modules=len(modules),
        ranks=dict(sorted(Counter(shape.rank for shape in header.shapes.values()).items())),
        targets=dict(sorted(Counter(within_block(to_original(module)) for module in modules).items())),
        streams=dict(Counter(stream_of(module) for module in sorted(modules))),
        parameters=sum(slot.count for slot in found.slots.values()),
        size=sum(slot.size for slot in found.slots.values()),
        dtypes=tuple(sorted({slot.dtype for slot in found.slots.values()})),
        has_alpha=any("alpha" in names for names in modules.values()),
        is_dora=header.kind.type == "dora",  # version 0.1.0 reported it in this form
        metadata=dict(found.metadata),
        type=header.kind.type,
    )


def _layout(found: Slots) -> str:
    """Return the name of a file's layout. A single name in ComfyUI's layout is enough for the result "ComfyUI", since a file with alphas
    also has names that several layouts share.
    """
    layouts = {layout_of(name) for name in found.slots}
    return "ComfyUI" if "ComfyUI" in layouts else min(layouts)

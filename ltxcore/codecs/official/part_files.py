"""Functions that find a model's parts in one unified file, in split files, or in a folder in the layout of diffusers.

The names of tensors in diffusers' modules are turned, one path segment at a time, into their names in the official files.
Source: docs/explanation/model-files.md#layouts, #parts, #names-of-the-other-parts-tensors
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from ltxcore.codecs.official.codec_settings import audio_arguments, video_arguments, vocoder_arguments
from ltxcore.codecs.official.metadata import Section, check_same_release, section
from ltxcore.codecs.official.modules import Part, empty
from ltxcore.codecs.official.vae_shapes import section_of_shapes
from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.headers import Slots, read_file, read_folder, read_json
from ltxcore.model_config import check_sizes

_STATISTICS = {"latents_mean": "per_channel_statistics.mean-of-means", "latents_std": "per_channel_statistics.std-of-means"}
_UNUSED_STATISTICS = ("per_channel_statistics.channel", "per_channel_statistics.mean-of-stds")
_VOCODER = {"upsamplers": "ups", "resnets": "resblocks", "conv_in": "conv_pre", "conv_out": "conv_post", "act_out": "act_post"}


@attrs.frozen
class Kind:
    """A part of a model that diffusers has a class for.

    Attributes:
        name: the part's name, for messages.
        key: the key of `[model]` that names a separate file for the part.
        folder: the part's folder in the layout of diffusers.
        section: the part's section of an official file's configuration.
        prefix: the beginning of the names of the part's tensors in an official file.
    """

    name: str
    key: str
    folder: str
    section: str
    prefix: str


VIDEO_VAE = Kind("video VAE", "video_vae_path", "vae", "vae", "vae.")
AUDIO_VAE = Kind("audio VAE", "audio_vae_path", "audio_vae", "audio_vae", "audio_vae.")
VOCODER = Kind("vocoder", "audio_vae_path", "vocoder", "vocoder", "vocoder.")


def video_vae(model_path: Path, own_path: Path | None) -> Part:
    """Build the video VAE of a model without reading its weights yet.

    Args:
        model_path: the model's file or folder.
        own_path: the separate file or folder of the video VAE, if there is one.

    Raises:
        ConfigError: the model's file does not hold the VAE, and no other file is named.
        CheckpointError: the VAE does not match its configuration, cannot be read, or belongs to a release other than the model's.
    """
    from diffusers import AutoencoderKLLTX2Video

    place = own_path or model_path
    if place.is_dir():
        return _from_folder(VIDEO_VAE, place, {"AutoencoderKLLTX2Video": AutoencoderKLLTX2Video})
    weights, told = _from_file(VIDEO_VAE, model_path, own_path)
    arguments = video_arguments(told, str(place))
    stages = len(arguments["down_block_types"])
    prefix = VIDEO_VAE.prefix if any(name.startswith(VIDEO_VAE.prefix) for name in weights.slots) else ""
    return Part.of(
        VIDEO_VAE.name,
        empty(lambda: AutoencoderKLLTX2Video(**arguments)),
        weights,
        lambda name: prefix + _video_vae_name(name, stages),
        lambda stored: stored.startswith(prefix) and not _is_unused(stored.removeprefix(prefix)),
    )


def audio_vae(model_path: Path, own_path: Path | None) -> Part:
    """Build the audio VAE of a model as `video_vae` does, without reading its weights yet."""
    from diffusers import AutoencoderKLLTX2Audio

    classes = {"AutoencoderKLLTX2Audio": AutoencoderKLLTX2Audio}
    return _audio_part(AUDIO_VAE, model_path, own_path, classes, audio_arguments, _audio_vae_name)


def vocoder(model_path: Path, own_path: Path | None) -> Part:
    """Build the vocoder of a model as `video_vae` builds the video VAE, but from the audio VAE's file. Its weights are not read yet."""
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

    classes = {"LTX2Vocoder": LTX2Vocoder, "LTX2VocoderWithBWE": LTX2VocoderWithBWE}
    return _audio_part(VOCODER, model_path, own_path, classes, vocoder_arguments, _vocoder_name)


def _audio_part(
    kind: Kind,
    model_path: Path,
    own_path: Path | None,
    classes: dict[str, Any],
    arguments_of: Callable[[Section, str], dict[str, Any]],
    named: Callable[[str], str],
) -> Part:
    place = own_path or model_path
    if place.is_dir():
        return _from_folder(kind, place, classes)
    weights, told = _from_file(kind, model_path, own_path)
    arguments = arguments_of(told, str(place))
    # Only the second of the two classes has bandwidth extension and takes arguments for it.
    cls = list(classes.values())[-1 if "bwe_in_channels" in arguments else 0]
    module = empty(lambda: cls(**arguments))
    return Part.of(kind.name, module, weights, lambda name: kind.prefix + named(name), lambda stored: stored.startswith(kind.prefix))


def _from_file(kind: Kind, model_path: Path, own_path: Path | None) -> tuple[Slots, Section]:
    """Read the file that holds a part, and the part's section of its configuration."""
    weights = read_file(own_path or model_path)
    # A section may remain from the file that this one was cut from, so the tensors decide.
    held = own_path is not None or any(name.startswith(kind.prefix) for name in weights.slots)
    told = _told(kind, weights) if held else None
    if told is None and own_path is None:
        raise ConfigError(
            f"this checkpoint holds no {kind.name}, because the model consists of several files",
            where=str(model_path),
            remedy=f"Set {kind.key} under [model] to the file of the {kind.name}.",
        )
    if told is None:
        has = f'its configuration has no section "{kind.section}"' if "config" in weights.metadata else "it states no configuration"
        raise CheckpointError(
            f"this file holds no {kind.name}: {has}, and its tensors are not those of a known one",
            where=str(own_path),
            remedy=f"Set {kind.key} under [model] to another file, such as the official one.",
        )
    if own_path is not None and model_path.is_file():
        check_same_release(kind.name, read_file(model_path), weights)
    return weights, told


def _told(kind: Kind, weights: Slots) -> Section | None:
    """Return a part's section of the configuration or, if the file states none, the one that follows from its tensors; None if they are not
    those of a known part.
    """
    stated = section(weights, kind.section) if "config" in weights.metadata else None
    if stated is not None:
        return stated
    prefix = kind.prefix if any(name.startswith(kind.prefix) for name in weights.slots) else ""
    shapes = {name.removeprefix(prefix): slot.shape for name, slot in weights.slots.items() if name.startswith(prefix)}
    return section_of_shapes(kind.section, shapes)


def _from_folder(kind: Kind, place: Path, classes: dict[str, Any]) -> Part:
    folder = part_folder(place, kind.folder)
    told = read_json(folder / "config.json")
    check_sizes(told, str(folder))
    name = told.get("_class_name")
    if name not in classes:
        raise CheckpointError(
            f"this {kind.name} cannot be loaded: config.json names the class {name}, not {' or '.join(classes)}",
            where=str(folder),
        )
    cls = classes[name]
    arguments = {key: value for key, value in told.items() if not key.startswith("_")}
    strange = sorted(arguments.keys() - inspect.signature(cls).parameters.keys())
    if strange:
        raise CheckpointError(
            f"config.json has settings that {name} does not know: {', '.join(strange)}",
            where=str(folder),
            remedy="A newer version of diffusers may know these settings.",
        )
    return Part.of(kind.name, empty(lambda: cls(**arguments)), read_folder(folder), lambda own: own, lambda stored: True)


def part_folder(place: Path, name: str) -> Path:
    """Find the folder of a part: the sub-folder of this name in a model's folder, or the folder itself if it holds only this part.

    Raises:
        CheckpointError: there is no such folder.
    """
    if (place / name).is_dir():
        return place / name
    if (place / "config.json").is_file():
        return place
    raise CheckpointError(
        f'this folder has neither a folder "{name}" nor a config.json', where=str(place), remedy="Download the complete folder."
    )


def _video_vae_name(name: str, stages: int) -> str:
    """Return a tensor's name, without prefix, in an official video VAE. Its blocks, residual ones alternating with steps between scales,
    are numbered in one sequence.

    Args:
        name: the tensor's name in diffusers' module.
        stages: the number of steps between scales in the encoder.
    """
    segments = name.split(".")
    if name in _STATISTICS:
        return _STATISTICS[name]
    half, *inner = segments
    row = "down_blocks" if half == "encoder" else "up_blocks"
    if inner[0] == "mid_block":
        inner[:1] = [row, str(2 * stages if half == "encoder" else 0)]
    elif inner[0] == row:
        stage = int(inner[1])
        if inner[2] in ("downsamplers", "upsamplers"):
            inner[1:4] = [str(2 * stage + 1)]
        else:
            inner[1] = str(2 * stage if half == "encoder" else 2 * stage + 2)
    return ".".join([half, *("res_blocks" if segment == "resnets" else segment for segment in inner)])


def _audio_vae_name(name: str) -> str:
    """Return a tensor's name, without prefix, in an official audio VAE."""
    return _STATISTICS.get(name, name)


def _vocoder_name(name: str) -> str:
    """Return a tensor's name, without prefix, in an official vocoder."""
    segments = [_VOCODER.get(segment, segment) for segment in name.split(".")]
    if segments[-2:] == ["downsample", "filter"]:
        segments.insert(-1, "lowpass")
    return ".".join(segments)


def _is_unused(name: str) -> bool:
    """Return whether a tensor of a video VAE (name without prefix) is a statistic that encoding and decoding do not need."""
    return name.startswith(_UNUSED_STATISTICS)

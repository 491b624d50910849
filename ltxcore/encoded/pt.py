"""Samples of ltx-trainer, which are `.pt` files of plain tensors; they are read in place and never written.

The keys of a file show what it holds: `latents` (video or audio), `mask`, or `*prompt_embeds` with `prompt_attention_mask`. Legacy files
are read as well: their latents may already be tokens, a single `prompt_embeds` may serve both modalities, and fps may be missing.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ltxcore.encoded.stored import Stored, most_bytes, readable, stored
from ltxcore.errors import DataError, listed

ZIP = b"PK\x03\x04"

SHOWN = 80
"""The maximum number of letters of a value that a message repeats."""

LARGEST_NUMBER = 2**31
"""The bound that a file's frame count, sizes and rate must stay below."""

REFUSED = "Only plain tensors, numbers and strings are read from a .pt file; encode the raw file with `ltx preprocess` instead."


def parse(data: bytes) -> Stored:
    """Parse a sample from the bytes of a `.pt` file. No code in the file is run.

    Raises:
        DataError: the file holds objects other than plain tensors, is truncated, or is not a sample.
    """
    content = _load(data)
    if isinstance(content, Tensor):
        content = {"mask": content}
    if not isinstance(content, Mapping):
        raise DataError(f"holds a value of type {type(content).__name__}, not a table of tensors", remedy=REFUSED)
    if "latents" in content:
        return stored({"latents": _latents(content)}, rate=_number(content, "fps"))
    if "mask" in content:
        mask = _tensor(content, "mask")
        return stored({"mask": mask.float() if mask.dtype == torch.bool else mask})
    if "prompt_attention_mask" in content:
        return _text(content)
    keys = listed(sorted(str(key) for key in content)) or "nothing"
    raise DataError(f"holds {keys}; a sample holds latents, mask, or prompt_embeds with prompt_attention_mask")


def _load(data: bytes) -> Any:
    if not data.startswith(ZIP):  # this also refuses bare pickles of torch before 1.6, which is older than ltx-trainer
        raise DataError("is truncated or not a .pt file")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(each.file_size for each in archive.infolist())
        if unpacked > most_bytes(len(data)):
            raise DataError(f"has {len(data):,} bytes and would take {unpacked:,} when unpacked, so it was not unpacked", remedy=REFUSED)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DataError:
        raise
    except pickle.UnpicklingError:
        raise DataError("holds more than plain tensors, so it was refused, and nothing in it was run", remedy=REFUSED) from None
    except Exception as error:  # damaged bytes make torch's reader fail in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"is truncated or not a .pt file: {reason}") from error


def _latents(content: Mapping[Any, Any]) -> Tensor:
    """Read latents `[C, F, H, W]` or `[C, T, M]`. A legacy file's tokens `[F*H*W, C]` or `[T*M, C]` are put back into their grid."""
    latents = _tensor(content, "latents")
    if latents.ndim != 2:
        return latents
    for keys in (("num_frames", "height", "width"), ("num_time_steps", "frequency_bins")):
        sizes = [_number(content, key) for key in keys]
        if None in sizes:
            continue
        for key, size in zip(keys, sizes, strict=True):
            if size is None or size != size // 1 or size < 1:
                raise DataError(f"{key} is {size:g}, not a number of cells")
        grid = [int(size) for size in sizes if size is not None]
        if math.prod(grid) != latents.shape[0]:
            raise DataError(f"there are {latents.shape[0]} tokens, but {', '.join(keys)} say {' x '.join(map(str, grid))}")
        return latents.unflatten(0, grid).movedim(-1, 0).contiguous()
    raise DataError("latents in the form of tokens need num_frames, height and width (video), or num_time_steps and frequency_bins (audio)")


def _text(content: Mapping[Any, Any]) -> Stored:
    """Read text features and remove their padding, whichever side it is on. A single `prompt_embeds` serves both modalities."""
    names = {"video_prompt_embeds": ("video",), "audio_prompt_embeds": ("audio",), "prompt_embeds": ("video", "audio")}
    features = {modality: _tensor(content, key) for key, modalities in names.items() if key in content for modality in modalities}
    mask = _tensor(content, "prompt_attention_mask").bool()
    for modality, tensor in features.items():
        if mask.ndim != 1 or tensor.ndim != 2 or tensor.shape[0] != mask.shape[0]:
            raise DataError(
                f"the {modality} text features of shape {list(tensor.shape)} do not fit prompt_attention_mask of shape {list(mask.shape)}"
            )
    return stored({modality: tensor[mask] for modality, tensor in features.items()}, length=int(mask.numel()))


def _tensor(content: Mapping[Any, Any], key: str) -> Tensor:
    value = content[key]
    if type(value) is not Tensor or value.layout is not torch.strided or value.is_quantized:
        raise DataError(f"{key} is of type {type(value).__name__}, not a plain tensor", remedy=REFUSED)
    if value.device.type != "cpu":
        raise DataError(f"{key} is a tensor without values", remedy=REFUSED)
    there = value.untyped_storage().nbytes()
    if value.nbytes > most_bytes(there):  # strides of 0 repeat a few values
        raise DataError(f"{key} has the shape {list(value.shape)}, but only {there:,} bytes of data")
    return readable(key, value.detach()) if value.dtype.is_floating_point else value


def _number(content: Mapping[Any, Any], key: str) -> float | None:
    value = content.get(key)
    if type(value) is Tensor and value.numel() == 1:
        value = _tensor(content, key).item()
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        shown = repr(value) if isinstance(value, (str, bool)) else f"of type {type(value).__name__}"
        raise DataError(f"{key} is {shown[:SHOWN]}, not a number")
    if not abs(value) < LARGEST_NUMBER:  # this form of the comparison refuses NaN too
        shown = f"{value:g}" if isinstance(value, float) else f"a number of {value.bit_length()} bits"
        raise DataError(f"{key} is {shown}; its magnitude must be below {LARGEST_NUMBER:,}")
    return value

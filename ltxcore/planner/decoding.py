"""The memory that decoding clips takes on a GPU, counted by running the real decoder on tensors without memory.

Audio is not counted, because its decoder takes little memory compared with the decoder for video.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter

from ltxcore.codecs.official import part_files
from ltxcore.codecs.official.modules import empty
from ltxcore.codecs.official.tiles import Tiling
from ltxcore.errors import ConfigError, LtxError
from ltxcore.model_config import building
from ltxcore.model_folder import transformer_in
from ltxcore.models.base import Base
from ltxcore.planner.hollow import Hollow
from ltxcore.runs.run_plan import Outline

DTYPE = torch.bfloat16
"""The dtype that the video VAE computes in."""

_SINCE_2_3: Mapping[str, Any] = {
    "block_out_channels": (256, 512, 1024, 1024),
    "layers_per_block": (4, 6, 4, 2, 2),
    "decoder_block_out_channels": (256, 512, 512, 1024),
    "decoder_layers_per_block": (4, 6, 4, 2, 2),
    "decoder_spatio_temporal_scaling": (True, True, True, True),
    "decoder_inject_noise": (False, False, False, False, False),
    "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
    "upsample_residual": (False, False, False, False),
    "upsample_factor": (2, 2, 1, 2),
}

RELEASED: Mapping[str, Mapping[str, Any]] = {"2.0": {}, "2.3": _SINCE_2_3, "2.5": _SINCE_2_3}
"""The settings, by generation, in which the video VAE of a released model differs from diffusers' default, for models whose file is
not on this machine.
"""

Cells = tuple[int, int, int]
"""The numbers of latent frames, rows and columns."""


def video_vae_of(found: Outline, base: Base) -> Any:
    """Return the video VAE of a run's clips, without weights; None if the run has none, or uses the tiny codec, which takes next to no
    memory.
    """
    model = found.config.model
    if base.info.generation not in RELEASED:
        return None
    if base.checkpoint is not None:
        try:
            with building("a video VAE", str(model.video_vae_path or model.model_path)):
                return part_files.video_vae(transformer_in(Path(model.model_path)), model.video_vae_path).module
        except ConfigError:
            if model.video_vae_path is None:
                return None  # the run has no codec, and generates nothing
        except LtxError:
            pass
    from diffusers import AutoencoderKLLTX2Video

    return empty(lambda: AutoencoderKLLTX2Video(**RELEASED[base.info.generation]))


def largest(found: Outline, stored: Sequence[int] | None, tiles: bool) -> Cells | None:
    """Find the largest piece that a run decodes at once, from its validation samples or, if it has none, from the held-out clips
    that it generates again.

    Args:
        found: the run without its data.
        stored: the shape of the largest clip in the run's data, `(C, F, H, W)`; None if there is no clip.
        tiles: whether clips are decoded in tiles.
    """
    sizes = sorted((_piece(cells, found, tiles) for cells in _decoded(found, stored)), key=lambda cells: cells[0] * cells[1] * cells[2])
    return sizes[-1] if sizes else None


def _decoded(found: Outline, stored: Sequence[int] | None) -> Iterator[Cells]:
    for sample in found.samples:
        if "video" in sample.canvas.request.generated:
            grid = sample.canvas.target("video")
            yield grid.frames, grid.height, grid.width
    if not found.samples and stored is not None and "video" in found.modalities:
        yield stored[1], stored[2], stored[3]


def _piece(cells: Cells, found: Outline, tiles: bool) -> Cells:
    spans = Tiling().cells(found.info.video_scale) if tiles else (None, None, None)
    frames, rows, columns = (size if span is None else min(size, span[0]) for size, span in zip(cells, spans, strict=True))
    return frames, rows, columns


def decoding(decoder: nn.Module, channels: int, cells: Cells) -> int:
    """Return the bytes that decoding takes: the decoder's weights, and the peak of everything else while it runs.

    Args:
        decoder: the decoder of clips.
        channels: the number of channels of the latents.
        cells: the frames, rows and columns of latent cells that are decoded at once.
    """
    return running(decoder, lambda: decoder(torch.empty(1, channels, *cells, dtype=DTYPE)))


def running(module: nn.Module, run: Callable[[], object]) -> int:
    """Return the bytes that a part of a VAE takes: its weights, and the peak of everything else while `run` runs it."""
    with Hollow() as mode, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for each in module.modules():
            for own, parameter in list(each.named_parameters(recurse=False)):
                each.register_parameter(own, Parameter(torch.empty(parameter.shape, dtype=DTYPE), requires_grad=False))
            for own, buffer in list(each.named_buffers(recurse=False)):
                each.register_buffer(own, torch.empty(buffer.shape, dtype=DTYPE))
        weights = mode.live
        mode.ignore([*module.parameters(), *module.buffers()])
        run()
        return weights + mode.peak

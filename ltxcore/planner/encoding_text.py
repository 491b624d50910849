"""The memory that encoding captions takes on a GPU before a run, counted by running the real text encoder on tensors without memory."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import Parameter

from ltxcore.codecs.official import text
from ltxcore.codecs.official.projections import extractor
from ltxcore.codecs.official.text import LENGTH, GemmaTextEncoder
from ltxcore.config.run_file import ModelTable, RunFile
from ltxcore.errors import LtxError
from ltxcore.model_folder import transformer_in
from ltxcore.planner.hollow import Hollow

DTYPE = torch.bfloat16
"""The dtype that the text encoder computes in."""

MASKS = ("full_attention", "sliding_attention")
"""The names of the masks of Gemma's two kinds of layers."""


def captions_before(config: RunFile) -> int | None:
    """Estimate the memory that encoding captions takes before a run. The result is None if `why_not_counted` gives a reason."""
    encoder = None if _needs_less(config) else text_encoder_of(config.model)
    return None if encoder is None else encoding_captions(encoder, config.preprocessing.batch_size)


def why_not_counted(config: RunFile) -> str:
    """Say why the memory for encoding captions is not known."""
    return _needs_less(config) or "unknown, because the text encoder is not on this machine"


def _needs_less(config: RunFile) -> str:
    if config.acceleration.load_text_encoder_in_8bit:
        return "not counted, because the text encoder has 8-bit weights"
    if config.acceleration.offload_text_encoder:
        return "not counted, because one layer of the text encoder at a time is on the GPU"
    return ""


def text_encoder_of(model: ModelTable) -> GemmaTextEncoder | None:
    """Return a model's text encoder, without weights; None if its files are not on this machine."""
    if not model.model_path or not Path(model.model_path).exists():
        return None
    try:
        return text.load(transformer_in(Path(model.model_path)), model.text_encoder_path, connectors_path=model.connectors_path)
    except LtxError:
        return None


def encoding_captions(encoder: GemmaTextEncoder, batch_size: int) -> int:
    """Return the bytes that encoding captions of the full length takes: the weights, the states of all layers for all captions, and the
    peak of everything else.

    Args:
        encoder: the text encoder.
        batch_size: the number of captions that are encoded at once.

    Source: docs/explanation/arithmetic.md#memory-of-preprocessing
    """
    model, projections = encoder.parts
    with Hollow() as mode, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        known = [*_filled(model.module), *_filled(projections.module)]
        weights = mode.live
        mode.ignore(known)
        ids, positions = (torch.empty(batch_size, LENGTH, dtype=torch.int64) for _ in range(2))
        # Given whole, since a mask of words would be read.
        mask = torch.empty(batch_size, 1, LENGTH, LENGTH, dtype=torch.bool)
        states = model.module(
            input_ids=ids, attention_mask=dict.fromkeys(MASKS, mask), position_ids=positions, output_hidden_states=True, use_cache=False
        ).hidden_states
        encoder.features(extractor(projections), [state[:1] for state in states])
        return weights + mode.peak


def _filled(module: nn.Module) -> list[torch.Tensor]:
    """Give a module weights without memory, and return them."""
    for each in module.modules():
        for own, parameter in list(each.named_parameters(recurse=False)):
            each.register_parameter(own, Parameter(torch.empty(parameter.shape, dtype=DTYPE), requires_grad=False))
        for own, buffer in list(each.named_buffers(recurse=False)):
            each.register_buffer(own, torch.empty(buffer.shape, dtype=buffer.dtype))
    return [*module.parameters(), *module.buffers()]

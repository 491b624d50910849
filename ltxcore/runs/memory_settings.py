"""Check the settings that save memory or time for values that are impossible, alone or together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from ltxcore.config.packages import lacking
from ltxcore.config.run_file import RunFile
from ltxcore.devices import gpus
from ltxcore.models.attention_kernels import KERNELS
from ltxcore.models.base import Base
from ltxcore.models.quantized import is_quantizable
from ltxcore.runs.group_settings import Refusal

KEPT = 2**30
"""The maximum number of bytes of samples that are kept in memory, so that a small set is read once instead of once per epoch."""


def contradictions(config: RunFile) -> Iterator[Refusal]:
    """Find settings that no machine and no engine supports; `engine_problems` finds settings that only some engines do not
    support.
    """
    yield from _quantization(config)
    yield from _offload(config)
    yield from _activations(config)
    yield from _attention(config)
    yield from _one_gpu(config)
    if config.acceleration.load_text_encoder_in_8bit and config.acceleration.offload_text_encoder:
        yield "acceleration.load_text_encoder_in_8bit", "cannot be combined with offload_text_encoder", "Choose one of the two settings."


def missing_here(config: RunFile) -> Iterator[Refusal]:
    """Find what the settings need and this machine lacks: a package, a GPU or a compiler."""
    for what, remedy in lacking(config.acceleration.quantizer, str(config.acceleration.quantization), "int8"):
        yield "acceleration.quantization", what, remedy
    yield from _attention_missing(config)
    yield from _compile(config)
    for what, remedy in lacking(config.optimization.optimizer, config.optimization.optimizer_type, "adamw"):
        yield "optimization.optimizer_type", what, remedy


def _quantization(config: RunFile) -> Iterator[Refusal]:
    key = "acceleration.quantization"
    if config.acceleration.quantization is None:
        return
    if config.model.training_mode == "full":
        what = "is for frozen weights, but full fine-tuning trains all weights"
        if config.model.base is not None:
            what = "would change what the copy of the base predicts, and all other weights are trained"
        yield key, what, 'Remove the key, or set model.training_mode = "lora".'
    elif not getattr(config.lora.adapter, "takes_quantized", True):
        kind = config.lora.type
        yield (
            key,
            f'cannot be combined with the adapter "{kind}", which starts from the weights themselves',
            "Choose one of the two settings.",
        )


def unstorable(config: RunFile, base: Base) -> Iterator[Refusal]:
    """Find one of the model's matrices that the quantizer cannot store."""
    quantizer, name = config.acceleration.quantizer, config.acceleration.quantization
    if quantizer is None:
        return
    for path, shape in base.shapes.items():
        if len(shape) == 2 and is_quantizable(path):
            try:
                quantizer.weight_bytes(shape)
            except ValueError as error:
                what = f'the quantizer "{name}" cannot store {path}, {shape[0]} x {shape[1]}: {error}'
                yield "acceleration.quantization_params", what, f"See `ltx plugins show {name}`, or use another."
                return


def _offload(config: RunFile) -> Iterator[Refusal]:
    key = "acceleration.offload_blocks"
    if config.acceleration.offload_blocks == 0:
        return
    if config.model.training_mode == "full":
        if config.model.base is None:
            yield key, "is for frozen weights, but full fine-tuning trains all weights", 'Set it to 0, or set model.training_mode = "lora".'
        return  # the copy of the base is neither differentiated nor compiled
    if not config.optimization.enable_gradient_checkpointing:
        yield (
            key,
            "saves nothing without gradient checkpointing, because the backward pass would keep the weights of the blocks on the device",
            "Set optimization.enable_gradient_checkpointing = true.",
        )


def _activations(config: RunFile) -> Iterator[Refusal]:
    if config.acceleration.offload_activations and not config.optimization.enable_gradient_checkpointing:
        yield (
            "acceleration.offload_activations",
            "offloads what gradient checkpointing keeps, but checkpointing is not enabled",
            "Set optimization.enable_gradient_checkpointing = true.",
        )
    if config.acceleration.chunked_feed_forward > 1 and config.acceleration.compile:
        key, what = "acceleration.chunked_feed_forward", "cannot be combined with compile: a compiled block is computed as a whole"
        yield key, what, "Choose one of the two settings."
    if config.acceleration.activation_budget_gb is None:
        return
    key = "acceleration.activation_budget_gb"
    if not config.optimization.enable_gradient_checkpointing:
        yield (
            key,
            "is for gradient checkpointing, which is not enabled, so everything is kept",
            "Remove the key, or set optimization.enable_gradient_checkpointing = true.",
        )
    if config.acceleration.compile:
        yield key, "cannot be combined with compile: what a compiled block computes cannot be seen", "Choose one of the two settings."
    if config.acceleration.attention not in ("auto", "sdpa", "flash"):
        what = f'keeps the outputs of attention only if they are from torch, but attention = "{config.acceleration.attention}"'
        yield key, what, 'Remove the key, or set acceleration.attention = "auto".'


def _attention(config: RunFile) -> Iterator[Refusal]:
    key, kernel = "acceleration.attention", KERNELS[config.acceleration.attention]
    if not kernel.trains:
        yield (
            key,
            f'"{kernel.name}" passes no gradients, so it cannot train',
            f'Use "auto" here, and `ltx sample --attention {kernel.name}` to generate.',
        )
    elif kernel.half and config.acceleration.mixed_precision_mode == "no":
        yield key, f'"{kernel.name}" computes in 16 bits only', 'Set acceleration.mixed_precision_mode = "bf16", or use "auto".'


def _attention_missing(config: RunFile) -> Iterator[Refusal]:
    key, kernel = "acceleration.attention", KERNELS[config.acceleration.attention]
    if not kernel.trains:
        return  # refused in any case
    if kernel.on_gpu and not gpus():
        yield key, f'"{kernel.name}" needs a GPU, and there is none', 'Use "auto".'
    for what, remedy in lacking(kernel, kernel.name, "auto"):
        yield key, what, remedy


def _one_gpu(config: RunFile) -> Iterator[Refusal]:
    if config.acceleration.stochastic_rounding:
        key = "acceleration.stochastic_rounding"
        if config.model.training_mode != "full":
            yield (
                key,
                "is for runs that train all weights; the few weights of a LoRA are float32",
                'Remove the key, or set model.training_mode = "full".',
            )
        if config.acceleration.mixed_precision_mode != "bf16":
            yield key, "keeps weights in bfloat16, which float32 arithmetic cannot use", 'Set acceleration.mixed_precision_mode = "bf16".'
    for name in ("stochastic_rounding", "step_in_backward"):
        if getattr(config.acceleration, name) and not getattr(config.optimization.optimizer, "updates_alone", False):
            kind = config.optimization.optimizer_type
            yield (
                f"acceleration.{name}",
                f'updates one weight at a time, but the optimizer "{kind}" looks at all of them, or counts one step for all',
                'Use "adamw", "adafactor" or "lion", or remove the key.',
            )
    if config.acceleration.step_in_backward and config.optimization.gradient_accumulation_steps > 1:
        yield (
            "acceleration.step_in_backward",
            "updates weights after every micro-batch, so gradients cannot be added up over several",
            "Set optimization.gradient_accumulation_steps = 1, with a larger batch_size if there is room.",
        )


def _compile(config: RunFile) -> Iterator[Refusal]:
    if config.acceleration.compile and not _can_compile():
        yield (
            "acceleration.compile",
            "needs a C++ compiler on a CPU, but there is none",
            "Install one (apt-get install g++), name one in the environment variable CXX, or set this key to false.",
        )


def _can_compile() -> bool:
    return gpus() > 0 or shutil.which(os.environ.get("CXX") or "g++") is not None

"""The model of a run: loaded as far as it is needed, with what is trained of it picked out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from torch import Tensor
from torch.nn import Parameter

from ltxcore.codecs.load import METADATA_KEY, TINY, text_encoder
from ltxcore.data.batches import MicroBatch
from ltxcore.engines.single import AUTOCAST
from ltxcore.errors import CheckpointError
from ltxcore.flow.draws import CountedDraws
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load import UNTRAINED, load_backbone
from ltxcore.models.lora import add_lora, load_lora, lora_parameters, save_lora
from ltxcore.models.reach import unreached_parameters
from ltxcore.models.save import save_full
from ltxcore.train.feed import Samples, prepared
from ltxcore.train.loop import total_loss
from ltxcore.train.plan import Outline, RunPlan

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
"""By `checkpoints.precision`."""


@attrs.frozen(eq=False)
class TrainedModel:
    """A backbone on its device.

    Attributes:
        backbone: with adapters, in a LoRA run.
        parameters: those that are trained, by name.
        idle: modules that a LoRA target names, or parameters in full mode, that no loss of this run can reach, so that they are not trained.
        outline: of the run.
    """

    backbone: LTXBackbone
    parameters: Mapping[str, Parameter]
    idle: tuple[str, ...]
    outline: Outline

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the LoRA or the whole model.

        Raises:
            CheckpointError: it could not be written whole, or changes nothing.
        """
        config = self.outline.loaded.config
        dtype = DTYPES[config.checkpoints.precision]
        if config.model.training_mode == "lora":
            save_lora(self.backbone, path, metadata=metadata, dtype=dtype)
        else:
            base = base_of(self.outline)
            said = {**(_of_tiny(base) if base == UNTRAINED else {}), **metadata}
            save_full(self.backbone, path, base=base, dtype=dtype, metadata=said)

    def checkpoint_bytes(self) -> int:
        """How much a checkpoint takes: the export, and for an exact resume the trained parameters with two moments each."""
        config = self.outline.loaded.config
        trained = sum(parameter.numel() for parameter in self.parameters.values())
        full = config.model.training_mode == "full"
        exported = sum(math.prod(shape) for shape in self.backbone.blueprint.shapes.values()) if full else trained
        state = {"full": 12, "minimal": 4, "off": 0}[config.checkpoints.save_training_state]
        return exported * DTYPES[config.checkpoints.precision].itemsize + trained * state


def _of_tiny(base: str) -> dict[str, str]:
    """What a checkpoint of the tiny model says of its codecs, which fresh weights have no file to say."""
    return {METADATA_KEY: TINY, "text_fingerprint": text_encoder(base).fingerprint}


def base_of(outline: Outline) -> str:
    """The checkpoint that weights are read from: in full mode that of `load_checkpoint`, where there is one."""
    model = outline.loaded.config.model
    if model.training_mode == "full" and model.load_checkpoint is not None:
        return str(newest(model.load_checkpoint))
    return model.model_path


def newest(path: Path) -> Path:
    """A weights file, or the one in a folder that was written last.

    Raises:
        CheckpointError: the folder holds none.
    """
    if not path.is_dir():
        return path
    found = sorted(path.rglob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    weights = [file for file in found if file.name != "state.safetensors"]
    if not weights:
        raise CheckpointError("the folder holds no weights", where=str(path), remedy="Name a .safetensors file.")
    return weights[-1]


def load_model(plan: RunPlan, samples: Samples, device: torch.device) -> TrainedModel:
    """The modalities of the run, with adapters in a LoRA run and float32 weights in full mode.

    One backward on the first sample finds what the run's loss reaches: the rest is not trained, since weight decay would move it.

    Raises:
        ConfigError: LoRA targets that no loss reaches.
        CheckpointError: weights that cannot be read or do not fit.
    """
    outline = plan.outline
    config = outline.loaded.config
    full = config.model.training_mode == "full"
    mixed = AUTOCAST[config.acceleration.mixed_precision_mode]
    backbone = load_backbone(
        base_of(outline),
        outline.modalities,
        dtype=torch.float32 if full or mixed is None else mixed,
        gradient_checkpointing=config.optimization.enable_gradient_checkpointing,
        seed=config.seed,
    )
    backbone.to(device)
    unreached = unreached_parameters(backbone, lambda: _one_loss(plan, samples, backbone, device, mixed))
    if full:
        return TrainedModel(backbone, _only_reached(backbone, unreached), tuple(sorted(unreached)), outline)
    reachable = {name for name, _ in backbone.named_parameters()} - unreached
    lora = config.lora
    added = add_lora(
        backbone,
        rank=lora.rank,
        alpha=lora.rank if lora.alpha is None else lora.alpha,
        dropout=lora.dropout,
        target_modules=lora.target_modules,
        reachable=reachable,
        seed=config.seed,
    )
    if config.model.load_checkpoint is not None:
        load_lora(backbone, newest(config.model.load_checkpoint))
    return TrainedModel(backbone, lora_parameters(backbone), added.unreachable, outline)


def _only_reached(backbone: LTXBackbone, unreached: frozenset[str]) -> dict[str, Parameter]:
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name not in unreached)
    return {name: parameter for name, parameter in backbone.named_parameters() if name not in unreached}


def _one_loss(plan: RunPlan, samples: Samples, backbone: LTXBackbone, device: torch.device, mixed: torch.dtype | None) -> Tensor:
    first: MicroBatch = plan.order.micro_batch(0)
    strategy = plan.outline.strategy
    draws = CountedDraws(plan.outline.loaded.config.seed, first.epoch, first.names[:1], first.id)
    inputs = prepared(strategy, backbone, samples.load(first.names[:1], strategy.wanted(draws)), draws, device)
    with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
        predicted = backbone(inputs.get("video"), inputs.get("audio"))
    return total_loss(strategy.loss(predicted, inputs))

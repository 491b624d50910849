"""The model of a run: loaded as far as it is needed, with the trained parameters selected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from torch import Tensor
from torch.nn import Parameter

from ltxcore.codecs.load_codecs import METADATA_KEY, TINY, text_encoder
from ltxcore.config.run_file import RunFile
from ltxcore.encoded.batches import MicroBatch
from ltxcore.engines.saved import AVERAGE, PARAMETER
from ltxcore.engines.single import AUTOCAST
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.loss import total_loss
from ltxcore.models import UNTRAINED
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import DTYPES, load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.offload import place
from ltxcore.models.parameter_names import is_needed
from ltxcore.models.reach import unreached_parameters
from ltxcore.models.save import save_full
from ltxcore.objectives import prompts_of
from ltxcore.protocols import Engine, ModelInput
from ltxcore.runs.engine import weights_dtype
from ltxcore.runs.fits import newest
from ltxcore.runs.run_plan import Outline, RunPlan
from ltxcore.train.feed import Samples, prepared, sent


@attrs.frozen(eq=False)
class TrainedModel:
    """A backbone on its device.

    Attributes:
        backbone: the model, with adapters in a LoRA run.
        parameters: the trained parameters, by name.
        idle: the modules that a LoRA target names, or in full mode the parameters, that are not trained because no loss of this
            run can reach them.
        outline: the outline of the run.
        count: the number of elements that are trained.
        state_bytes: the bytes of the optimizer's state for them; if they are not known, those of AdamW.
    """

    backbone: LTXBackbone
    parameters: Mapping[str, Parameter]
    idle: tuple[str, ...]
    outline: Outline
    count: int = attrs.field(init=False)
    state_bytes: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Counted now: an engine may divide them among processes.
        object.__setattr__(self, "count", sum(parameter.numel() for parameter in self.parameters.values()))
        shapes = ((name, tuple(parameter.shape)) for name, parameter in self.parameters.items())
        found = [self.outline.config.optimization.optimizer.state_bytes(name, shape) for name, shape in shapes]
        object.__setattr__(self, "state_bytes", 8 * self.count if None in found else sum(found))

    def save(self, path: Path, metadata: Mapping[str, str], engine: Engine, averaged: bool = False) -> Path:
        """Write the LoRA or the whole model, with the weights that an engine holds, or with their moving average; called
        within the engine's `first`.

        Returns:
            The file, or the index of a model that was written in parts.

        Raises:
            CheckpointError: it could not be written completely, or changes nothing.
        """
        with engine.evaluating():
            return self._save(path, metadata, engine, averaged)

    def _save(self, path: Path, metadata: Mapping[str, str], engine: Engine, averaged: bool) -> Path:
        config = self.outline.config
        dtype = DTYPES[config.checkpoints.precision]

        def weight(name: str) -> Tensor:
            return engine.whole(f"{AVERAGE if averaged and name in self.parameters else PARAMETER}{name}")

        if config.model.training_mode == "lora":
            save_lora(self.backbone, path, metadata=metadata, dtype=dtype, weight=weight)
            return path
        base, size = base_of(self.outline), config.checkpoints.max_shard_size
        said = {**(_of_tiny(base) if base == UNTRAINED else {}), **metadata}
        largest = None if size is None else int(size * 2**30)
        return save_full(self.backbone, path, base=base, dtype=dtype, metadata=said, weight=weight, largest=largest)

    def checkpoint_bytes(self) -> int:
        """Return the bytes that a checkpoint takes: the export and, for an exact resume, the trained parameters with
        the optimizer's state; and the same for the moving average, if there is one.
        """
        config = self.outline.config
        full = config.model.training_mode == "full"
        exported = sum(math.prod(shape) for shape in self.backbone.blueprint.shapes.values()) if full else self.count
        times = 1 if config.ema.decay is None else 2
        weights = times * self.count * 4
        state = {"full": weights + self.state_bytes, "minimal": weights, "off": 0}[config.checkpoints.save_training_state]
        return times * exported * DTYPES[config.checkpoints.precision].itemsize + state


def _of_tiny(base: str) -> dict[str, str]:
    """Return what a checkpoint of the tiny model records about its VAEs; fresh weights have no file that records it."""
    return {METADATA_KEY: TINY, "text_fingerprint": text_encoder(base).fingerprint}


def base_of(outline: Outline) -> str:
    """Return the checkpoint that weights are read from: in full mode that of `load_checkpoint`, if there is one."""
    model = outline.config.model
    if model.training_mode == "full" and model.load_checkpoint is not None:
        return str(newest(model.load_checkpoint))
    return model.model_path


def load_model(plan: RunPlan, samples: Samples, device: torch.device, *, divided: bool = False) -> TrainedModel:
    """Load the modalities of the run and the further ones that its samples need, with adapters in a LoRA run.

    One backward on the first sample finds what the run's loss reaches; the rest is not trained, since weight decay
    alone would change it. An engine that divides the weights takes them as they are in the file: they are its mapped
    pages until the engine converts and divides them.

    Args:
        plan: the plan of the run.
        samples: the samples of the run.
        device: the device of this process.
        divided: whether an engine will divide the weights among processes.

    Raises:
        ConfigError: no loss reaches the LoRA targets.
        CheckpointError: the weights cannot be read or do not fit.
    """
    outline = plan.outline
    config = outline.config
    full = config.model.training_mode == "full"
    mixed = AUTOCAST[config.acceleration.mixed_precision_mode]
    backbone = load_backbone(
        base_of(outline),
        outline.streams,
        dtype=weights_dtype(config, divided),
        gradient_checkpointing=config.optimization.enable_gradient_checkpointing,
        seed=config.seed,
        quantizer=config.acceleration.quantizer,
        as_stored=divided,
        device=torch.device("cpu") if divided else device,
        offloaded=config.acceleration.offload_blocks,
        with_connectors=_needs_connectors(plan),
    )
    if divided:
        unreached = _unreached_without_weights(plan, samples, backbone)
    else:
        place(backbone, device, config.acceleration.offload_blocks)
        unreached = unreached_parameters(backbone, lambda: _one_loss(plan, samples, backbone, device, mixed))
    # Streams that are only there to generate samples: no loss reaches them, as is expected.
    drawn = {name for name, _ in backbone.named_parameters() if not is_needed(name.removeprefix("transformer."), outline.modalities)}
    unreached |= drawn
    if full:
        return TrainedModel(_compiled(backbone, config), _only_reached(backbone, unreached), tuple(sorted(unreached - drawn)), outline)
    reachable = {name for name, _ in backbone.named_parameters()} - unreached
    added = add_lora(
        backbone,
        **config.lora.adapters(),
        reachable=reachable,
        modalities=outline.modalities,
        seed=config.seed,
        start=None if config.model.load_checkpoint is None else newest(config.model.load_checkpoint),
    )
    trained = {name: parameter for name, parameter in lora_parameters(backbone).items() if parameter.requires_grad}
    return TrainedModel(_compiled(backbone, config), trained, added.unreachable, outline)


def _needs_connectors(plan: RunPlan) -> bool:
    """Return whether any text of a run has yet to pass through the connectors: a prompt, or a sample that was stored
    without them, including those of a held-out dataset.
    """
    texts = [
        entry
        for role, source in plan.outline.strategy.sources().items()
        if source.kind == "text"
        for entry in plan.manifest.entries[role].values()
    ]
    has_prompts = bool(plan.outline.samples or prompts_of(plan.config.objectives))
    return has_prompts or isinstance(plan.config.data.held_out, Path) or not all(entry.connectors for entry in texts)


def _compiled(backbone: LTXBackbone, config: RunFile) -> LTXBackbone:
    """Return the backbone with its blocks compiled, if the run asks for it. This comes last, since a compiled block
    must not be changed any more.
    """
    if config.acceleration.compile:
        for block in backbone.transformer.transformer_blocks:
            block.compile()
    return backbone


def _unreached_without_weights(plan: RunPlan, samples: Samples, backbone: LTXBackbone) -> frozenset[str]:
    """Find the unreached parameters from names and shapes alone, since no device may have room for the whole model;
    only a loss that depends on values needs the weights.
    """
    outline = plan.outline
    bare = outline.base.sketch(outline.modalities)
    inputs = {name: given.to("meta") for name, given in _one_input(plan, samples, backbone, torch.device("cpu")).items()}
    try:
        return unreached_parameters(bare, lambda: total_loss(outline.strategy.loss(bare(inputs.get("video"), inputs.get("audio")), inputs)))
    except (RuntimeError, NotImplementedError):
        # The weights have the dtypes of the file, of which there may be several.
        return unreached_parameters(backbone, lambda: _one_loss(plan, samples, backbone, torch.device("cpu"), torch.bfloat16))


def _only_reached(backbone: LTXBackbone, unreached: frozenset[str]) -> dict[str, Parameter]:
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name not in unreached)
    return {name: parameter for name, parameter in backbone.named_parameters() if name not in unreached}


def _one_loss(plan: RunPlan, samples: Samples, backbone: LTXBackbone, device: torch.device, mixed: torch.dtype | None) -> Tensor:
    inputs = _one_input(plan, samples, backbone, device)
    with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
        predicted = backbone(inputs.get("video"), inputs.get("audio"))
    return total_loss(plan.outline.strategy.loss(predicted, inputs))


def _one_input(plan: RunPlan, samples: Samples, backbone: LTXBackbone, device: torch.device) -> dict[str, ModelInput]:
    first: MicroBatch = plan.order.micro_batch(0)
    strategy = plan.outline.strategy
    draws = CountedDraws(plan.config.seed, first.epoch, first.names[:1], first.id)
    return sent(prepared(strategy, backbone, samples.load(first.names[:1], strategy.wanted(draws)), draws, device), device)

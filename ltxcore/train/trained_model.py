"""Load the parts of a model that a run needs, and select the parameters that it trains."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import Parameter

from ltxcore.codecs.load_codecs import METADATA_KEY, TINY, text_encoder
from ltxcore.config.loras import FROZEN, said_of, strengths
from ltxcore.config.run_file import RunFile
from ltxcore.encoded.batches import MicroBatch
from ltxcore.encoded.streams import absent_of
from ltxcore.engines.saved import AVERAGE, PARAMETER
from ltxcore.engines.single import AUTOCAST
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.loss import total_loss
from ltxcore.models import UNTRAINED
from ltxcore.models.adapter_types import adapter_types
from ltxcore.models.attention import use_kernel
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.base_alone import CopyOfBase
from ltxcore.models.block_inputs import BlockInputs
from ltxcore.models.connectors import Connectors
from ltxcore.models.kept_outputs import KeptOutputs
from ltxcore.models.load_base import DTYPES, load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.lora_stack import put_beside, put_under
from ltxcore.models.offload import place
from ltxcore.models.parameter_names import is_needed
from ltxcore.models.reach import unreached_parameters
from ltxcore.models.save import save_full
from ltxcore.protocols import Engine, ModelInput
from ltxcore.runs.engine import compute_dtype, weights_dtype
from ltxcore.runs.fits import captions_are_connected, newest
from ltxcore.runs.prompts import prompts_of_run
from ltxcore.runs.run_plan import Outline, RunPlan
from ltxcore.train.feed import Samples, prepared, sent


@attrs.frozen(eq=False)
class TrainedModel:
    """A backbone on its device, with the parameters that a run trains.

    Attributes:
        backbone: the model, with adapters in a LoRA run.
        parameters: the trained parameters, by name.
        idle: the modules that match a LoRA target or, in full mode, the parameters that are not trained because no loss of this run reaches
            them.
        outline: the outline of the run.
        frozen: the frozen LoRAs that the run trains on top of, for the metadata of files; "" if there are none.
        attention: the program that computes attention, in words.
        count: the number of elements that are trained.
        state_bytes: the size of the optimizer's state in bytes; if it is not known, the size that AdamW's state would
            have.
    """

    backbone: LTXBackbone
    parameters: Mapping[str, Parameter]
    idle: tuple[str, ...]
    outline: Outline
    frozen: str
    attention: str
    count: int = attrs.field(init=False)
    state_bytes: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Counted now, because an engine may divide the parameters among processes later.
        object.__setattr__(self, "count", sum(parameter.numel() for parameter in self.parameters.values()))
        shapes = ((name, tuple(parameter.shape)) for name, parameter in self.parameters.items())
        found = [self.outline.config.optimization.optimizer.state_bytes(name, shape) for name, shape in shapes]
        object.__setattr__(self, "state_bytes", 8 * self.count if None in found else sum(found))

    @property
    def recorded(self) -> dict[str, Any]:
        """What the record of the run says about the model, for JSON: the frozen LoRAs, if there are any."""
        return {FROZEN: json.loads(self.frozen)} if self.frozen else {}

    def save(self, path: Path, metadata: Mapping[str, str], engine: Engine, averaged: bool = False) -> Path:
        """Write the LoRA or the whole model with an engine's weights, or with their moving average. Call this inside
        the engine's `first`.

        Returns:
            The file, or the index of a model that was written in parts.

        Raises:
            CheckpointError: the file could not be written completely, or the weights have no effect.
        """
        with engine.evaluating():
            return self._save(path, metadata, engine, averaged)

    def _save(self, path: Path, metadata: Mapping[str, str], engine: Engine, averaged: bool) -> Path:
        config = self.outline.config
        dtype = DTYPES[config.checkpoints.precision]
        under = {FROZEN: self.frozen} if self.frozen else {}

        def weight(name: str) -> Tensor:
            return engine.whole(f"{AVERAGE if averaged and name in self.parameters else PARAMETER}{name}")

        if config.model.training_mode == "lora":
            # An adapter may have had no gradient but zeros, such as one of a modality that the samples of a short run lack, or of attention
            # to captions that are all empty. This is no reason to refuse a run its result.
            save_lora(self.backbone, path, metadata={**metadata, **under}, dtype=dtype, weight=weight, all_change=False)
            return path
        base, size = base_of(self.outline), config.checkpoints.max_shard_size
        said = {**(_of_tiny(base) if base == UNTRAINED else {}), **metadata, **under}
        largest = None if size is None else int(size * 2**30)
        return save_full(self.backbone, path, base=base, dtype=dtype, metadata=said, weight=weight, largest=largest)

    def checkpoint_bytes(self) -> int:
        """Return the size of a checkpoint in bytes. It consists of the export and, for an exact resume, of the trained
        parameters and the optimizer's state. A moving average of the weights adds its own export and its own
        parameters.
        """
        config = self.outline.config
        full = config.model.training_mode == "full"
        exported = sum(math.prod(shape) for shape in self.backbone.blueprint.shapes.values()) if full else self.count
        times = 1 if config.ema.decay is None else 2
        weights = times * self.count * 4
        state = {"full": weights + self.state_bytes, "minimal": weights, "off": 0}[config.checkpoints.save_training_state]
        return times * exported * DTYPES[config.checkpoints.precision].itemsize + state


def _of_tiny(base: str) -> dict[str, str]:
    """Return the metadata that a checkpoint of the tiny model has about its VAEs. Fresh weights have no file that could
    contain these metadata.
    """
    return {METADATA_KEY: TINY, "text_fingerprint": text_encoder(base).fingerprint}


def base_of(outline: Outline) -> str:
    """Return the checkpoint that weights are read from: `load_checkpoint` if it is set in full mode, otherwise
    `model_path`.
    """
    model = outline.config.model
    if model.training_mode == "full" and model.load_checkpoint is not None:
        return str(newest(model.load_checkpoint))
    return model.model_path


def load_model(plan: RunPlan, samples: Samples, device: torch.device, *, divided: bool = False) -> TrainedModel:
    """Load the modalities that the run trains and those that only its generated samples need, with adapters in a LoRA
    run.

    A backward pass on the first sample finds the parameters that the run's loss reaches. The others are not trained,
    since weight decay alone would change them. For an engine that divides the weights, the weights stay memory-mapped
    from the file until the engine converts and divides them.

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
    offloaded = 0 if full else config.acceleration.offload_blocks
    backbone = _bare(plan, device, offloaded, divided)
    attention = _set_up(backbone, config, device)
    loras, types = strengths(config.model.loras), adapter_types(outline.loaded.registry)
    frozen = said_of(loras) if loras else ""
    if loras and (full or divided):
        put_beside(backbone, loras, device, types)
    if divided:
        unreached = _of_all_kinds(plan, lambda each: _unreached_without_weights(plan, samples, each, backbone))
    else:
        place(backbone, device, offloaded)
        unreached = _of_all_kinds(
            plan, lambda each: unreached_parameters(backbone, lambda: _one_loss(plan, samples, each, backbone, device, mixed))
        )
    # Streams that are loaded only to generate samples; no loss is expected to reach them.
    drawn = {name for name, _ in backbone.named_parameters() if not is_needed(name.removeprefix("transformer."), outline.modalities)}
    unreached |= drawn
    if full:
        if config.model.base is not None:
            backbone.copy_of_base = CopyOfBase(_copy_of_base(outline, device))
        trained, idle = _only_reached(backbone, unreached), tuple(sorted(unreached - drawn))
        return TrainedModel(_compiled(backbone, config), trained, idle, outline, frozen, attention)
    reachable = {name for name, _ in backbone.named_parameters()} - unreached
    if loras and not divided:
        put_under(backbone, loras, types)
    added = add_lora(
        backbone,
        **config.lora.adapters(),
        reachable=reachable,
        modalities=outline.modalities,
        seed=config.seed,
        start=None if config.model.load_checkpoint is None else newest(config.model.load_checkpoint),
    )
    trained = {name: parameter for name, parameter in lora_parameters(backbone).items() if parameter.requires_grad}
    return TrainedModel(_compiled(backbone, config), trained, added.unreachable, outline, frozen, attention)


def _bare(plan: RunPlan, device: torch.device, offloaded: int, divided: bool) -> LTXBackbone:
    """Load the base without adapters; `offloaded` is the number of its blocks that will be in host memory. The other arguments are those of
    `load_model`.
    """
    outline = plan.outline
    config = outline.config
    of_captions = _captions_need_connectors(plan)
    backbone = load_backbone(
        base_of(outline),
        outline.streams,
        dtype=weights_dtype(config, divided),
        gradient_checkpointing=config.optimization.enable_gradient_checkpointing,
        seed=config.seed,
        quantizer=config.acceleration.quantizer,
        as_stored=divided,
        device=torch.device("cpu") if divided else device,
        offloaded=offloaded,
        with_connectors=of_captions or bool(outline.samples or prompts_of_run(config)),
        connectors_path=config.model.connectors_path,
    )
    if isinstance(backbone.connectors, Connectors) and not of_captions:
        backbone.connectors = attrs.evolve(backbone.connectors, are_away=True)
    return backbone


def _set_up(backbone: LTXBackbone, config: RunFile, device: torch.device) -> str:
    """Choose the program that computes attention in a backbone without adapters, and what the backbone keeps for the backward pass. Return
    the program, in words.
    """
    attention = use_kernel(backbone, config.acceleration.attention, device, compute_dtype(config), training=True)
    if config.acceleration.offload_activations:
        backbone.transformer.block_inputs = BlockInputs.on(device)
    backbone.transformer.chunk_feed_forward(config.acceleration.chunked_feed_forward)
    if config.acceleration.activation_budget_gb is not None:
        backbone.transformer.kept_outputs = KeptOutputs(int(config.acceleration.activation_budget_gb * 2**30))
    return attention


def _copy_of_base(outline: Outline, device: torch.device) -> LTXBackbone:
    """Load the base once more, as a LoRA run holds it: in the dtype of matrix products, with its first blocks in host memory if the run
    asks for block swap. The model's inputs have already passed through the text connectors.
    """
    config = outline.config
    copy = load_backbone(
        config.model.model_path,
        outline.modalities,
        dtype=compute_dtype(config),
        seed=config.seed,
        device=device,
        offloaded=config.acceleration.offload_blocks,
        with_connectors=False,
    )
    use_kernel(copy, config.acceleration.attention, device, compute_dtype(config), training=False)
    place(copy, device, config.acceleration.offload_blocks)
    if config.model.loras:
        types = adapter_types(outline.loaded.registry)
        put_beside(copy, strengths(config.model.loras), device, types, connectors=False)
    return copy


def _captions_need_connectors(plan: RunPlan) -> bool:
    """Return whether any caption of a run has yet to pass through the connectors; a separate held-out dataset counts as having such
    captions. The samples of objectives' datasets count as samples of the run.
    """
    all_connected = all(captions_are_connected(each.outline, each.manifest) for each in (plan, *plan.datasets.values()))
    return isinstance(plan.config.data.held_out, Path) or not all_connected


def _compiled(backbone: LTXBackbone, config: RunFile) -> LTXBackbone:
    """Compile the blocks of the backbone, if the run asks for it, and return the backbone. This comes last, since a block must not change
    after it is compiled.

    Only the forward is compiled. The hooks around it stay as they are, since block swap exchanges weights in them.
    """
    if config.acceleration.compile:
        for block in backbone.transformer.transformer_blocks:
            block.forward = torch.compile(block.forward)
    return backbone


def _of_all_kinds(plan: RunPlan, unreached: Callable[[MicroBatch], frozenset[str]]) -> frozenset[str]:
    """Return the parameters that no loss reaches, whichever of the run's combinations of modalities the samples have."""
    order, firsts = plan.order, dict[frozenset[str], MicroBatch]()
    for index in range(order.per_epoch if order.kinds else 1):
        first = order.micro_batch(index)
        firsts.setdefault(absent_of(plan.manifest, first.names[0]), first)
    return frozenset.intersection(*map(unreached, firsts.values()))


def _unreached_without_weights(plan: RunPlan, samples: Samples, first: MicroBatch, backbone: LTXBackbone) -> frozenset[str]:
    """Find, from names and shapes alone, the parameters that no loss reaches, since perhaps no device can hold the
    whole model. Only a loss that depends on values needs the weights.
    """
    outline = plan.outline
    bare = outline.base.sketch(outline.modalities)
    inputs = {name: given.to("meta") for name, given in _one_input(plan, samples, first, backbone, torch.device("cpu")).items()}
    try:
        return unreached_parameters(bare, lambda: total_loss(outline.strategy.loss(bare(inputs.get("video"), inputs.get("audio")), inputs)))
    except (RuntimeError, NotImplementedError):
        # The weights keep the dtypes that they have in the file, which may differ between weights.
        return unreached_parameters(backbone, lambda: _one_loss(plan, samples, first, backbone, torch.device("cpu"), torch.bfloat16))


def _only_reached(backbone: LTXBackbone, unreached: frozenset[str]) -> dict[str, Parameter]:
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name not in unreached)
    return {name: parameter for name, parameter in backbone.named_parameters() if name not in unreached}


def _one_loss(
    plan: RunPlan, samples: Samples, first: MicroBatch, backbone: LTXBackbone, device: torch.device, mixed: torch.dtype | None
) -> Tensor:
    inputs = _one_input(plan, samples, first, backbone, device)
    with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
        predicted = backbone(inputs.get("video"), inputs.get("audio"))
    return total_loss(plan.outline.strategy.loss(predicted, inputs))


def _one_input(plan: RunPlan, samples: Samples, first: MicroBatch, backbone: LTXBackbone, device: torch.device) -> dict[str, ModelInput]:
    """Return the model's input for the first sample of a micro-batch, without the modalities that the sample lacks."""
    strategy = plan.outline.strategy
    draws = CountedDraws(plan.config.seed, first.epoch, first.names[:1], first.id)
    inputs = prepared(strategy, backbone, samples.load(first.names[:1], strategy.wanted(draws)), draws, device)
    return sent({name: given for name, given in inputs.items() if not given.is_absent}, device)

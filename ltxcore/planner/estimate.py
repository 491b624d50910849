"""The memory that a run needs on each device and in host memory, and the space that it needs on disk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from ltxcore.config.loras import strengths
from ltxcore.config.run_file import RunFile
from ltxcore.encode.buckets import Bucket
from ltxcore.engines.single import AUTOCAST
from ltxcore.engines.zero_config import Config, Wanted, resolve
from ltxcore.engines.zero_sizes import WeightShapes
from ltxcore.files import is_file
from ltxcore.models.adapter_types import adapter_types
from ltxcore.models.base import Base
from ltxcore.models.load_base import DTYPES
from ltxcore.models.lora_stack import found_for
from ltxcore.objectives import PassCount
from ltxcore.planner.activations import Activations, Choice, Tracer, activations_of, traced
from ltxcore.planner.decoding import decoding, largest, video_vae_of
from ltxcore.planner.encoding import encoding
from ltxcore.planner.engine_states import States, is_away, single_states, states_of, zero_states
from ltxcore.planner.generating import Generating, generating, largest_sample
from ltxcore.planner.largest_batch import Shapes, inputs_of, of_bucket, of_manifest, text_length
from ltxcore.planner.parameters import Parameters, parameters_of
from ltxcore.planner.trace import Trace
from ltxcore.protocols import ModelInput
from ltxcore.runs.engine import compute_dtype, uses_zero, weights_dtype
from ltxcore.runs.fits import captions_are_connected
from ltxcore.runs.memory_settings import KEPT
from ltxcore.runs.run_plan import Outline, RunPlan
from ltxcore.sample.media_needs import Planned

SHARE, CONTEXT = 0.1, 2**30
"""The margin: a tenth for fragmentation and the kernels' workspace, and one GiB for the device's context. This is a
convention; neither can be computed.
"""

PROCESS = 3 * 2**30
"""The host memory of a process itself, with its libraries. This is a convention, as above."""


CLIP = 4
"""The number of dimensions of the latents of a clip."""

NONE = Activations(saved=0, peak=0, inputs=0)
"""The activations of an estimate that does not count them."""


def with_margin(peak: int) -> int:
    """Return the bytes of a device that is large enough for a peak."""
    return int(peak * (1 + SHARE)) + CONTEXT


@attrs.frozen
class Need:
    """The bytes that a run needs.

    Attributes:
        parameters: the parameters of the run.
        states: the weights, gradients, optimizer and communication of each process.
        activations: the activations of the largest micro-batch.
        processes: the number of processes of the run.
        nodes: the number of machines, over which the processes are divided evenly.
        checkpoint: the bytes of one checkpoint.
        exported: the bytes of the exported LoRA or model.
        best: the bytes of the best weights while better weights are written beside them; 0 if the run keeps no best weights.
        checkpoints: the largest number of checkpoints on disk at once.
        engine: the engine, in words.
        decoding: the bytes on the first device while clips are decoded: the decoder's weights, and everything else while it runs.
        generating: the bytes of one step of generation of the largest validation sample, besides the weights.
        makes_room: whether the optimizer's state is in host memory while samples are generated and decoded.
        is_whole: whether the size of the optimizer's state is known; if not, the state is left out.
        passes: the forwards and backwards of a micro-batch.
        accumulation: the micro-batches of an optimizer step on each device.
        batch_size: the samples of a micro-batch.
        stage: the ZeRO stage; 0 for one process.
        itemsize: the bytes of a weight that processes exchange.
        traced: the trace from which the activations follow; None in an estimate without activations.
        early: the part of the gradients that exists while the activations are at their peak, as the backward begins.
    """

    parameters: Parameters
    states: States
    activations: Activations
    processes: int
    nodes: int
    checkpoint: int
    exported: int
    best: int
    checkpoints: int
    engine: str
    decoding: int = 0
    generating: int = 0
    makes_room: bool = False
    is_whole: bool = True
    passes: PassCount = attrs.field(factory=lambda: PassCount.of([]))
    accumulation: int = 1
    batch_size: int = 1
    stage: int = 0
    itemsize: int = 2
    traced: Trace | None = None
    early: int = 0

    @property
    def backward(self) -> int:
        """The peak on a device in forward and backward: at the beginning of the backward, with the most activations; at its end, with the
        most gradients; or after it, while gradients are reduced. In between, each block replaces its activations by its gradients, so the
        sum is largest at one of the two ends. At the end, the gradients of the first block are counted in addition to its activations,
        although most of the gradients appear only after activations are freed, since a plan must not be too low.
        """
        states = self.states
        begins, ends = self.early + self.activations.peak, states.gradients + self.activations.late
        most = max(states.communication + max(begins, ends), states.reducing)
        return states.lasting + states.optimizer + self.activations.inputs + most

    @property
    def update(self) -> int:
        """The peak on a device in an optimizer step."""
        states = self.states
        return states.lasting + states.optimizer + states.step

    @property
    def drawing(self) -> int:
        """The peak on the first device while samples are generated and decoded between two steps; 0 if there are none."""
        each = [made for made in (self.generating and self.generating + self.states.gathered, self.decoding) if made]
        if not each:
            return 0
        states = self.states
        return states.lasting + states.kept + (0 if self.makes_room else states.optimizer) + max(each)

    @property
    def device(self) -> int:
        """The peak on a device, without a margin. Source: docs/explanation/arithmetic.md#memory-of-a-device"""
        return max(self.backward, self.update, self.drawing)

    @property
    def moment(self) -> str:
        """A description of the moment of the peak on a device."""
        drawn = "as samples are generated" if self.generating + self.states.gathered > self.decoding else "as samples are decoded"
        moments = {"in forward and backward": self.backward, "as the optimizer steps": self.update, drawn: self.drawing}
        return max(moments, key=lambda name: moments[name])

    @property
    def with_margin(self) -> int:
        """The peak on a device, with the margin."""
        return with_margin(self.device)

    @property
    def exchanged(self) -> int:
        """The bytes that a device sends in an optimizer step to the others that divide the tokens of a micro-batch with it."""
        return self.accumulation * self.activations.exchanged

    def fits(self, memory: int) -> bool:
        """Return whether a device with this many bytes is large enough."""
        return self.with_margin <= memory

    @property
    def offloaded(self) -> int:
        """The bytes of a process that are offloaded to host memory."""
        return self.states.host + self.activations.host

    @property
    def host(self) -> int:
        """The host memory of a machine: its processes, the data that they keep, and the parts of the run that are offloaded.

        Source: docs/explanation/arithmetic.md#host-memory
        """
        here = -(-self.processes // self.nodes)
        return here * (self.offloaded + PROCESS + KEPT)


@attrs.define(eq=False)
class Estimator:
    """An estimator of what a run needs, with its own or with changed settings; it traces nothing twice.

    Attributes:
        found: the run without its data.
        base: the model.
        shapes: the shapes of the run's largest micro-batch.
        nodes: the number of machines.
        tell: a function that is called with a message before work that takes seconds.
        others: the shapes of the largest micro-batches of the datasets of objectives.
        are_connected: whether the run's captions are already stored as they are after the text connectors.
    """

    found: Outline
    base: Base
    shapes: Shapes
    nodes: int = 1
    tell: Callable[[str], None] = lambda _: None
    others: Sequence[Shapes] = ()
    are_connected: bool = False
    _tracer: Tracer = attrs.field(init=False)
    _traces: dict[Any, Trace] = attrs.field(factory=dict, init=False)
    _known: dict[str, Mapping[str, ModelInput]] = attrs.field(factory=dict, init=False)
    _parameters: dict[Any, Parameters] = attrs.field(factory=dict, init=False)
    _decoding: dict[Any, int] = attrs.field(factory=dict, init=False)
    _generating: dict[str, Generating] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        loras = [lora for lora in strengths(self.found.config.model.loras) if is_file(lora.path)]  # they may be on another machine
        backbone = self.base.described(self.found.streams)
        frozen = found_for(backbone, loras, adapter_types(self.found.loaded.registry), sketch=True) if loras else None
        self._tracer = Tracer(self.base, self.found.strategy, frozen)

    @classmethod
    def of(cls, plan: RunPlan) -> Estimator:
        """Return the estimator of a run whose data are encoded."""
        others = [of_manifest(each.manifest, each.outline) for each in plan.datasets.values()]
        are_connected = captions_are_connected(plan.outline, plan.manifest)
        return cls(plan.outline, plan.outline.base, of_manifest(plan.manifest, plan.outline), others=others, are_connected=are_connected)

    def need(self, config: RunFile, processes: int, size: Bucket | None = None) -> Need:
        """Estimate what a run with these settings needs.

        Args:
            config: the run file, or a variant of it.
            processes: the number of processes of the run.
            size: the size of clips, instead of the run's own.

        Raises:
            ConfigError: the DeepSpeed configuration contradicts the run file.
        """
        without = self.without_activations(config, processes)
        choice = _choice(config, self.found.modalities, uses_zero(config, processes))
        traces = [self._traced(config, choice, size, shapes) for shapes in (self.shapes, *self.others)]
        each = [activations_of(one, choice) for one in traces]
        activations = max(each, key=lambda one: one.peak).of_several(without.passes.at_once)
        activations = attrs.evolve(activations, inputs=sum(one.inputs for one in each))
        at_once = self._shapes_of(size).at_once(config)
        return attrs.evolve(
            without,
            activations=activations,
            traced=traces[0],
            decoding=self.decoding(config, size),
            generating=self.generating(config, choice),
            batch_size=at_once,
        )

    def decoding(self, config: RunFile, size: Bucket | None = None) -> int:
        """Estimate the memory that decoding the run's clips takes; 0 if the run decodes no clips, or uses the tiny VAE. The
        arguments are those of `need`.
        """
        cells = largest(self.found, self._shapes_of(size).roles.get("video"), config.acceleration.vae_tiling)
        if cells not in self._decoding:
            vae = None if cells is None else video_vae_of(self.found, self.base)
            self._decoding[cells] = 0 if vae is None or cells is None else decoding(vae.decoder, self.base.token_widths["video"], cells)
        return self._decoding[cells]

    def encoding(self, tiles: bool) -> int:
        """Estimate the memory that encoding the clips of the largest micro-batch takes, before the run; 0 if there are no clips, or the VAE
        is the tiny one. `tiles` is true if clips are encoded in tiles.
        """
        cells = self.shapes.roles.get("video")
        vae = None if cells is None or len(cells) < CLIP else video_vae_of(self.found, self.base)
        if vae is None or cells is None:
            return 0
        return encoding(vae.encoder, (cells[1], cells[2], cells[3]), self.base.info.video_scale, tiles=tiles)

    def generating(self, config: RunFile, choice: Choice | None = None) -> int:
        """Estimate the memory that a step of generation of the largest validation sample takes besides the weights; 0 if there are no
        samples. `choice` are the settings that count, by default those of one process.
        """
        drawn = self._drawn
        if drawn is None:
            return 0
        choice = _choice(config, self.found.modalities, False) if choice is None else choice
        choice = attrs.evolve(choice, modalities=self.found.streams)
        key = repr(attrs.astuple(attrs.evolve(choice.plain, budget=None), recurse=False))
        if key not in self._generating:
            self.tell(f"generating a sample with {self._tracer.said(choice)} without memory{_adapters(choice)}")
            self._generating[key] = generating(self._tracer, choice, self._inputs(self.shapes), *drawn)
        return self._generating[key].peak(choice)

    @functools.cached_property
    def _drawn(self) -> tuple[Planned, Mapping[str, ModelInput]] | None:
        return largest_sample(self.found.samples, self.base, text_length(self.base))

    def _shapes_of(self, size: Bucket | None) -> Shapes:
        return self.shapes if size is None else of_bucket(self.found, self.base, size, self.shapes.rate)

    def _shapes(self, config: RunFile, parameters: Parameters) -> WeightShapes:
        """Return what `engines.zero_build` derives DeepSpeed's sizes from."""
        is_adapter = config.model.training_mode == "lora"
        weights = ((each.name, each.shape, each.times, is_adapter and each.is_trained) for each in parameters.divisible.weights)
        return WeightShapes.of(weights, self.base.num_layers)

    def without_activations(self, config: RunFile, processes: int) -> Need:
        """Return the need without activations, which take seconds to count; the run needs at least this much.

        Raises:
            ConfigError: as for `need`.
        """
        divided = uses_zero(config, processes)
        choice = _choice(config, self.found.modalities, divided)
        parameters = self._of_parameters(config, choice)
        if divided:
            wanted = resolve(Wanted.of(config, processes), config.engine.deepspeed_config, self._shapes(config, parameters))
            state_bytes = config.optimization.optimizer.state_bytes
            states, engine = zero_states(parameters, wanted, processes, state_bytes, _adds(config)), _said(wanted)
        else:
            wanted = None
            states, engine = self._single(config, parameters, choice), "one process"
        if config.ema.decay is not None:
            away = wanted is not None and is_away(wanted["zero_optimization"], "offload_optimizer")
            mine = -(-parameters.trained // (processes if divided else 1))
            states = states.with_average(mine, on_host=away or config.ema.device == "cpu")
        if config.model.base is not None:
            copy = _states_of_copy(config, parameters, self.found.modalities, self.base.num_layers)
            states = attrs.evolve(states, copy=copy.weights, host=states.host + copy.host)
        stage = 0 if wanted is None else wanted["zero_optimization"]["stage"]
        checkpoint, exported, best = _saved(config, parameters)
        keep = config.checkpoints.keep_last_n
        interval = config.checkpoints.interval
        made = 0 if interval is None else (config.optimization.steps - 1) // interval
        return Need(
            parameters=parameters,
            states=states,
            activations=NONE,
            processes=processes,
            nodes=self.nodes,
            checkpoint=checkpoint,
            exported=exported,
            best=best,
            # A new checkpoint is complete before an old one is removed.
            checkpoints=min(made, keep + 1) if keep > 0 else made,
            engine=engine,
            makes_room=config.acceleration.offload_optimizer_during_validation and not divided,
            is_whole=states_of(parameters, config.optimization.optimizer.state_bytes) is not None,
            passes=PassCount.of(config.objectives),
            accumulation=config.optimization.gradient_accumulation_steps,
            batch_size=self.shapes.at_once(config),
            stage=stage,
            itemsize=choice.dtype.itemsize,
            early=_early(config, parameters, states, stage),
        )

    def _single(self, config: RunFile, parameters: Parameters, choice: Choice) -> States:
        return single_states(
            parameters,
            dtype=choice.dtype,
            quantizer=config.acceleration.quantizer,
            state_bytes=config.optimization.optimizer.state_bytes,
            trained=torch.bfloat16 if config.acceleration.stochastic_rounding else torch.float32,
            in_backward=config.acceleration.step_in_backward,
            copies=getattr(config.optimization.optimizer, "copies_in_step", 0),
            offloaded=config.acceleration.offload_blocks if config.model.training_mode == "lora" else 0,
            num_layers=self.base.num_layers,
        )

    def _of_parameters(self, config: RunFile, choice: Choice) -> Parameters:
        key = None if choice.lora is None else attrs.astuple(choice.lora, recurse=False).__repr__()
        if key not in self._parameters:
            inputs = self._inputs(self.shapes)
            self.tell(f"counting the parameters of {self.found.info.name}{_adapters(choice)}")
            self._parameters[key] = parameters_of(self._tracer, self.found.streams, choice, inputs)
        found = self._parameters[key]
        return attrs.evolve(found, connectors=0) if self._connectors_are_away(config) else found

    def _connectors_are_away(self, config: RunFile) -> bool:
        """Return whether no step needs the connectors, as far as this is known without the samples of objectives' datasets."""
        are_connected = config.preprocessing.connector_outputs or self.are_connected
        return are_connected and not self.others and not isinstance(config.data.held_out, Path)

    def _inputs(self, shapes: Shapes) -> Mapping[str, ModelInput]:
        key = repr((shapes.roles, shapes.rates, sorted(shapes.absent)))
        if key not in self._known:
            inputs = inputs_of(self.found, self.base, shapes, 1)
            self._known[key] = {name: each.to("cpu") for name, each in inputs.items()}  # finds the shared levels once
        return self._known[key]

    def _traced(self, config: RunFile, choice: Choice, size: Bucket | None, shapes: Shapes) -> Trace:
        shapes = shapes if size is None else of_bucket(self.found, self.base, size, shapes.rate)
        batch_size = shapes.at_once(config)
        key = (repr(attrs.astuple(choice.plain, recurse=False)), batch_size, repr(shapes.roles))
        if key not in self._traces:
            inputs = self._inputs(shapes)
            self.tell(f"running {self._tracer.said(choice)} without memory{_adapters(choice)}: {_ways(choice)}, {batch_size} at a time")
            self._traces[key] = self._tracer.traced(choice, inputs, batch_size)
        return self._traces[key]


def _adds(config: RunFile) -> bool:
    """Return whether a step adds up the gradients of several backward passes."""
    return config.optimization.gradient_accumulation_steps > 1 or PassCount.of(config.objectives).backwards > 1


def _early(config: RunFile, parameters: Parameters, states: States, stage: int) -> int:
    """Return the bytes of gradients that exist while the last block computes its backward: without those of an earlier backward, only those
    of this block and of what comes after it. Stages 2 and 3 of ZeRO allocate all at once.
    """
    if stage > 1 or _adds(config) or config.acceleration.step_in_backward:
        return states.gradients
    return round(states.gradients * parameters.last_trained / parameters.trained) if parameters.trained else 0


def _states_of_copy(config: RunFile, parameters: Parameters, modalities: frozenset[str], num_layers: int) -> States:
    """Return the states of the frozen copy of the base, which every process holds completely."""
    return single_states(
        parameters.frozen(modalities),
        dtype=compute_dtype(config),
        quantizer=None,
        state_bytes=lambda name, shape: 0,
        offloaded=config.acceleration.offload_blocks,
        num_layers=num_layers,
    )


def _choice(config: RunFile, modalities: frozenset[str], divided: bool) -> Choice:
    """Return the dtypes that `train.trained_model.load_model` and the engines choose."""
    mixed = AUTOCAST[config.acceleration.mixed_precision_mode]
    is_full = config.model.training_mode == "full"
    whole, budget = weights_dtype(config, divided), config.acceleration.activation_budget_gb
    return Choice(
        modalities=modalities,
        lora=None if is_full else config.lora,
        dtype=whole,
        adapter_dtype=whole if divided else torch.float32,
        autocast=None if divided else mixed,
        checkpointing=config.optimization.enable_gradient_checkpointing,
        quantizer=traced(config.acceleration.quantizer),
        offloading=config.acceleration.offload_activations,
        sequence_parallel=config.engine.sequence_parallel,
        budget=None if budget is None else int(budget * 2**30),
        chunks=config.acceleration.chunked_feed_forward,
    )


def _adapters(choice: Choice) -> str:
    return "" if choice.lora is None else f" with a {choice.lora.in_words}"


def _ways(choice: Choice) -> str:
    """Describe how a step is computed."""
    precision = str(choice.autocast or choice.dtype).removeprefix("torch.")
    quantized = ", quantized" * (choice.plain.quantizer is not None) + ", in chunks" * (choice.chunks > 1)
    divided = f", tokens divided among {choice.sequence_parallel}" * (choice.sequence_parallel > 1)
    return precision + quantized + divided


def _said(config: Config) -> str:
    zero = config["zero_optimization"]
    away = [name for part, name in (("offload_optimizer", "optimizer"), ("offload_param", "weights")) if is_away(zero, part)]
    return f"ZeRO stage {zero['stage']}{', ' + ' and '.join(away) + ' in CPU memory' if away else ''}"


def _saved(config: RunFile, parameters: Parameters) -> tuple[int, int, int]:
    """Return the bytes of a checkpoint, of the run's result, and of the best weights together with the weights that replace them.
    Source: docs/explanation/arithmetic.md#disk
    """
    numbers = parameters.whole if config.model.training_mode == "full" else parameters.trained
    exported = numbers * DTYPES[config.checkpoints.precision].itemsize
    moments = states_of(parameters, config.optimization.optimizer.state_bytes)
    times = 1 if config.ema.decay is None else 2
    weights = times * parameters.trained * 4
    whole = weights + (parameters.trained * 8 if moments is None else moments)
    state = {"full": whole, "minimal": weights, "off": 0}[config.checkpoints.save_training_state]
    return times * exported + state, times * exported, 2 * exported if config.checkpoints.keep_best else 0

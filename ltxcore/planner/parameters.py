"""The parameters of a run and their sizes: the trained and the frozen parameters, and their number in each kind of block.

The module also computes the bytes that the weights of a run take, in a file and in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod

import attrs
import torch

from ltxcore.models.adapters import adapters
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.frozen_loras import frozen_layers
from ltxcore.models.parameter_names import is_needed, is_of_connectors
from ltxcore.models.quantized import is_quantizable
from ltxcore.planner.activations import Choice, Tracer
from ltxcore.protocols import ModelInput
from ltxcore.quantizers import QuantizerType

BLOCKS = "transformer_blocks"

Times = Callable[[str], int]


@attrs.frozen
class Weight:
    """A number of parameters of one kind.

    Attributes:
        name: the name of one of the parameters in the transformer.
        shape: the shape of each parameter.
        times: the number of parameters.
        is_trained: whether the parameters are trained.
        is_kept: whether the parameters are float32 and not trained, such as those that some adapters keep beside the trained
            ones. The buffers of adapters count as such parameters, with as many bytes as the buffers have.
        is_of_frozen_lora: whether the parameters are those of a LoRA that the run trains on top of. They are float32 too, and complete on
            every device, since an engine that divides the weights of the model does not see them.
    """

    name: str
    shape: tuple[int, ...]
    times: int
    is_trained: bool
    is_kept: bool = False
    is_of_frozen_lora: bool = False

    @property
    def numbers(self) -> int:
        """The number of elements in each parameter."""
        return prod(self.shape)


@attrs.frozen
class Parameters:
    """All parameters of a run.

    Attributes:
        weights: the weights of the transformer, including adapters, and those of frozen LoRAs of the text connectors.
        connectors: the number of elements in the text connectors, which are frozen and complete on every device.
        whole: the number of elements in the whole model, including streams that the run does not load.
    """

    weights: tuple[Weight, ...]
    connectors: int
    whole: int

    @property
    def trained(self) -> int:
        """The number of elements that are trained."""
        return sum(each.numbers * each.times for each in self.weights if each.is_trained)

    @property
    def last_trained(self) -> int:
        """The number of elements that are trained in the last block and outside the blocks."""
        numbers = {int(each.name.split(".")[1]) for each in self.weights if each.name.startswith(f"{BLOCKS}.")}
        others = tuple(f"{BLOCKS}.{number}." for number in numbers - {max(numbers, default=0)})
        return sum(each.numbers * each.times for each in self.weights if each.is_trained and not each.name.startswith(others))

    @property
    def loaded(self) -> int:
        """The number of elements in the transformer's weights that the run loads, including adapters."""
        return sum(each.numbers * each.times for each in self.weights)

    @property
    def of_frozen_loras(self) -> int:
        """The number of elements of the LoRAs that the run trains on top of."""
        return self.loaded - self.divisible.loaded

    @property
    def divisible(self) -> Parameters:
        """The parameters that an engine may divide among processes: all but those of frozen LoRAs."""
        return attrs.evolve(self, weights=tuple(each for each in self.weights if not each.is_of_frozen_lora))

    def stored(self, dtype: torch.dtype, quantizer: QuantizerType | None) -> int:
        """The bytes of the frozen weights in one process."""
        frozen = [each for each in self.weights if not each.is_trained]
        kept = sum(each.times * each.numbers * torch.float32.itemsize for each in frozen if each.is_kept)
        modalities, base = ("video", "audio"), (each for each in frozen if not each.is_kept)
        return kept + sum(each.times * weight_bytes({each.name: each.shape}, modalities, dtype, quantizer) for each in base)

    def frozen(self, modalities: Collection[str]) -> Parameters:
        """The parameters of a frozen copy of the base that predicts these modalities; only for full fine-tuning. The copy has no text
        connectors.
        """
        needed = (each for each in self.weights if is_needed(each.name, modalities) and not is_of_connectors(each.name))
        return Parameters(tuple(attrs.evolve(each, is_trained=False) for each in needed), 0, self.whole)

    def block_matrices(self, dtype: torch.dtype, quantizer: QuantizerType | None) -> int:
        """The bytes of one block's frozen matrices, which `offload_blocks` keeps in host memory."""
        first = (each for each in self.weights if each.name.startswith(f"{BLOCKS}.0.") and not each.is_trained and not each.is_kept)
        matrices = [each for each in first if len(each.shape) == 2 and each.name.endswith(".weight")]
        return sum(weight_bytes({each.name: each.shape}, ("video", "audio"), dtype, quantizer) for each in matrices)


def parameters_of(tracer: Tracer, streams: frozenset[str], choice: Choice, inputs: Mapping[str, ModelInput]) -> Parameters:
    """Return the parameters of a run of `choice.modalities` that loads `streams`."""
    base = tracer.base
    blocks = tracer.blocks_run(choice.lora)
    plain = attrs.evolve(choice, quantizer=None)
    sketch = tracer.sketched_once(plain, inputs, list(blocks))
    times = _times(list(blocks.values()))
    weights = []
    layers_with, under = adapters(sketch.backbone), frozen_layers(sketch.backbone)
    each_layer = [*layers_with.items(), *under.items()]  # an adapter's linear module may hold a frozen adapter, whose own module counts
    inside = {id(parameter): f"{path}.{own}" for path, layer in each_layer for own, parameter in layer.linear.named_parameters()}
    kept = {id(tensor) for _, layer in each_layer for tensor in layer.tensors.values()}
    of_frozen = {id(tensor) for layer in under.values() for tensor in layer.tensors.values()}
    for name, parameter in sketch.backbone.named_parameters():
        own = inside.get(id(parameter), name.removeprefix("transformer."))  # an adapter has the base's matrix as a part
        is_trained = name in sketch.trained
        is_kept, is_of_frozen = id(parameter) in kept and not is_trained, id(parameter) in of_frozen
        weights.append(Weight(own, tuple(parameter.shape), times(own), is_trained, is_kept, is_of_frozen))
    for path, layer in each_layer:
        for own, buffer in layer.buffers.items():
            name = f"{path}.{own}"
            weights.append(Weight(name, (-(-buffer.nbytes // torch.float32.itemsize),), times(name), False, is_kept=True))
    beside = streams - choice.modalities
    if beside:
        weights += _beside(base.sketch(streams, len(blocks)), choice.modalities, times)
    for path, held in (tracer.frozen.everywhere if tracer.frozen is not None else {}).items():
        if choice.lora is None or is_of_connectors(path) or not is_needed(path, choice.modalities):  # otherwise the sketch has it
            weights += [Weight(f"{path}.{own}", tuple(tensor.shape), 1, False, True, True) for own, tensor in held.items()]
    whole = sum(prod(shape) * times(name) for name, shape in sketch.backbone.blueprint.shapes.items())
    return Parameters(tuple(weights), base.connector_numbers(streams), whole)


def _beside(backbone: LTXBackbone, modalities: frozenset[str], times: Times) -> list[Weight]:
    """Return the frozen parameters that are needed to generate samples but not to train the modalities of the run."""
    named = ((name.removeprefix("transformer."), tuple(parameter.shape)) for name, parameter in backbone.named_parameters())
    return [Weight(name, shape, times(name), False) for name, shape in named if not is_needed(name, modalities)]


def _times(counts: Sequence[int]) -> Times:
    """Return a function that gives the number of parameters that a name in a model of few blocks stands for; `counts` is the
    number of blocks that each of these blocks stands for.
    """

    def times(name: str) -> int:
        parts = name.split(".")
        return counts[int(parts[1])] if parts[0] == BLOCKS else 1

    return times


def weight_bytes(
    shapes: Mapping[str, tuple[int, ...]], modalities: Collection[str], dtype: torch.dtype, quantizer: QuantizerType | None = None
) -> int:
    """Return the bytes that the weights of a run of `modalities` take.

    Args:
        shapes: the shapes of all parameters of the whole model (`Blueprint.shapes`).
        modalities: "video", "audio" or both.
        dtype: the dtype of the weights.
        quantizer: the quantizer of the blocks' matrices; None if they are stored like all other weights.

    Source: docs/explanation/arithmetic.md#bytes-of-weights
    """
    return sum(_bytes(name, shape, dtype, quantizer) for name, shape in shapes.items() if is_needed(name, modalities))


def _bytes(name: str, shape: tuple[int, ...], dtype: torch.dtype, quantizer: QuantizerType | None) -> int:
    if quantizer is None or len(shape) != 2 or not is_quantizable(name):
        return prod(shape) * dtype.itemsize
    return quantizer.weight_bytes(shape)

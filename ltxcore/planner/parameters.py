"""The parameters of a run and their sizes: what is trained, what is frozen, and how many there are of each kind of
block.

The bytes that the weights of a run take, in a file and in memory, are computed here too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod

import attrs
import torch

from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.parameter_names import is_needed
from ltxcore.models.quantized import is_quantizable
from ltxcore.planner.activations import Choice, Tracer, blocks_run
from ltxcore.protocols import ModelInput
from ltxcore.quantizers import QuantizerType

BLOCKS = "transformer_blocks"

Times = Callable[[str], int]


@attrs.frozen
class Weight:
    """Parameters of one kind.

    Attributes:
        name: the name of one of them, in the transformer.
        shape: the shape of each.
        times: how many of them there are.
        is_trained: whether they are trained.
    """

    name: str
    shape: tuple[int, ...]
    times: int
    is_trained: bool

    @property
    def numbers(self) -> int:
        """The number of elements in each of them."""
        return prod(self.shape)


@attrs.frozen
class Parameters:
    """All parameters of a run.

    Attributes:
        weights: the weights of the transformer, including adapters.
        connectors: the number of elements in the text connectors, which are frozen and undivided on every device.
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
    def loaded(self) -> int:
        """The number of elements in the transformer's weights that the run loads, including adapters."""
        return sum(each.numbers * each.times for each in self.weights)

    def stored(self, dtype: torch.dtype, quantizer: QuantizerType | None) -> int:
        """The bytes of the frozen weights in one process."""
        frozen = (each for each in self.weights if not each.is_trained)
        modalities = ("video", "audio")
        return sum(each.times * weight_bytes({each.name: each.shape}, modalities, dtype, quantizer) for each in frozen)

    def block_matrices(self, dtype: torch.dtype, quantizer: QuantizerType | None) -> int:
        """The bytes of one block's frozen matrices, which `offload_blocks` keeps in host memory."""
        first = (each for each in self.weights if each.name.startswith(f"{BLOCKS}.0.") and not each.is_trained)
        matrices = [each for each in first if len(each.shape) == 2 and each.name.endswith(".weight")]
        return sum(weight_bytes({each.name: each.shape}, ("video", "audio"), dtype, quantizer) for each in matrices)


def parameters_of(tracer: Tracer, streams: frozenset[str], choice: Choice, inputs: Mapping[str, ModelInput]) -> Parameters:
    """Return the parameters of a run of `choice.modalities` that loads `streams`."""
    base = tracer.base
    blocks = blocks_run(choice.lora, base.num_layers)
    plain = attrs.evolve(choice, quantizer=None)
    sketch = tracer.sketched(plain, inputs, list(blocks))
    times = _times(list(blocks.values()))
    weights = []
    for name, parameter in sketch.backbone.named_parameters():
        own = name.removeprefix("transformer.").replace(".base_layer.", ".")
        weights.append(Weight(own, tuple(parameter.shape), times(own), name in sketch.trained))
    beside = streams - choice.modalities
    if beside:
        weights += _beside(base.sketch(streams, len(blocks)), choice.modalities, times)
    whole = sum(prod(shape) * times(name) for name, shape in sketch.backbone.blueprint.shapes.items())
    return Parameters(tuple(weights), base.connector_numbers(streams), whole)


def _beside(backbone: LTXBackbone, modalities: frozenset[str], times: Times) -> list[Weight]:
    """Return the frozen parameters that generating samples needs but the trained modalities do not."""
    named = ((name.removeprefix("transformer."), tuple(parameter.shape)) for name, parameter in backbone.named_parameters())
    return [Weight(name, shape, times(name), False) for name, shape in named if not is_needed(name, modalities)]


def _times(counts: Sequence[int]) -> Times:
    """Return a function that tells how many parameters each name in a model of few blocks stands for, each of which
    stands for so many blocks.
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
        quantizer: stores the blocks' matrices; None if they are stored like all other weights.

    Source: docs/explanation/arithmetic.md#bytes-of-weights
    """
    return sum(_bytes(name, shape, dtype, quantizer) for name, shape in shapes.items() if is_needed(name, modalities))


def _bytes(name: str, shape: tuple[int, ...], dtype: torch.dtype, quantizer: QuantizerType | None) -> int:
    if quantizer is None or len(shape) != 2 or not is_quantizable(name):
        return prod(shape) * dtype.itemsize
    return quantizer.weight_bytes(shape)

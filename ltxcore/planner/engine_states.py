"""The bytes of weights, gradients and the optimizer in each engine, computed from the sizes of the parameters and
DeepSpeed's own settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from ltxcore.engines.zero_config import Config
from ltxcore.models.offload import AT_ONCE
from ltxcore.planner.parameters import Parameters
from ltxcore.quantizers import QuantizerType

MASTER = 4
"""The bytes of a float32 number."""

ROUNDED = 6 * MASTER
"""The bytes per number while the number is updated and stochastically rounded: the weight, the gradient and two moments in
float32, and the random bits for rounding.
"""

Counted = Callable[[str, tuple[int, ...]], int | None]
"""A function that returns the bytes of an optimizer's state for a parameter, given the name and shape; None if they are not known."""

DEFAULTS: Mapping[str, int] = {
    "reduce_bucket_size": 500_000_000,
    "stage3_prefetch_bucket_size": 50_000_000,
    "stage3_param_persistence_threshold": 100_000,
    "stage3_max_live_parameters": 1_000_000_000,
    "stage3_max_reuse_distance": 1_000_000_000,
    "sub_group_size": 1_000_000_000,
}
"""DeepSpeed's defaults, in counts of numbers, for keys that a configuration does not set."""


@attrs.frozen
class States:
    """Bytes that stay allocated from step to step, or are allocated again in each step.

    Attributes:
        weights: the weights on the device.
        gradients: the gradients on the device as a backward ends.
        optimizer: the optimizer's state on the device, and the float32 master weights if there are any. State of unknown size is
            left out.
        communication: the bytes on the device, while gradients are computed, of the buffers for reducing gradients and of the
            weights that are gathered for the computation.
        reducing: the bytes on the device of gradients and their buffers while gradients are reduced after the backward, when no activations
            exist; 0 if nothing is reduced then.
        step: the bytes on the device of gradients and temporary tensors during an optimizer step, when no activations exist.
        kept: the part of gradients and communication that stays on the device even while nothing is trained.
        host: the bytes in host memory for each process.
        average: the moving average of the weights on the device.
        copy: the frozen copy of the base on the device.
        gathered: the part of communication that a forward alone takes, the weights that are gathered for it.
    """

    weights: int
    gradients: int
    optimizer: int
    communication: int = 0
    reducing: int = 0
    step: int = 0
    kept: int = 0
    host: int = 0
    average: int = 0
    copy: int = 0
    gathered: int = 0

    @property
    def lasting(self) -> int:
        """The weights, with their moving average and the frozen copy of the base."""
        return self.weights + self.average + self.copy

    def with_average(self, numbers: int, on_host: bool) -> States:
        """Return the states with a moving average of this many numbers.

        Source: docs/explanation/arithmetic.md#average-of-the-weights
        """
        size = numbers * MASTER
        return attrs.evolve(self, host=self.host + size) if on_host else attrs.evolve(self, average=size)


def single_states(
    parameters: Parameters,
    *,
    dtype: torch.dtype,
    quantizer: QuantizerType | None,
    state_bytes: Counted,
    trained: torch.dtype = torch.float32,
    in_backward: bool = False,
    copies: int = 0,
    offloaded: int = 0,
    num_layers: int = 0,
) -> States:
    """Return the states of the engine for one process.

    Args:
        parameters: the parameters of the run.
        dtype: the dtype of frozen weights.
        quantizer: the quantizer of the blocks' frozen matrices; None for no quantization.
        state_bytes: a function that returns the bytes of the optimizer's state.
        trained: the dtype of trained weights and of the optimizer's state.
        in_backward: whether each weight is updated in the backward pass, so that all gradients never exist at once.
        copies: the number of float32 copies of all trained parameters that exist during an optimizer step.
        offloaded: the number of blocks whose matrices are in host memory, of which at most `AT_ONCE` are on the device at once.
        num_layers: the number of blocks of the model.

    Source: docs/explanation/arithmetic.md#one-process, #block-swap
    """
    connectors = parameters.connectors * dtype.itemsize
    frozen = parameters.stored(dtype, quantizer)
    block = parameters.block_matrices(dtype, quantizer)
    away = min(offloaded, num_layers) * block
    here = min(AT_ONCE, offloaded, num_layers) * block
    weights = parameters.trained * trained.itemsize
    largest = max((each.numbers for each in parameters.weights if each.is_trained), default=0)
    alone = trained == torch.bfloat16  # one weight after the other
    update = largest * ROUNDED if alone else 0
    gradients = largest * trained.itemsize + update if in_backward else weights
    return States(
        weights=frozen - away + here + weights + connectors,
        gradients=gradients,
        optimizer=states_of(parameters, state_bytes, trained) or 0,
        step=gradients + (0 if in_backward else update if alone else copies * parameters.trained * MASTER),
        host=away,  # each matrix is pinned; its size is a power of two, which `pinned` would not change
    )


def pinned(size: int) -> int:
    """Return the bytes of host memory that a pinned buffer of `size` bytes takes: the next power of two.

    Source: docs/explanation/arithmetic.md#pinned-host-memory
    """
    return 1 << (size - 1).bit_length() if size > 0 else 0


def states_of(parameters: Parameters, state_bytes: Counted, trained: torch.dtype = torch.float32) -> int | None:
    """Return the bytes of an optimizer's state for all trained parameters; None if they are not known.

    With bfloat16 weights, the parts of the state that have one number per weight are bfloat16 too.
    """
    total = 0
    for each in parameters.weights:
        if each.is_trained:
            size = state_bytes(each.name, each.shape)
            if size is None:
                return None
            whole = size // (each.numbers * MASTER) if each.numbers else 0
            total += each.times * (size - whole * each.numbers * (MASTER - trained.itemsize))
    return total


def zero_states(parameters: Parameters, config: Config, world_size: int, state_bytes: Counted, adds: bool = False) -> States:
    """Return the states of one process of a ZeRO engine.

    Args:
        parameters: the parameters of the run.
        config: DeepSpeed's configuration.
        world_size: the number of processes.
        state_bytes: a function that returns the bytes of the optimizer's state for a flat piece.
        adds: whether a step adds up the gradients of several backward passes.

    Source: docs/explanation/arithmetic.md#zero-stages-1-and-2, #zero-stage-3
    """
    zero: dict[str, Any] = config["zero_optimization"]
    is_bf16 = bool(config["bf16"]["enabled"])
    size = 2 if is_bf16 else MASTER
    given = parameters.divisible, zero, world_size, size, lambda numbers: state_bytes("", (numbers,)) or 0
    made = _stage_3(*given) if zero["stage"] == 3 else _stages_1_and_2(*given, adds)
    return attrs.evolve(made, weights=made.weights + parameters.connectors * size + parameters.of_frozen_loras * MASTER)


def _stage_3(parameters: Parameters, zero: Mapping[str, Any], world_size: int, size: int, state: Callable[[int], int]) -> States:
    said = {key: _number(zero, key) for key in DEFAULTS}
    threshold = said["stage3_param_persistence_threshold"]
    parts = sum(each.times * -(-each.numbers // world_size) for each in parameters.weights)
    mine = sum(each.times * -(-each.numbers // world_size) for each in parameters.weights if each.is_trained)
    whole = sum(each.times * each.numbers for each in parameters.weights if each.numbers <= threshold)
    divided = parameters.loaded - whole
    prefetched = min(divided, said["stage3_prefetch_bucket_size"])
    kept = min(divided, max(said["stage3_max_live_parameters"], said["stage3_max_reuse_distance"]))
    gathered = kept + prefetched  # weights gathered together arrive in one buffer, from which each is copied
    reduced = min(parameters.trained, said["reduce_bucket_size"])  # copied again, in the order of the processes, to be sent
    offloads, weights_away = is_away(zero, "offload_optimizer"), is_away(zero, "offload_param")
    group = min(mine, said["sub_group_size"])
    host = mine * MASTER + state(mine) + _gradients_away(zero, mine, size, group) if offloads else 0
    if weights_away:  # the flat buffer of trained weights is pinned whatever the configuration says
        host += (parts - mine) * size + pinned(mine * size)
    gradients = 0 if offloads else mine * size
    updated = 0 if offloads else group * (size + (MASTER if size < MASTER else 0))
    return States(
        weights=(0 if weights_away else parts * size) + whole * size,
        gradients=gradients,
        # Masters are copies even of float32 weights: DeepSpeed means to share them, but compares a device with its name, and the two are
        # never equal.
        optimizer=0 if offloads else mine * MASTER + state(mine),
        communication=(said["reduce_bucket_size"] + reduced + gathered) * size,
        step=said["reduce_bucket_size"] * size + gradients + max(updated, whole * size),  # small weights are gathered in a buffer, too
        kept=said["reduce_bucket_size"] * size + gradients,
        gathered=gathered * size,
        host=host,
    )


def _gradients_away(zero: Mapping[str, Any], mine: int, size: int, group: int) -> int:
    """Return the bytes of a process's gradients in host memory: all gradients in one buffer, and the gradients of each group in
    float32 for the optimizer.
    """
    if not _is_pinned(zero):
        return mine * (size + MASTER)
    groups, rest = divmod(mine, group) if group else (0, 0)
    return pinned(mine * size) + groups * pinned(group * MASTER) + pinned(rest * MASTER)


def _stages_1_and_2(
    parameters: Parameters, zero: Mapping[str, Any], world_size: int, size: int, state: Callable[[int], int], adds: bool
) -> States:
    trained = parameters.trained
    mine = -(-trained // world_size)
    offloads = is_away(zero, "offload_optimizer")
    taken = pinned if _is_pinned(zero) else int
    bucket = _number(zero, "reduce_bucket_size")
    buckets = bucket * (2 if zero.get("overlap_comm") else 1)
    here = 0 if offloads else mine  # the process's own part of the gradients, once they are reduced
    sent = min(trained, bucket)  # what is reduced together is copied
    if zero["stage"] == 1:  # gradients are reduced after the backward, and move to the bucket
        gradients, communication, reducing = trained, buckets, max(trained, buckets) + max(here, sent)
    else:
        waiting = here if adds else 0  # what the backward before has left
        gradients, communication = here, buckets + waiting + (sent if trained > bucket else 0)
        reducing = here + waiting + buckets + sent
    return States(
        weights=parameters.loaded * size,
        gradients=gradients * size,
        optimizer=0 if offloads else mine * MASTER + state(mine),
        communication=communication * size,
        reducing=reducing * size,
        step=gradients * size if offloads else mine * (2 * size + (MASTER if size < MASTER else 0)),
        # Weights in the model's dtype, masters, their gradients, and moments; only the moments are not pinned.
        host=taken(mine * size) + 2 * taken(mine * MASTER) + state(mine) if offloads else 0,
    )


def _is_pinned(zero: Mapping[str, Any]) -> bool:
    """Return whether optimizer data in host memory are pinned; by default, they are."""
    return bool((zero.get("offload_optimizer") or {}).get("pin_memory", True))


def is_away(zero: Mapping[str, Any], part: str) -> bool:
    """Return whether a part is in host memory, or on a disk, to which it moves through host memory."""
    return (zero.get(part) or {}).get("device") in ("cpu", "nvme")


def _number(zero: Mapping[str, Any], key: str) -> int:
    return int(zero.get(key, DEFAULTS[key]))

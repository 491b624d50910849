"""The predicted seconds of a step on a GPU, from the work that a trace counts. No prediction has been compared with a measurement on a GPU yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ltxcore.errors import ConfigError
from ltxcore.models.quantized import is_quantizable
from ltxcore.planner.hollow import Work
from ltxcore.planner.parameters import Parameters
from ltxcore.runs.engine import compute_dtype

if TYPE_CHECKING:
    from ltxcore.config.run_file import RunFile
    from ltxcore.planner.estimate import Need

PRODUCTS, ATTENTION, BANDWIDTH, LINKS = 0.65, 0.4, 0.8, 0.8
"""The shares of the figures in a GPU's data sheet that matrix products, attention, memory and links reach. These are conventions."""

NETWORK = 50e9
"""The bytes per second that each GPU exchanges with other machines: 400 Gb/s. This is a convention."""

FP8 = "float8_e4m3fn"
"""The dtype of 8-bit floating-point numbers that are multiplied."""

SAID = {"bfloat16": "bf16", FP8: "fp8"}
"""The names of dtypes in messages, where they differ from torch's names."""

LEAST = 0.1
"""The smallest number of seconds or hours that a prediction states."""

LAUNCH = 5e-6
"""The minimum number of seconds from one operation to the next, since the CPU has to launch each operation. This is a convention."""

HOST = 50e9
"""The bytes per second of host memory for an optimizer that steps there. This is a convention."""


@attrs.frozen
class Gpu:
    """What the data sheet of a GPU states.

    Attributes:
        name: the name in words.
        memory: the memory in GiB.
        bf16: the operations per second of dense matrix products in bfloat16.
        fp32: the operations per second in float32.
        int8: the operations per second of dense matrix products of 8-bit integers.
        fp8: the operations per second of dense matrix products of 8-bit floating-point numbers, which are added up in float32; None for
            a GPU that has no such products.
        bandwidth: the bytes per second of its memory.
        pcie: the bytes per second to or from host memory.
        link: the bytes per second to or from the other GPUs of the machine.
    """

    name: str
    memory: float
    bf16: float
    fp32: float
    int8: float
    fp8: float | None
    bandwidth: float
    pcie: float
    link: float

    @property
    def rates(self) -> Mapping[str, float]:
        """The operations per second of matrix products, by the dtype of the matrices."""
        return {"bfloat16": self.bf16, "float32": self.fp32, "int8": self.int8, FP8: self.fp8 or self.bf16}

    @property
    def source(self) -> str:
        """Where the values are stated."""
        return f"NVIDIA's data sheet of the {self.name}"


GPUS: Mapping[str, Gpu] = {
    "h100": Gpu("H100 SXM", 80, 989e12, 67e12, 1979e12, 1979e12, 3.35e12, 64e9, 450e9),
    "h200": Gpu("H200 SXM", 141, 989e12, 67e12, 1979e12, 1979e12, 4.8e12, 64e9, 450e9),
    "a100": Gpu("A100 SXM", 80, 312e12, 19.5e12, 624e12, None, 2.039e12, 32e9, 300e9),
    "l40s": Gpu("L40S", 48, 362e12, 91.6e12, 733e12, 733e12, 0.864e12, 32e9, 32e9),
    "4090": Gpu("RTX 4090", 24, 165.2e12, 82.6e12, 660.6e12, 330.3e12, 1.008e12, 32e9, 32e9),
    "5090": Gpu("RTX 5090", 32, 209.5e12, 104.8e12, 838e12, 419e12, 1.792e12, 64e9, 64e9),
    "3090": Gpu("RTX 3090", 24, 71e12, 35.6e12, 284e12, None, 0.936e12, 32e9, 32e9),
}
"""The GPUs whose steps can be predicted."""


def gpu_for(memory: int) -> Gpu:
    """Return the GPU that is assumed if none is named: the one whose memory is nearest."""
    return min(GPUS.values(), key=lambda gpu: abs(gpu.memory * 2**30 - memory))


@attrs.frozen
class Seconds:
    """The predicted seconds of a step.

    Attributes:
        products: those of matrix products.
        attention: those of attention.
        others: the seconds of all other operations, which move bytes.
        waiting: the seconds in which the GPU waits for host memory and for other GPUs.
        update: those of the optimizer's step.
    """

    products: float
    attention: float
    others: float
    waiting: float
    update: float

    @property
    def total(self) -> float:
        """The seconds of the step."""
        return self.products + self.attention + self.others + self.waiting + self.update


def step_seconds(need: Need, config: RunFile, gpu: Gpu) -> Seconds:
    """Predict the seconds of a step.

    Args:
        need: the memory that the run needs, with the trace of a step.
        config: the run file.
        gpu: the GPU of each process.

    Raises:
        ConfigError: the run multiplies in a number format for which the GPU has no products.

    Source: docs/explanation/arithmetic.md#seconds-of-a-step
    """
    traced, passes = need.traced, need.passes
    if traced is None:
        raise ValueError("only a need with activations has seconds")
    if gpu.fp8 is None and any(FP8 in each.forward.products for each in traced.blocks):
        raise ConfigError(
            f"products of 8-bit floating-point numbers need a GPU of the generation Ada, Hopper or later, but the {gpu.name} is older",
            where="acceleration.quantization",
            remedy='Use "int8-matmul", or another GPU.',
        )
    count = sum(each.times for each in traced.blocks)
    restored = _restoring(need.parameters, config)
    forward = sum((each.forward * each.times for each in traced.blocks), Work()) + restored * count
    backward = sum((each.backward * each.times for each in traced.blocks), Work()) + restored * count
    again = forward if config.optimization.enable_gradient_checkpointing else Work()
    outside = traced.work * passes.backwards
    micro = forward * passes.forwards + (again + backward) * passes.backwards + outside
    accumulation = config.optimization.gradient_accumulation_steps
    products, attention, others = _classes(micro, gpu)
    waiting = 0.0
    moved = min(config.acceleration.offload_blocks, count) if config.model.training_mode == "lora" else 0
    matrices = need.parameters.block_matrices(compute_dtype(config), config.acceleration.quantizer) if moved else 0.0
    tokens = traced.entered if need.activations.host else 0
    of_gather, of_reduce = _exchanged(need)
    link = LINKS * (gpu.link if need.nodes == 1 else min(NETWORK, gpu.link))
    for times, work, reduced in ((passes.forwards, forward, 0.0), (passes.backwards, again + backward, of_reduce)):
        of_block, copied, to_move = sum(_classes(work, gpu)) / count, LINKS * gpu.pcie, moved
        copies = [(matrices + tokens) / copied] * to_move + [tokens / copied] * (count - to_move)
        others_send = max(0.0, (of_gather + reduced) / link - count * of_block) + work.sent / link  # an attention waits for the exchange
        waiting += times * (sum(max(0.0, each - of_block) for each in copies) + others_send)
    return Seconds(accumulation * products, accumulation * attention, accumulation * others, accumulation * waiting, _update(need, gpu))


def _classes(work: Work, gpu: Gpu) -> tuple[float, float, float]:
    """Return the seconds of matrix products, attention and all others: each is the largest of the times for computing, for moving bytes and
    for launching operations."""
    memory = BANDWIDTH * gpu.bandwidth
    products = sum(count / (PRODUCTS * gpu.rates.get(dtype, gpu.bf16)) for dtype, count in work.products.items())
    scores = gpu.fp32 if work.products and max(work.products, key=lambda dtype: work.products[dtype]) == "float32" else gpu.bf16
    attention = work.attention / (ATTENTION * scores)
    return (
        max(products, work.products_bytes / memory),
        max(attention, work.attention_bytes / memory),
        max(work.bytes / memory, work.kernels * LAUNCH),
    )


def _restoring(parameters: Parameters, config: RunFile) -> Work:
    """Return the work of restoring the quantized matrices of a block once."""
    quantizer = config.acceleration.quantizer
    if quantizer is None or getattr(quantizer, "low_precision", False):
        return Work()
    shapes = [each.shape for each in parameters.weights if each.name.startswith("transformer_blocks.0.") and is_quantizable(each.name)]
    matrices = [shape for shape in shapes if len(shape) == 2]
    at_once = getattr(quantizer, "restoring_bytes", 8.0)  # written and read again
    return Work(bytes=sum(quantizer.weight_bytes(shape) + 2 * at_once * shape[0] * shape[1] for shape in matrices), kernels=len(matrices))


def _exchanged(need: Need) -> tuple[float, float]:
    """Return the bytes that a process receives to gather weights in each pass, and that it sends to reduce gradients in each backward."""
    if need.stage == 0:
        return 0.0, 0.0
    others = (need.processes - 1) / need.processes
    gathered = need.parameters.divisible.loaded * need.itemsize * others if need.stage == 3 else 0.0
    return gathered, need.parameters.trained * need.itemsize * others


def _update(need: Need, gpu: Gpu) -> float:
    states = need.states
    mine = need.parameters.trained / (need.processes if need.stage else 1)
    here = (3 * states.gradients + 2 * states.optimizer + 2 * mine * 4) / (BANDWIDTH * gpu.bandwidth)
    if need.stage and not states.optimizer:  # the optimizer steps in host memory
        here += 2 * mine * need.itemsize / (LINKS * gpu.pcie) + 28 * mine * need.processes / need.nodes / HOST
    sent = need.parameters.trained * need.itemsize * (need.processes - 1) / need.processes if need.stage in (1, 2) else 0.0
    return here + sent / (LINKS * (gpu.link if need.nodes == 1 else min(NETWORK, gpu.link)))


def time_rows(one: Seconds, gpu: Gpu, steps: int, need: Need) -> list[tuple[str, str]]:
    """Return rows of `ltx plan` about the predicted time of a step and of the whole run, with the assumptions."""
    blocks = () if need.traced is None else need.traced.blocks
    dtypes = sorted({dtype for each in blocks for work in (each.forward, each.backward) for dtype in work.products})
    rates = " and ".join(f"{gpu.rates.get(dtype, gpu.bf16) / 1e12:.4g} TFLOP/s in {SAID.get(dtype, dtype)}" for dtype in dtypes)
    each = (("matrix products", one.products), ("attention", one.attention), ("other operations", one.others), ("waiting", one.waiting))
    parts = ", ".join(f"{name} {took:.1f}" for name, took in (*each, ("the update", one.update)))
    return [
        ("a step, about", f"{one_digit(one.total)} s{f': {parts}' * (one.total >= LEAST)}"),
        ("the run, about", f"{one_digit(one.total * steps / 3600)} hours for {steps:,} steps, without validation"),
        (
            "assumed",
            f"{PRODUCTS:.0%} of {rates}, {ATTENTION:.0%} in attention; {BANDWIDTH:.0%} of {gpu.bandwidth / 1e12:.3g} TB/s",
        ),
        ("", f"of memory; {LINKS:.0%} of {gpu.pcie / 1e9:.0f} GB/s to CPU memory and {gpu.link / 1e9:.0f} GB/s between GPUs: {gpu.source}"),
        ("", "This is an estimate that was never compared with a GPU."),
    ]


def one_digit(number: float) -> str:
    """Return a number of seconds or hours in words."""
    return f"{number:.1f}" if number >= LEAST else f"less than {LEAST}"

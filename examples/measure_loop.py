"""Measure what the training loop adds to a bare step: reading samples, making the model's inputs, checks and metrics.

    python examples/measure_loop.py        # about four minutes on a free core

A bare step is a forward with inputs that lie ready, the loss, the backward, clipping and the optimizer, of the same model. The two take turns in one process; a
figure is the median of their ratios. The first column is the processor time of the thread that trains, which a GPU would have to wait for; the second is that of
the whole process, with the threads that read ahead. There are two models: the tiny one, and one with the options of LTX-2.3 and 32 million weights, both with a
LoRA of rank 16, 512 tokens of video, 128 of audio and 128 of text.
"""

from __future__ import annotations

import cProfile
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import measure_forward
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ltxcore.config.run_file import OptimizationTable
from ltxcore.config.structure import structurer_of
from ltxcore.encoded.batches import order_of
from ltxcore.encoded.manifest import append_entry, read_manifest
from ltxcore.encoded.store import write_sample
from ltxcore.engines.single import single_engine
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import ModalityTable, VideoTable
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters
from ltxcore.protocols import MODALITIES, Entry, ModelInput, Setting
from ltxcore.registry import load
from ltxcore.strategy import Flexible
from ltxcore.train.feed import Samples
from ltxcore.train.loop import Loop

CPU = torch.device("cpu")
SAMPLES = 4
WORDS = 128
LATENTS = {"latents": (128, 8, 8, 8), "audio_latents": (8, 128, 16)}
LORA: Mapping[str, Any] = {"rank": 16, "alpha": 16, "dropout": 0.0, "target_modules": ["to_k", "to_q", "to_v", "to_out.0"]}


def tiny() -> tuple[LTXBackbone, dict[str, int]]:
    """The tiny model, and the width of its text."""
    return load_backbone("tiny-untrained", frozenset(MODALITIES), dtype=torch.float32), dict.fromkeys(MODALITIES, 128)


def larger() -> tuple[LTXBackbone, dict[str, int]]:
    """A model of 32 million weights, and the width of its text."""
    return measure_forward.models()[0], measure_forward.WIDTHS


def write_set(root: Path, widths: dict[str, int]) -> None:
    """Write an encoded set of random numbers."""
    for number in range(SAMPLES):
        generator, name = torch.Generator().manual_seed(number), f"clip{number}"
        for folder, shape in LATENTS.items():
            rate = 24.0 if folder == "latents" else None
            _put(root, folder, name, {"latents": torch.randn(shape, generator=generator)}, rate=rate)
        words = {modality: torch.randn(WORDS, width, generator=generator) for modality, width in widths.items()}
        _put(root, "conditions", name, words, shape=(WORDS,))


def _put(root: Path, folder: str, name: str, tensors: dict[str, Tensor], **told: Any) -> None:
    entry = Entry(**{"shape": (), "fingerprint": name, "origin": name, **told})
    append_entry(root, folder, name, write_sample(root, folder, name, tensors, entry))


def loop_of(backbone: LTXBackbone, root: Path, workers: int) -> Loop:
    """The loop of a LoRA run on a set."""
    strategy = Flexible(video=VideoTable(True, "latents"), audio=ModalityTable(True, "audio_latents")).build(
        Setting({"video": VideoModality(), "audio": AudioModality()}, Uniform())
    )
    manifest = read_manifest(root, strategy.sources())
    samples = Samples(root, strategy.sources(), manifest)
    add_lora(backbone, **LORA)
    table: OptimizationTable = structurer_of(load(), Path()).converter.structure(
        {"learning_rate": 1e-4, "batch_size": 1, "steps": 10**6}, OptimizationTable
    )
    engine = single_engine(backbone, lora_parameters(backbone), table, precision="no", device=CPU)
    return Loop(engine, backbone, strategy, samples, order_of(manifest, manifest.samples, 1, 0), 0, 1, workers)


def bare_step(loop: Loop, inputs: dict[str, ModelInput]) -> Callable[[], object]:
    """A step of the loop's model as torch alone takes it."""
    parameters = list(loop.engine.parameters.values())  # type: ignore[attr-defined]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> None:
        predicted = loop.backbone(inputs["video"], inputs["audio"])
        losses = [(predicted[name][:, : given.velocity.shape[1]] - given.velocity).square().mean() for name, given in inputs.items()]  # type: ignore[union-attr, operator]
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor: of this thread, and of all threads."""
    began = time.thread_time(), time.process_time()
    step()
    return time.thread_time() - began[0], time.process_time() - began[1]


class Calls(TorchDispatchMode):
    """Counts the operators that the thread calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def calls(loop: Loop) -> tuple[int, int]:
    """How many operators the thread that trains calls in a step of the loop, and in a bare step."""
    found = []
    for step in _both(loop):
        step()
        with Calls() as counted:
            step()
        found.append(counted.count)
    return found[0], found[1]


def functions(loop: Loop) -> tuple[int, int]:
    """How many functions, of Python and of C, the thread that trains calls in a step of the loop, and in a bare step: the mean over an epoch."""
    found = []
    for step in _both(loop):
        step()
        with cProfile.Profile() as profile:
            for _ in range(SAMPLES):
                step()
        found.append(sum(each.callcount for each in profile.getstats()) // SAMPLES)
    return found[0], found[1]


def turns(loop: Loop, pairs: int) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """The times of a step of the loop, and of a bare step, in turn; the first two warm up."""
    own, bare = _both(loop)
    for number in range(pairs + 1):
        found = timed(own), timed(bare)
        if number:
            yield found


def _both(loop: Loop) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step of the loop, and a bare step on inputs of the loop."""
    seen: dict[str, ModelInput] = {}
    handle = loop.backbone.register_forward_pre_hook(lambda _, given: seen.update(zip(MODALITIES, given, strict=True)))  # type: ignore[attr-defined]
    steps = loop.steps(10**6)
    next(steps)
    handle.remove()
    return lambda: next(steps), bare_step(loop, seen)


def ratios(make: Callable[[], tuple[LTXBackbone, dict[str, int]]], pairs: int, workers: int = 1) -> tuple[float, float]:
    """The median ratio of the loop's step to a bare step: of the thread that trains, and of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        backbone, widths = make()
        write_set(Path(folder), widths)
        found = list(turns(loop_of(backbone, Path(folder), workers), pairs))
    own, whole = ([of_loop[index] / of_bare[index] for of_loop, of_bare in found] for index in (0, 1))
    return statistics.median(own), statistics.median(whole)


@click.command()
@click.option("--pairs", default=15, help="Steps of each kind.")
def main(pairs: int) -> None:
    """Print a table of ratios, the loop's step over a bare step."""
    torch.set_num_threads(1)
    print("| model | the thread that trains | all threads |\n|---|---|---|")
    for name, make, times in (("tiny", tiny, 4), ("32 million weights", larger, 1)):
        print(f"| {name} | {' | '.join(f'{each:.3f}' for each in ratios(make, times * pairs))} |", flush=True)


if __name__ == "__main__":
    main()

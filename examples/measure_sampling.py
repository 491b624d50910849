"""Measure what sampling costs besides the passes of the model that it must make: encoding and decoding are left out.

    python examples/measure_sampling.py

A random model of about 32 million parameters draws four samples of picture and sound in ten steps, with the guidance that [validation] has by default. Each
sample is drawn twice over: by the sampler, and as its bare passes, with inputs that were made before. The two take turns, so that a machine that is busy
with other things is as busy for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ltxcore.config.validation_samples import ValidationSample, ValidationTable
from ltxcore.models.backbone import LTXBackbone, ModelInfo
from ltxcore.models.build import build, fill
from ltxcore.models.tiny_model import TINY, fresh_tensor
from ltxcore.protocols import MODALITIES, ModelInput, Text
from ltxcore.sample.empty_tokens import Canvas, modalities_of
from ltxcore.sample.encode_inputs import Encoded
from ltxcore.sample.request import requests
from ltxcore.sample.sampler import Sampler

SIZE = {"num_attention_heads": 8, "attention_head_dim": 32, "audio_num_attention_heads": 8, "audio_attention_head_dim": 32}
WIDTH = 256
"""Of a stream, and of its text."""

CONFIG: Mapping[str, Any] = TINY | SIZE | {"num_layers": 11, "cross_attention_dim": WIDTH, "audio_cross_attention_dim": WIDTH}
SAMPLES, STEPS = 4, 10

Call = tuple[Mapping[str, ModelInput], Mapping[str, Any]]
"""What the model is given in a pass."""


def random_model() -> LTXBackbone:
    """Of about 32 million parameters."""
    info = ModelInfo("random", "tiny", "", num_layers=CONFIG["num_layers"], seed=0)
    backbone = build(CONFIG, info, frozenset(MODALITIES))
    fill(backbone, lambda name: fresh_tensor(name, backbone.blueprint.shapes, 0), torch.float32)
    return backbone.eval()


def asked(info: ModelInfo) -> Iterator[Encoded]:
    """Samples of 128 x 128 pixels and 17 frames, with sound."""
    samples = [ValidationSample(prompt=str(number), seed=number) for number in range(SAMPLES)]
    table = ValidationTable(samples=samples, video_dims=(128, 128, 17), frame_rate=16.0, inference_steps=STEPS)
    for number, request in enumerate(requests(table, MODALITIES, info)):
        draws = torch.Generator().manual_seed(number)
        texts = [Text({name: torch.randn(1, 32, WIDTH, generator=draws) for name in MODALITIES}, torch.ones(1, 32)) for _ in range(2)]
        yield Encoded(Canvas(request, modalities_of(info)), *texts)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@torch.no_grad()
def overheads(rounds: int = 2) -> list[float]:
    """For each round and sample, how many times as long the sampler takes as its bare passes."""
    backbone = random_model()
    calls: list[Call] = []

    def forward(inputs: Mapping[str, ModelInput], **options: Any) -> Mapping[str, Tensor]:
        calls.append((inputs, options))
        return backbone(inputs.get("video"), inputs.get("audio"), **options)

    def passes(made: list[Call]) -> None:
        for inputs, options in made:
            backbone(inputs.get("video"), inputs.get("audio"), **options)

    sampler, found = Sampler(backbone, forward, torch.device("cpu")), []
    encoded = list(asked(backbone.info))
    sampler.generate(encoded[0])  # what is made once, and the first touch of memory
    for _ in range(rounds):
        for sample in encoded:
            calls.clear()
            drawing = seconds(lambda sample=sample: sampler.generate(sample))
            found.append(drawing / seconds(lambda made=list(calls): passes(made)))
    return found


if __name__ == "__main__":
    count = sum(parameter.numel() for parameter in random_model().parameters())
    ratios = overheads()
    print(
        f"{count / 1e6:.1f} million parameters, {SAMPLES} samples of {STEPS} steps: the sampler takes {median(ratios):.3f} times as long as its passes"
    )
    print(f"single samples: {', '.join(f'{ratio:.3f}' for ratio in ratios)}")

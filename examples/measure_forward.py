"""Time the model's forward and step beside those of diffusers' own class, with the same weights, in one process.

    python examples/measure_forward.py        # about two minutes on a free core

The model has the options of LTX-2.3 and 33 million weights, 512 tokens of video, 128 of audio and 128 of text. The two take turns; a figure is the median of
their ratios in processor time, on one thread. diffusers is given the noise level of each token, as training gives it where tokens may be given, and, in the
last column, that of the sample alone, which it can take where none is. It has no forward without audio, so for video alone it is given one token of that.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import click
import torch
from torch import Tensor

from ltxcore.models.backbone import LTXBackbone, ModelInfo
from ltxcore.models.build import blueprint_of
from ltxcore.models.tiny_model import TINY
from ltxcore.models.transformer import Transformer
from ltxcore.models.transformer_settings import diffusers_arguments
from ltxcore.protocols import MODALITIES, ModelInput

CONFIG = {
    **TINY,
    "attention_head_dim": 128,
    "cross_attention_dim": 512,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 256,
    "apply_gated_attention": True,
    "cross_attention_adaln": True,
}
WIDTHS = {"video": 512, "audio": 256}
TOKENS = {"video": 512, "audio": 128}
Call = Callable[[], Iterable[Tensor]]


def models() -> tuple[LTXBackbone, Any]:
    """Ours and diffusers', with the same weights."""
    from diffusers import LTX2VideoTransformer3DModel

    torch.manual_seed(0)
    stock = LTX2VideoTransformer3DModel(**diffusers_arguments(CONFIG, "measure_forward"))
    both = frozenset(MODALITIES)
    transformer = Transformer(copy.deepcopy(stock), both)
    info = ModelInfo("measured", "2.3", "measured", CONFIG["num_layers"])
    return LTXBackbone(transformer, modalities=both, info=info, blueprint=blueprint_of(stock)), stock


def stream(modality: str, tokens: int) -> ModelInput:
    """A sample at one noise level."""
    generator = torch.Generator().manual_seed(tokens)
    sigma, axes = torch.tensor([0.5]), {"video": 3, "audio": 1}[modality]
    start = 20 * torch.rand(1, axes, tokens, 1, generator=generator)
    return ModelInput(
        tokens=torch.randn(1, tokens, 128, generator=generator),
        sigma=sigma,
        timesteps=sigma[:, None].expand(1, tokens),
        positions=torch.cat([start, start + 0.04], dim=-1),
        context=torch.randn(1, 128, WIDTHS[modality], generator=generator),
    )


def theirs(stock: Any, video: ModelInput, audio: ModelInput, *, by_token: bool, isolated: bool) -> Call:
    """diffusers' forward of the same inputs."""

    def call() -> Iterable[Tensor]:
        levels = [1000 * (each.timesteps if by_token else each.sigma) for each in (video, audio)]
        out = stock(
            hidden_states=video.tokens,
            audio_hidden_states=audio.tokens,
            encoder_hidden_states=video.context,
            audio_encoder_hidden_states=audio.context,
            timestep=levels[0],
            audio_timestep=levels[1],
            sigma=1000 * video.sigma,
            audio_sigma=1000 * audio.sigma,
            video_coords=video.positions,
            audio_coords=audio.positions,
            isolate_modalities=isolated,
        )
        return [out.sample] if isolated else [out.sample, out.audio_sample]

    return call


def ours(backbone: LTXBackbone, video: ModelInput, audio: ModelInput | None) -> Call:
    """Our forward of inputs that were sent to the device, as training does."""
    there = [None if each is None else each.to("cpu") for each in (video, audio)]
    return lambda: backbone(*there).values()


def timed(call: Call, is_step: bool) -> float:
    """Seconds of the processor for a forward, or for a forward and a backward."""
    began = time.process_time()
    with torch.set_grad_enabled(is_step):
        out = call()
        if is_step:
            torch.stack([each.square().mean() for each in out]).sum().backward()
    return time.process_time() - began


def ratios(ours: Call, others: Iterable[Call], is_step: bool, pairs: int) -> list[float]:
    """For each of the others, the median of ours over it."""
    calls = [ours, *others]
    rounds = [[timed(call, is_step) for call in calls] for _ in range(pairs + 1)][1:]  # the first round warms up
    return [statistics.median(own / other for own, other in zip(column, others, strict=True)) for column, others in _columns(rounds)]


def _columns(rounds: list[list[float]]) -> Iterable[tuple[list[float], list[float]]]:
    own, *others = (list(column) for column in zip(*rounds, strict=True))
    return [(own, other) for other in others]


@click.command()
@click.option("--pairs", default=7, help="Rounds, in each of which every forward is timed once.")
def main(pairs: int) -> None:
    """Print a table of ratios, ours over diffusers'."""
    torch.set_num_threads(1)
    backbone, stock = models()
    video, audio = (stream(name, TOKENS[name]) for name in MODALITIES)
    one = attrs.evolve(stream("audio", 1), context=audio.context[:, :1])
    print("| ours over diffusers' | level of each token | level of the sample |\n|---|---|---|")
    for said, sound, other in (("video and audio", audio, audio), ("video", None, one)):
        mine, stocks = (
            ours(backbone, video, sound),
            [theirs(stock, video, other, by_token=how, isolated=sound is None) for how in (True, False)],
        )
        with torch.no_grad():
            for each, same in zip(mine(), stocks[0](), strict=True):
                torch.testing.assert_close(each, same, rtol=0, atol=float(1e-5 * same.abs().max()))
        for kind in ("forward", "step"):
            found = ratios(mine, stocks, kind == "step", pairs)
            print(f"| {said}, {kind} | {' | '.join(f'{each:.2f}' for each in found)} |", flush=True)


if __name__ == "__main__":
    main()

"""The time of a forward pass beside that of diffusers' own, on one thread of a CPU, in one process and turn by turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from helpers.golden_models import BOTH, ask_stock, random_input
from helpers.untrained import write_untrained
from ltxcore.models.load_base import load_backbone
from ltxcore.models.transformer_settings import diffusers_arguments
from ltxcore.protocols import ModelInput
from planner.large import LARGE

pytestmark = pytest.mark.slow

ROUNDS = 5
MOST = 0.9
"""The largest share of diffusers' time."""


def of_model(modality: str, tokens: int, width: int) -> ModelInput:
    """As a run makes it: `to` finds that all tokens of a sample share a noise level."""
    return random_input(modality, tokens, seed=tokens, width=width, sigma=torch.tensor([0.3, 0.8])).to("cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Ours and diffusers', of 30M parameters, with the same weights."""
    from diffusers import LTX2VideoTransformer3DModel

    path = tmp_path_factory.mktemp("model") / "large.safetensors"
    write_untrained(path, LARGE, torch.float32)
    ours = load_backbone(str(path), BOTH, dtype=torch.float32)
    theirs = LTX2VideoTransformer3DModel(**diffusers_arguments(LARGE, "large"))
    theirs.load_state_dict({name.removeprefix("transformer."): value.clone() for name, value in ours.named_parameters()}, strict=True)
    return ours, theirs.eval()


def seconds(run: Callable[[], Any]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


@pytest.mark.parametrize("is_joint", [True, False], ids=["video and audio", "video alone"])
@torch.no_grad()
def test_a_forward_pass_takes_at_most_nine_tenths_of_diffusers_time(models: tuple[Any, Any], is_joint: bool) -> None:
    """diffusers' forward needs audio: of video alone, it gets one token, and no attention between the modalities."""
    ours, theirs = models
    video, audio = of_model("video", 512, 512), of_model("audio", 128 if is_joint else 1, 256)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found, expected = (
            lambda: ours(video, audio if is_joint else None),
            lambda: ask_stock(theirs, video, audio, isolate_modalities=not is_joint),
        )
        difference = (found()["video"] - expected()["video"]).abs().max()
        pairs = [(seconds(found), seconds(expected)) for _ in range(ROUNDS)]
    finally:
        torch.set_num_threads(threads)
    assert difference < 1e-4
    ratio = statistics.median(one for one, _ in pairs) / statistics.median(other for _, other in pairs)
    print(f"{ratio:.3f} of diffusers' time")  # noqa: T201
    assert ratio <= MOST

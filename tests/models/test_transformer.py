"""The transformer modulates by noise level, where tokens share them, and gives what it gives with a level for each token."""

from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from helpers.golden_models import BOTH, random_input
from ltxcore.models.load_base import load_backbone
from ltxcore.models.transformer import TimestepRule
from ltxcore.protocols import ModelInput


def outcome(inputs: list[ModelInput], **options: Any) -> tuple[dict[str, Tensor], dict[str, Tensor | None], dict[str, int]]:
    """Velocities, gradients of all weights, and how many levels were embedded."""
    backbone = load_backbone("tiny-untrained", BOTH, dtype=torch.float32, **options)
    seen: dict[str, int] = {}
    for name, embed in (("video", backbone.transformer.time_embed), ("audio", backbone.transformer.audio_time_embed)):
        embed.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, len(args[0])))
    out = backbone(*inputs)
    torch.stack([velocity.square().mean() for velocity in out.values()]).sum().backward()
    return out, {name: parameter.grad for name, parameter in backbone.named_parameters()}, seen


@pytest.mark.parametrize(
    ("rule", "is_given", "checkpointed"), [("split", False, False), ("split", True, True), ("cross", True, False), ("own", True, False)]
)
def test_a_level_for_all_tokens_that_have_it_gives_what_one_for_each_does(rule: TimestepRule, is_given: bool, checkpointed: bool) -> None:
    """The last bits differ, since a matrix product of few rows is summed in another order."""
    video, audio = random_input("video", 12, seed=1), random_input("audio", 7, seed=2)
    if is_given:
        timesteps = video.timesteps.clone()
        timesteps[0, :3] = timesteps[1, 5:] = 0
        video = attrs.evolve(video, timesteps=timesteps)
    found, gradients, seen = outcome([video.to("cpu"), audio.to("cpu")], rule=rule, gradient_checkpointing=checkpointed)
    expected, exact, by_token = outcome([video, audio], rule=rule)
    assert seen == {"video": 4 if is_given else 2, "audio": 2}
    assert by_token == {"video": 24, "audio": 14}
    for name, velocity in expected.items():
        assert (found[name] - velocity).abs().max() <= 1e-6 * velocity.abs().max()
    assert gradients.keys() == exact.keys()
    for name, gradient in exact.items():
        own = gradients[name]
        assert gradient is not None
        assert own is not None
        assert (own - gradient).abs().max() <= 1e-5 * gradient.abs().max() + 1e-9, name

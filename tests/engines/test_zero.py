"""What a pass through the model is called, so that processes can tell whether they run the same modules."""

from __future__ import annotations

import torch

from helpers.golden_models import random_input
from ltxcore.engines.zero import called
from ltxcore.engines.zero_state import ReplacedLinear
from ltxcore.models.backbone import Perturbation


def test_a_pass_is_called_by_its_modalities_gradients_and_options() -> None:
    inputs = {"video": random_input("video", 3), "audio": random_input("audio", 3)}
    assert called(inputs, {}) == "generates audio and generates video"
    with torch.no_grad():
        assert called({"audio": inputs["audio"]}, {"perturbation": Perturbation(audio_to_video=False)}) == (
            "generates audio without gradients, perturbation=Perturbation(pass_self_attention={}, audio_to_video=False, video_to_audio=True)"
        )


def test_what_a_set_or_mapping_holds_is_said_in_one_order_whatever_that_of_the_process() -> None:
    ways = [
        Perturbation(pass_self_attention={name: frozenset(blocks) for name, blocks in pairs})
        for pairs in ([("video", [28, 1]), ("audio", [1, 28])], [("audio", [28, 1]), ("video", [1, 28])])
    ]
    one, two = (called({}, {"perturbation": way}) for way in ways)
    assert one == two
    assert "pass_self_attention={audio: {1, 28}, video: {1, 28}}" in one


def test_values_of_tensors_are_no_part_of_it() -> None:
    assert called({}, {"keyframes": torch.zeros(2)}) == called({}, {"keyframes": torch.ones(2)})


def test_a_replaced_linear_is_in_place_only_while_the_model_computes() -> None:
    plain = torch.nn.functional.linear

    def replacement(*arguments: torch.Tensor) -> torch.Tensor:
        return plain(*arguments)

    linear = ReplacedLinear()
    with linear.in_place():
        assert torch.nn.functional.linear is plain  # nothing was put in its place
    with linear.taken():
        torch.nn.functional.linear = replacement
    assert torch.nn.functional.linear is plain
    with linear.in_place():
        assert torch.nn.functional.linear is replacement
    assert torch.nn.functional.linear is plain

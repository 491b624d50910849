"""The numbers of a step: means over samples, by modality, sigma and condition."""

from __future__ import annotations

import attrs
import pytest
import torch

from ltxcore.drawn import Value
from ltxcore.protocols import ModelInput
from ltxcore.train.metrics import Facts, Tally, add_losses, bucket, peak_memory, read, tokens


def seen(sigmas: list[float], counted: list[bool], applied: dict[str, list[bool]] | None = None, tokens: int = 3) -> ModelInput:
    size = len(sigmas)
    return ModelInput(
        tokens=torch.zeros(size, tokens + 1, 2),
        sigma=torch.tensor(sigmas),
        timesteps=torch.zeros(size, tokens + 1),
        positions=torch.zeros(size, 1, tokens + 1, 2),
        context=torch.zeros(size, 1, 1),
        loss_mask=torch.tensor(counted)[:, None].expand(size, tokens),
        applied={key: torch.tensor(values) for key, values in (applied or {}).items()},
    )


@pytest.mark.parametrize(("sigma", "number"), [(0.0, 0), (0.2499, 0), (0.25, 1), (0.5, 2), (0.75, 3), (0.9999, 3), (1.0, 3)])
def test_a_sigma_lies_in_its_quarter_and_one_in_the_last(sigma: float, number: int) -> None:
    assert bucket(sigma) == number


def test_each_modality_is_counted_by_its_own_sigma() -> None:
    tally = Tally()
    prepared = {"video": seen([0.1, 0.9], [True, True]), "audio": seen([0.6, 0.3], [True, True])}
    add_losses(tally, {"video": [1.0, 3.0], "audio": [5.0, 7.0]}, Facts.of(prepared))
    assert tally.means() == {
        "loss/video": 2.0,
        "uncounted/video": 0.0,
        "loss/video/sigma_0.00-0.25": 1.0,
        "loss/video/sigma_0.75-1.00": 3.0,
        "loss/audio": 6.0,
        "uncounted/audio": 0.0,
        "loss/audio/sigma_0.50-0.75": 5.0,
        "loss/audio/sigma_0.25-0.50": 7.0,
    }


def test_a_condition_divides_the_loss_of_both_modalities_into_where_it_applied_and_where_not() -> None:
    tally = Tally()
    prepared = {
        "video": seen([0.1, 0.1, 0.1], [True] * 3, {"video.cond0.first_frame": [True, False, True]}),
        "audio": seen([0.1, 0.1, 0.1], [True] * 3),
    }
    add_losses(tally, {"video": [1.0, 2.0, 3.0], "audio": [4.0, 5.0, 6.0]}, Facts.of(prepared))
    found = tally.means()
    assert found["loss/video/video.cond0.first_frame/applied"] == 2.0
    assert found["loss/video/video.cond0.first_frame/not_applied"] == 2.0
    assert found["loss/audio/video.cond0.first_frame/applied"] == 5.0
    assert found["loss/audio/video.cond0.first_frame/not_applied"] == 5.0


def test_a_drawn_value_divides_the_loss_where_its_condition_applied() -> None:
    tally = Tally()
    drawn = {"audio.cond0.prefix/length": [Value(each, str(each)) for each in (1, 2, 1, 2)]}
    inputs = attrs.evolve(seen([0.1] * 4, [True] * 4, {"audio.cond0.prefix": [True, True, True, False]}), drawn=drawn)
    add_losses(tally, {"audio": [1.0, 2.0, 5.0, 9.0]}, Facts.of({"audio": inputs}))
    found = {key: value for key, value in tally.means().items() if "length" in key}
    assert found == {"loss/audio/audio.cond0.prefix/length_1": 3.0, "loss/audio/audio.cond0.prefix/length_2": 2.0}


def test_a_frozen_modality_has_no_loss_but_its_conditions_count() -> None:
    tally = Tally()
    frozen = attrs.evolve(seen([0.0], [True], {"video.cond0.reference": [True]}), is_generated=False, loss_mask=None)
    add_losses(tally, {"audio": [2.0]}, Facts.of({"video": frozen, "audio": seen([0.5], [True])}))
    assert tally.means() == {
        "loss/audio": 2.0,
        "uncounted/audio": 0.0,
        "loss/audio/sigma_0.50-0.75": 2.0,
        "loss/audio/video.cond0.reference/applied": 2.0,
    }


def test_a_sample_without_a_counted_token_is_reported_and_stays_out_of_buckets() -> None:
    tally = Tally()
    prepared = {"audio": seen([0.1, 0.1], [False, True], {"audio.cond0.mask": [True, True]})}
    add_losses(tally, {"audio": [0.0, 4.0]}, Facts.of(prepared))
    assert tally.means() == {
        "loss/audio": 2.0,
        "uncounted/audio": 0.5,
        "loss/audio/sigma_0.00-0.25": 4.0,
        "loss/audio/audio.cond0.mask/applied": 4.0,
    }


def test_losses_of_any_shapes_are_read_with_their_names() -> None:
    first = {"loss": torch.tensor(1.5, requires_grad=True), "video": torch.tensor([1.0, 2.0])}
    assert read([first, {"audio": torch.tensor([3.0], dtype=torch.bfloat16)}]) == [{"loss": [1.5], "video": [1.0, 2.0]}, {"audio": [3.0]}]
    assert read([{}]) == [{}]


def test_a_mean_is_that_of_all_samples_that_were_added() -> None:
    tally = Tally()
    tally.add("loss", 2.0, 1)
    tally.add("loss", 10.0, 3)
    tally.add("nothing counted", 0.0, 0)
    assert tally.means() == {"loss": 3.0}


def test_appended_tokens_count_as_tokens() -> None:
    assert tokens({"video": seen([0.1, 0.1], [True, True], tokens=3), "audio": seen([0.1], [True], tokens=5)}) == 2 * 4 + 6


def test_peak_memory_is_that_of_this_process_in_gib() -> None:
    assert 0.05 < peak_memory("cpu") < 64

"""Sigma samplers agree with the recordings, and stay exact for any length."""

from __future__ import annotations

import pytest
import torch

from helpers.golden_draws import Recorded
from helpers.golden_io import load_case
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.sigmas import HIGH, LOW, ShiftedLogitNormal, Uniform, shift, stretched_sigmoid

SHIFTED = [
    "shifted_logit_normal.seq1024",
    "shifted_logit_normal.seq4096",
    "shifted_logit_normal.uniform_prob0.0.seq2048",
    "shifted_logit_normal.seq192.n64",
]


@pytest.mark.parametrize("name", SHIFTED)
def test_shifted_logit_normal_agrees_with_the_recording(name: str) -> None:
    case = load_case("03_timestep_samplers", name)
    draws = Recorded({f"video.sampler.{role}": value for role, value in case.draws.items()}, case.config["n"])
    found = ShiftedLogitNormal(**case.config["params"]).sample(draws, "video.sampler", case.config["seq_len"])
    torch.testing.assert_close(found, case.outputs["samples"], **case.tolerance)


def test_the_stretched_curve_agrees_with_the_recording() -> None:
    case = load_case("03_timestep_samplers", "stretch_curve.seq1024")
    draws = Recorded({f"video.sampler.{role}": value for role, value in case.draws.items()}, 241)
    found = ShiftedLogitNormal().sample(draws, "video.sampler", 1024)
    torch.testing.assert_close(found, case.outputs["samples"], **case.tolerance)


def test_uniform_agrees_with_the_recording() -> None:
    case = load_case("03_timestep_samplers", "uniform")
    draws = Recorded({"audio.sampler.uniform": case.draws["uniform"]}, 4096)
    torch.testing.assert_close(Uniform().sample(draws, "audio.sampler", 30), case.outputs["samples"], **case.tolerance)


def test_the_shift_agrees_with_the_recording() -> None:
    case = load_case("03_timestep_samplers", "mu_table")
    found = torch.tensor([shift(int(tokens)) for tokens in case.inputs["seq_len"]], dtype=torch.float64)
    torch.testing.assert_close(found, case.outputs["mu"], **case.tolerance)


@pytest.mark.parametrize("tokens", [1, 1_024, 8_192])
def test_the_stable_form_is_the_quotient_of_sigmoids_where_that_can_be_computed(tokens: int) -> None:
    z = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    mu = shift(tokens)
    low, high = torch.tensor([mu + LOW, mu + HIGH], dtype=torch.float64).sigmoid()
    torch.testing.assert_close(stretched_sigmoid(mu, 1.0, z), ((mu + z).sigmoid() - low) / (high - low), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tokens", [63_000, 262_144, 1_000_000])
def test_the_stable_form_is_exact_where_sigmoids_have_run_out_of_digits(tokens: int) -> None:
    # For large mu, 1 - sigmoid(mu + x) is exp(-mu - x), and the quotient is free of mu.
    z = torch.linspace(-4, 4, 801, dtype=torch.float64)
    limit = (torch.exp(-torch.tensor(LOW, dtype=torch.float64)) - torch.exp(-z)) / (
        torch.exp(torch.tensor(-LOW)) - torch.exp(torch.tensor(-HIGH))
    )
    torch.testing.assert_close(stretched_sigmoid(shift(tokens), 1.0, z), limit, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 20_000, 52_000, 63_000, 1_000_000])
@pytest.mark.parametrize("std", [0.0, 0.5, 1.0, 3.0])
def test_every_sigma_lies_between_zero_and_one_at_any_length(tokens: int, std: float) -> None:
    draws = CountedDraws(1, 0, tuple(map(str, range(500))), "0.0")
    found = ShiftedLogitNormal(std=std).sample(draws, "video.sampler", tokens)
    assert found.dtype == torch.float32
    assert bool(found.isfinite().all())
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_a_uniform_sampler_keeps_to_its_bounds() -> None:
    draws = CountedDraws(1, 0, tuple(map(str, range(500))), "0.0")
    found = Uniform(0.25, 0.5).sample(draws, "video.sampler", 1)
    assert 0.25 <= float(found.min()) < 0.26
    assert 0.49 < float(found.max()) <= 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShiftedLogitNormal(std=-1.0), "std is -1; it is at least 0"),
        (lambda: ShiftedLogitNormal(uniform_prob=1.5), "uniform_prob is 1.5; it lies between 0 and 1"),
        (lambda: Uniform(max_value=float("nan")), "max_value is nan; it lies between 0 and 1"),
        (lambda: Uniform(0.5, 0.25), "min_value 0.5 is above max_value 0.25"),
    ],
)
def test_parameters_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        make()
    assert str(caught.value) == message

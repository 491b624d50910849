"""Sigma samplers agree with the recordings, and stay exact for any length; noise and velocity."""

from __future__ import annotations

import math

import pytest
import torch

from helpers.golden_draws import Recorded
from helpers.golden_io import load_case
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.sigmas import HIGH, LOW, ShiftedLogitNormal, Uniform, add_noise, shift, stretched_sigmoid, velocity, z_of_sigma

SHIFTED = [
    "shifted_logit_normal.seq1024",
    "shifted_logit_normal.seq4096",
    "shifted_logit_normal.uniform_prob0.0.seq2048",
    "shifted_logit_normal.seq192.n64",
]


@pytest.mark.parametrize(
    "extreme", [ShiftedLogitNormal(std=250.0), ShiftedLogitNormal(std=250.0, max_value=0.5), Uniform(shift=1e9), Uniform(shift=1e-9)]
)
def test_the_most_extreme_parameters_that_are_accepted_draw_sigmas(extreme: ShiftedLogitNormal | Uniform) -> None:
    found = extreme.sample(CountedDraws(7, 0, tuple(map(str, range(64))), "0.0"), "video.sampler", 63_000)
    assert ((found >= 0) & (found <= 1)).all()


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
        (lambda: ShiftedLogitNormal(std=-1.0), "std is -1; it must be at least 0"),
        (lambda: ShiftedLogitNormal(std=251.0), "std is 251; it must be at most 250"),
        (lambda: Uniform(shift=1e10), "shift is 1e+10; it must be from 1e-09 to 1e+09"),
        (lambda: Uniform(shift=1e-10), "shift is 1e-10; it must be from 1e-09 to 1e+09"),
        (lambda: ShiftedLogitNormal(uniform_prob=1.5), "uniform_prob is 1.5; it must lie between 0 and 1"),
        (lambda: Uniform(max_value=float("nan")), "max_value is nan; it must lie between 0 and 1"),
        (lambda: Uniform(0.5, 0.25), "min_value 0.5 is above max_value 0.25"),
    ],
)
def test_parameters_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        make()
    assert str(caught.value) == message


# ---------------------------------------------------------------- a range, and a fixed shift


def _drawn(sampler: ShiftedLogitNormal | Uniform, tokens: int = 1024, many: int = 20_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    roles = {"normal": torch.randn(many, generator=generator), "uniform": torch.rand(many, generator=generator)}
    draws = Recorded({f"s.{role}": value for role, value in (roles | {"mix": torch.rand(many, generator=generator)}).items()}, many)
    return sampler.sample(draws, "s", tokens)


@pytest.mark.parametrize("mu", [-3.0, 0.58, 5.0, 40.0, 360.0])
@pytest.mark.parametrize("sigma", [0.01, 0.3, 0.9, 0.999])
def test_the_inverse_of_the_stretched_curve_gives_its_argument_back(mu: float, sigma: float) -> None:
    z = torch.tensor(z_of_sigma(mu, 1.3, sigma), dtype=torch.float64)
    assert float(stretched_sigmoid(mu, 1.3, z)) == pytest.approx(sigma, rel=1e-9)


@pytest.mark.parametrize("tokens", [192, 6_144, 262_144])
def test_a_range_gives_the_sigmas_that_drawing_again_would_give(tokens: int) -> None:
    low, high = 0.3, 0.8
    found = _drawn(ShiftedLogitNormal(min_value=low, max_value=high), tokens)
    assert low <= float(found.min()) <= float(found.max()) <= high
    # Without the uniform draws, whose share stays that of the run file.
    found = _drawn(ShiftedLogitNormal(min_value=low, max_value=high, uniform_prob=0), tokens)
    every = _drawn(ShiftedLogitNormal(uniform_prob=0), tokens, 400_000)
    kept = every[(every >= low) & (every <= high)]
    shares = torch.linspace(0.05, 0.95, 19)
    torch.testing.assert_close(found.quantile(shares), kept.quantile(shares), atol=0.02, rtol=0)


def test_a_fixed_shift_is_the_odds_times_the_shift_whatever_the_length() -> None:
    plain, shifted = (_drawn(ShiftedLogitNormal(uniform_prob=0, shift=by), tokens) for by, tokens in ((1.0, 64), (5.0, 100_000)))
    # Before the stretch odds are five times as high; the stretch moves both ends to 0 and 1, so middles are compared unstretched.
    z = torch.zeros(1, dtype=torch.float64)
    middle = [float(stretched_sigmoid(mu, 1.0, z)) for mu in (0.0, math.log(5.0))]
    assert float(plain.median()) == pytest.approx(middle[0], abs=0.01)
    assert float(shifted.median()) == pytest.approx(middle[1], abs=0.01)
    assert torch.equal(shifted, _drawn(ShiftedLogitNormal(uniform_prob=0, shift=5.0), 64))


def test_a_shifted_uniform_keeps_to_its_bounds_and_has_the_shifted_distribution() -> None:
    found = _drawn(Uniform(0.2, 0.9, shift=3.0))
    u = _drawn(Uniform(), many=400_000)
    every = 3 * u / (1 + 2 * u)
    kept = every[(every >= 0.2) & (every <= 0.9)]
    shares = torch.linspace(0.05, 0.95, 19)
    torch.testing.assert_close(found.quantile(shares), kept.quantile(shares), atol=0.02, rtol=0)
    assert 0.2 <= float(found.min()) <= float(found.max()) <= 0.9


def test_the_whole_range_changes_no_bit() -> None:
    assert torch.equal(_drawn(ShiftedLogitNormal()), _drawn(ShiftedLogitNormal(min_value=0.0, max_value=1.0, shift=None)))
    assert torch.equal(_drawn(Uniform()), _drawn(Uniform(shift=1.0)))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"min_value": 0.6, "max_value": 0.4}, "min_value 0.6 is above max_value 0.4"),
        ({"shift": 0.0}, "shift is 0; it must be above 0"),
        ({"max_value": 0.0005}, "max_value 0.0005 is below eps 0.001, the smallest possible sigma"),
    ],
)
def test_a_range_or_shift_that_cannot_be_is_refused_in_words(keys: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ShiftedLogitNormal(**keys)


def test_noise_comes_by_the_level_of_each_token() -> None:
    clean, noise = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    assert add_noise(clean, noise, torch.tensor([[0.0, 0.25, 1.0]]))[0, :, 0].tolist() == [0.0, 0.25, 1.0]


def test_the_velocity_leads_from_clean_to_noise() -> None:
    clean, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    level = torch.full((2, 3), 0.3)
    torch.testing.assert_close(add_noise(clean, noise, level) + 0.7 * velocity(clean, noise), noise)

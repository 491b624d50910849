"""What docs/explanation/arithmetic.md writes down is what the code computes, for formulas that are Python as they stand."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from ltxcore.drawn import Part
from ltxcore.flow.sigmas import add_noise, shift, stretched_sigmoid, velocity
from ltxcore.levels import noise_levels
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.protocols import ModelInput
from ltxcore.sample.cuts import steps_of
from ltxcore.sample.euler import clean_prediction, euler, schedule, start
from ltxcore.sample.guidance import Passes, Scales, combine
from ltxcore.state import Grid

PAGE = (Path(__file__).parents[1] / "docs" / "explanation" / "arithmetic.md").read_text()


def formula(heading: str, name: str) -> str:
    """The right side of `name = ...`, or of `name <- ...`, under a heading."""
    block = PAGE.partition(f"\n### {heading}\n")[2].partition("```text\n")[2].partition("```")[0]
    found = re.search(rf"(?:^|    ){re.escape(name)} (?:=|<-) (.*?)(?:    |$)", block, re.MULTILINE)
    assert found, f"{heading} has no {name}"
    return found[1]


def value(heading: str, name: str, **known: Any) -> Any:
    functions = {"std": lambda values: values.std(), **{each: getattr(torch, each) for each in ("sinh", "cosh", "sigmoid")}}
    return eval(formula(heading, name), {**functions, "e": math.e, "max": max, **known})


def tokens(seed: int) -> torch.Tensor:
    return torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(seed))


X, N = tokens(1), tokens(2)
MASK = torch.tensor([[1.0, 0.0, 0.25, 1.0, 0.5, 1.0]])


def at(s: float, noisy: torch.Tensor = X) -> ModelInput:
    nothing = torch.zeros(1, 1)
    return ModelInput(noisy, torch.tensor([s]), s * MASK, nothing, nothing, clean=X, denoise_mask=MASK)


def test_formulas_are_numbered_in_their_order() -> None:
    numbers = [int(each) for each in re.findall(r"\((\d+)\)$", PAGE, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("count", [25, 1024, 63_000])
def test_the_centre_of_the_noise_levels(count: int) -> None:
    assert value("Centre of the noise levels", "mu", T=count) == shift(count)


@pytest.mark.parametrize("form", ["Shifted logit-normal", "Stable form of the shifted logit-normal"])
def test_the_shifted_logit_normal_in_either_form(form: str) -> None:
    known: dict[str, Any] = {"mu": 1.7, "std": 0.8, "z": torch.linspace(-2, 2, 9, dtype=torch.float64)}
    for name in ("lo", "hi") if form.startswith("Shifted") else ("a", "b"):
        known[name] = value(form, name, **{**known, "mu": torch.tensor(1.7, dtype=torch.float64)})
    tensors = {name: torch.as_tensor(each, dtype=torch.float64) for name, each in known.items()}
    torch.testing.assert_close(value(form, "y", **tensors), stretched_sigmoid(1.7, 0.8, known["z"]))


def test_noise_and_velocity() -> None:
    timesteps = value("Noise level of a token", "timesteps", s=0.7, m=MASK)
    assert value("Noise of a token", "noisy", x=X, n=N, timesteps=timesteps[..., None]).equal(add_noise(X, N, timesteps))
    assert value("Velocity", "velocity", x=X, n=N).equal(velocity(X, N))


def test_levels_of_given_tokens() -> None:
    levels = 0.3 * (MASK == 0)
    timesteps = value("Level of given tokens", "timesteps", s=0.7, m=MASK, l=levels)
    assert timesteps.equal(noise_levels(0.7, MASK, levels))
    noisy = value("Level of given tokens", "noisy", x=X, n=N, timesteps=timesteps[..., None])
    given = attrs.evolve(at(1.0), levels=levels, tokens=X)
    assert noisy[MASK == 0].equal(start(given, N).tokens[MASK == 0])


def test_drawn_values() -> None:
    heading, known = "Drawn values", {"min": 2, "max": 9, "floor": math.floor}
    assert all(value(heading, "v", u=u / 64, **known) == Part(2, 9).at(u / 64) for u in range(64))
    for name, scale in (("real:", "linear"), ("log:", "log")):
        expected = eval(re.search(rf"{name} (.*?)    ", PAGE)[1], {"min": 2.0, "max": 9.0, "u": 0.3})
        assert Part(2.0, 9.0, scale=scale).at(0.3) == pytest.approx(expected)


def test_a_step_of_generation() -> None:
    begun = start(at(1.0), N).tokens
    assert value("Start of generation", "tokens", x=X, n=N, m=MASK[..., None]).equal(begun)
    said = tokens(3)
    x0 = value("Clean prediction", "x0", tokens=begun, velocity=said, timesteps=0.7 * MASK[..., None])
    assert x0.equal(clean_prediction(at(0.7, begun), said))
    held = value("Held tokens", "p", p=x0, m=MASK[..., None], x=X)
    expected = eval(formula("Euler step", "tokens").replace("s'", "after"), {"tokens": begun, "p": held, "s": 0.7, "after": 0.0})
    found = euler(lambda inputs: {"video": x0}, {"video": at(0.7, begun)}, torch.tensor([0.7, 0.0]))["video"]
    torch.testing.assert_close(found, expected)


def test_guidance_and_its_rescaling() -> None:
    c, u, q, i = (tokens(seed) for seed in (4, 5, 6, 7))
    guided = value("Guidance", "p", c=c, u=u, q=q, i=i, cfg=3.0, stg=1.0, mod=2.0)
    torch.testing.assert_close(combine(Passes(c, u, q, i), Scales(3.0, 1.0, 2.0)), guided)
    rescaled = value("Rescaled guidance", "p", p=guided, c=c, r=0.7)
    torch.testing.assert_close(combine(Passes(c, u, q, i), Scales(3.0, 1.0, 2.0, 0.7)), rescaled)


def test_the_noise_levels_of_generation() -> None:
    t = [value("Noise levels of generation", "t_i", i=index, N=8) for index in range(8)]
    shifted = [eval(formula("Noise levels of generation", "r_i").replace("^", "**"), {"e": math.e, "t_i": each}) for each in t]
    last = formula("Noise levels of generation", "s_i").replace("r_(N-1)", "r_last")
    levels = [eval(last, {"r_i": each, "r_last": shifted[-1]}) for each in shifted]
    torch.testing.assert_close(schedule(8), torch.tensor([*levels, 0.0]))


@pytest.mark.parametrize("samples", [8_000, 16_000, 80_667])
def test_the_steps_of_a_sound(samples: int) -> None:
    mel = value("Tokens of a sound", "mel frames", N=samples)
    assert eval(formula("Tokens of a sound", "T").replace("mel frames", "mel"), {"mel": mel}) == steps_of(samples, (4, 1, 1))


def ends(heading: str, axis: str) -> str:
    """Start and end of a token on an axis, as a list in brackets."""
    found = re.search(rf"^{axis} +(\[.*\])", PAGE.partition(f"\n### {heading}\n")[2], re.MULTILINE)
    assert found, f"{heading} has no {axis}"
    return found[1]


def test_where_the_tokens_of_a_clip_lie() -> None:
    names = {"max": max, "St": 8, "Sh": 32, "Sw": 32, "f": 2, "y": 1, "x": 3}
    seconds, rows, columns = (eval(ends("Positions of a clip", axis), names) for axis in ("seconds", "rows", "columns"))
    found = VideoModality().positions(Grid(3, 2, 4), torch.tensor([24.0]))[0, :, (2 * 2 + 1) * 4 + 3]
    torch.testing.assert_close(found, torch.tensor([[each / 24 for each in seconds], rows, columns], dtype=torch.float32))


def test_where_the_tokens_of_a_sound_lie() -> None:
    expected = [eval(ends("Positions of a sound", "seconds"), {"max": max, "i": i}) for i in range(5)]
    torch.testing.assert_close(AudioModality().positions(Grid(5, scale=(4, 1, 1)), torch.ones(1))[0, 0], torch.tensor(expected) / 100)

"""Draws depend on what they are for, and on nothing else."""

from __future__ import annotations

import subprocess
import sys

import torch

from ltxcore.flow.draws import CountedDraws, generator


def test_a_sample_draws_the_same_in_any_batch_and_in_any_order() -> None:
    one = CountedDraws(1, 2, ("a", "b", "c"), "2.0")
    other = CountedDraws(1, 2, ("c", "a"), "2.7")
    other.uniform("something else")
    assert torch.equal(one.normal("video.noise", (4, 3))[[2, 0]], other.normal("video.noise", (4, 3)))


def test_another_seed_epoch_sample_or_purpose_draws_other_numbers() -> None:
    base = CountedDraws(1, 0, ("a",), "0.0")
    others = [CountedDraws(2, 0, ("a",), "0.0"), CountedDraws(1, 1, ("a",), "0.0"), CountedDraws(1, 0, ("b",), "0.0")]
    values = {float(draws.normal("x")) for draws in [base, *others]} | {float(base.normal("y"))}
    assert len(values) == 5


def test_a_shared_draw_belongs_to_the_micro_batch() -> None:
    assert CountedDraws(1, 0, ("a", "b"), "0.3").shared_uniform("u") == CountedDraws(1, 0, ("b", "a"), "0.3").shared_uniform("u")
    assert CountedDraws(1, 0, ("a",), "0.3").shared_uniform("u") != CountedDraws(1, 0, ("a",), "0.4").shared_uniform("u")


def test_draws_leave_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    CountedDraws(1, 0, ("a", "b"), "0.0").normal("x", (5,))
    assert torch.equal(before, torch.get_rng_state())


def test_another_process_draws_the_same() -> None:
    code = "from ltxcore.flow.draws import generator; import torch; print(torch.rand((), generator=generator(5, 'a', 1)).item())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(other) == torch.rand((), generator=generator(5, "a", 1)).item()


def test_keys_that_read_alike_when_joined_are_kept_apart() -> None:
    values = {torch.rand((), generator=generator(1, *key)).item() for key in [("a", "bc"), ("ab", "c"), ("abc",), ("abc", 1), ("abc", "1")]}
    assert len(values) == 5

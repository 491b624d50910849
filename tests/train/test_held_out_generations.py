"""Held-out clips are generated with every condition of the run, each with the values that the clip itself draws."""

from __future__ import annotations

import torch

from ltxcore.flow.draws import CountedDraws
from ltxcore.train.held_out_generations import Always
from ltxcore.train.validation_loss import EPOCH


def test_conditions_always_apply_and_drawn_values_are_those_of_the_validation_loss() -> None:
    always = Always(CountedDraws(3, EPOCH, ("clip",), "clip"))
    measured = CountedDraws(3, EPOCH, ("other", "clip"), "other,clip")
    assert always.uniform("video.cond0.prefix.u").tolist() == [0.0]
    assert always.shared_uniform("video.cond1.reference.u") == 0.0
    key = "video.cond0.prefix.value.temporal_boundary"
    assert torch.equal(always.uniform(key), measured.uniform(key)[1:])
    assert 0 < always.shared_uniform(key) < 1

"""Noise and velocity."""

from __future__ import annotations

import torch

from ltxcore.flow.noise import add_noise, velocity


def test_noise_comes_by_the_level_of_each_token() -> None:
    clean, noise = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    assert add_noise(clean, noise, torch.tensor([[0.0, 0.25, 1.0]]))[0, :, 0].tolist() == [0.0, 0.25, 1.0]


def test_the_velocity_leads_from_clean_to_noise() -> None:
    clean, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    level = torch.full((2, 3), 0.3)
    torch.testing.assert_close(add_noise(clean, noise, level) + 0.7 * velocity(clean, noise), noise)

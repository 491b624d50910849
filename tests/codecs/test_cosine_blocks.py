"""Blocks to their lowest cosine coefficients, standardised."""

import json
from pathlib import Path

import pytest
import torch
from measure_tiny import constants

import ltxcore.codecs
from ltxcore.codecs.cosine_blocks import Statistics, basis, cosines, lowest


@pytest.mark.parametrize("size", [3, 4, 8, 64])
def test_the_cosines_are_orthonormal_and_start_with_the_mean(size: int) -> None:
    matrix = cosines(size)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(size), atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix[0], torch.full((size,), size**-0.5))


def test_the_lowest_frequencies_come_first() -> None:
    assert lowest((3, 3), 6) == ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0))


def test_a_block_is_its_coefficients_when_all_are_kept() -> None:
    kept = lowest((2, 4, 3), 24)
    rows = basis((2, 4, 3), kept)
    torch.testing.assert_close(rows @ rows.T, torch.eye(24), atol=1e-6, rtol=0)


def test_statistics_standardise_but_do_not_blow_up_what_hardly_varies() -> None:
    values = torch.stack([torch.linspace(-3, 5, 101), torch.linspace(-0.001, 0.001, 101)], dim=1)
    found = Statistics.of(values)
    latents = found.standardised(values)
    torch.testing.assert_close(latents[:, 0].std(), torch.tensor(1.0))
    torch.testing.assert_close(found.spread[1], 0.5 * values[:, 0].std() / 2**0.5)  # half the root mean square of (s, 0)
    torch.testing.assert_close(found.restored(latents), values)


def test_the_constants_in_the_package_are_those_of_the_world() -> None:
    shipped = json.loads(Path(ltxcore.codecs.__file__).with_name("tiny.json").read_text())
    measured = constants()
    for modality, table in measured.items():
        for name, values in table.items():
            torch.testing.assert_close(torch.tensor(values), torch.tensor(shipped[modality][name]), rtol=2e-3, atol=2e-3)

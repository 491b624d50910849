"""The formulas that turn HDR into BT.709: known values, and a second derivation of the whole in float64."""

from typing import Any

import numpy as np
import pytest
import torch

from helpers.hdr_made import BT709, COLOURS, FULL, GREYS, HLG, PQ, STUDIO, Numbers, as_rgb, as_yuv, bt2020_to_bt709, light_to_pq, shown
from ltxcore.media.hdr import Bt709, Signal, bt1886_signal, hlg_scene_light, pq_light, pq_signal, pressed, to_bt709, to_xyz

TRANSFERS: dict[int, Any] = {HLG: "HLG", PQ: "PQ"}


def one(number: float) -> torch.Tensor:
    return torch.tensor(number, dtype=torch.float64)


def converted(planes: Numbers, signal: Signal, bits: int) -> Numbers:
    """Numbers `[3, N]` of so many bits as levels `[3, N]`."""
    shifted = [torch.from_numpy(plane[None].astype(np.int32) << (16 - bits)).to(torch.uint16) for plane in planes]
    return Bt709(signal).pixels((shifted[0], shifted[1], shifted[2]), bits)[0].numpy().T.astype(np.float64)


def test_reference_white_is_58_percent_of_pq_and_75_percent_of_hlg() -> None:
    assert pq_signal(one(203.0)) == pytest.approx(0.58, abs=0.001)  # BT.2408, table 1
    scene = hlg_scene_light(one(0.75))
    assert 1000 * scene**1.2 == pytest.approx(203, abs=0.5)  # the OOTF of a display of 1000 cd/m2


def test_signals_end_where_the_recommendation_says() -> None:
    assert pq_light(one(0.0)) == 0
    assert pq_light(one(1.0)) == pytest.approx(10_000)
    assert hlg_scene_light(one(0.5)) == pytest.approx(1 / 12)
    assert hlg_scene_light(one(1.0)) == pytest.approx(1, abs=1e-6)


def test_pq_goes_there_and_back() -> None:
    signal = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(pq_signal(pq_light(signal)), signal, rtol=0, atol=1e-6)


@pytest.mark.parametrize("peak", [300.0, 1000.0, 4000.0, 10_000.0])
def test_light_is_left_up_to_the_knee_and_pressed_to_reference_white_above(peak: float) -> None:
    light = torch.linspace(0, peak, 5001, dtype=torch.float64)
    found = pressed(light, peak)
    knee = pq_light(1.5 * pq_signal(one(203.0)) - 0.5 * pq_signal(one(peak)))
    assert torch.equal(found[light < knee], light[light < knee])
    assert found[-1] == pytest.approx(203)
    assert bool((found.diff() > 0).all())
    assert pressed(one(20_000.0), peak) == pytest.approx(203)


def test_pictures_made_on_a_dark_display_are_only_clipped() -> None:
    assert torch.equal(pressed(torch.tensor([50.0, 202.0, 900.0]), 100.0), torch.tensor([50.0, 202.0, 203.0]))


def test_colours_are_turned_by_the_inverse_of_the_published_matrix() -> None:
    published = torch.tensor([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]], dtype=torch.float64)
    torch.testing.assert_close(to_bt709("BT.2020") @ published, torch.eye(3, dtype=torch.float64), rtol=0, atol=2e-4)
    assert to_bt709("BT.2020").sum(1).tolist() == pytest.approx([1, 1, 1])  # grey stays grey
    assert to_xyz("BT.2020")[1].tolist() == pytest.approx([0.2627, 0.6780, 0.0593], abs=5e-5)
    torch.testing.assert_close(to_bt709("BT.709"), torch.eye(3, dtype=torch.float64))


def test_half_of_the_light_is_three_quarters_of_the_signal() -> None:
    assert bt1886_signal(one(0.5)) == pytest.approx(0.7491535)


@pytest.mark.parametrize("color_range", [STUDIO, FULL])
@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("transfer", [HLG, PQ])
@pytest.mark.parametrize("colours", [GREYS, COLOURS], ids=["ramp", "colours"])
def test_every_grey_and_colour_is_within_a_level_of_the_formulas(colours: Numbers, transfer: int, bits: int, color_range: int) -> None:
    planes = as_yuv(colours, bits, color_range)
    signal = Signal(TRANSFERS[transfer], full_range=color_range == FULL)
    difference = np.abs(converted(planes, signal, bits) - shown(as_rgb(planes, bits, color_range), transfer))
    assert difference.max() < 1


@pytest.mark.parametrize("peak", [100.0, 400.0, 1000.0, 4000.0])
def test_the_peak_of_the_display_that_pq_was_made_on_counts(peak: float) -> None:
    planes = np.round(1023 * np.random.default_rng(0).random((3, 40_000)))
    found = converted(planes, Signal("PQ", matrix="RGB", full_range=True, peak=peak), 10)
    assert np.abs(found - shown(planes / 1023, PQ, peak=peak)).max() < 1


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_any_colour_is_within_a_level_of_the_formulas_also_at_the_edge_of_bt709(transfer: int) -> None:
    anything = np.random.default_rng(0).random((3, 200_000))
    at_edge = np.linalg.inv(bt2020_to_bt709()) @ (anything[:, :20_000] * np.array([[0.0], [0.3], [0.3]]))
    edge = light_to_pq(203 * at_edge) if transfer == PQ else (at_edge / 4) ** 0.5
    signal = np.concatenate([anything, edge], axis=1)
    planes = np.round(65535 * signal)
    found = converted(planes, Signal(TRANSFERS[transfer], matrix="RGB", full_range=True), 16)
    assert np.abs(found - shown(planes / 65535, transfer)).max() < 1


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_bt709_colours_are_not_turned(transfer: int) -> None:
    planes = np.round(65535 * np.concatenate([COLOURS, GREYS], axis=1))
    found = converted(planes, Signal(TRANSFERS[transfer], "BT.709", "RGB", True), 16)
    assert np.abs(found - shown(planes / 65535, transfer, primaries=BT709)).max() < 1
    assert found[:, :4].tolist()[:2] == [[0] * 4] * 2  # blue is nothing but blue


def test_numbers_beyond_black_and_white_are_black_and_white() -> None:
    planes = np.array([[0, 1023], [512, 512], [512, 512]])
    for transfer in TRANSFERS.values():
        assert converted(planes, Signal(transfer), 10).tolist() == [[0, 255]] * 3


def test_a_picture_is_the_same_however_it_is_cut_into_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    luma, blue, red = (torch.from_numpy(plane).to(torch.uint16) for plane in np.random.default_rng(1).integers(0, 65535, (3, 37, 53)))
    whole = Bt709(Signal("HLG")).pixels((luma, blue, red), 10)
    monkeypatch.setattr("ltxcore.media.hdr._STRIP", 200)
    torch.testing.assert_close(Bt709(Signal("HLG")).pixels((luma, blue, red), 10), whole, rtol=0, atol=0)

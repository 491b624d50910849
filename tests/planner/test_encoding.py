"""What is said of encoding clips before a run, beside live storages while the real codec encodes one."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch

from helpers.official_models import video_module
from helpers.whole_models import split
from ltxcore.codecs.official import video_vae
from ltxcore.codecs.official.tiles import Tiling
from ltxcore.config.load import load_run
from ltxcore.encode.device_work import AT_ONCE
from ltxcore.new.memory import fitted_to
from ltxcore.planner.cost_in_json import machine
from ltxcore.planner.costs import advice, cost, told
from ltxcore.planner.decoding import DTYPE
from ltxcore.planner.encoding import encoding
from ltxcore.planner.estimate import with_margin
from ltxcore.planner.live import LiveBytes
from ltxcore.protocols import Clip
from planner.measured import alive
from planner.test_decoding import planned

SCALE = (8, 32, 32)


@pytest.mark.slow
@pytest.mark.parametrize(("cells", "tiles"), [((3, 6, 8), False), ((2, 20, 20), True)], ids=["whole", "in tiles"])
def test_encoding_takes_what_is_said(cells: tuple[int, int, int], tiles: bool, tmp_path: Path) -> None:
    paths = split(tmp_path)
    vae = video_vae.load(paths["model_path"], paths["video_vae_path"], dtype=DTYPE, tiling=Tiling() if tiles else None)
    assert vae.scale == SCALE
    shape = (cells[0] - 1) * SCALE[0] + 1, cells[1] * SCALE[1], cells[2] * SCALE[2], 3
    vae.encode(Clip(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), 24.0))  # reads the encoder
    encoder = video_vae.load(paths["model_path"], paths["video_vae_path"])._part.module.encoder
    live = LiveBytes(each for each in alive() if each.untyped_storage().nbytes())
    clips = [Clip(torch.zeros(shape, dtype=torch.uint8), 24.0) for _ in range(AT_ONCE)]
    live.count(clip.frames for clip in clips)
    with live:
        vae.encode(clips[0])
    weights = sum(each.numel() * DTYPE.itemsize for each in encoder.parameters())
    assert encoding(encoder, cells, SCALE, tiles=tiles) - weights == pytest.approx(live.peak, rel=0.1)


def test_tiles_take_less_the_larger_a_clip_is() -> None:
    encoder = video_module("2.3").encoder
    whole, tiled = ([encoding(encoder, (2, side, side), SCALE, tiles=tiles) for side in (16, 32)] for tiles in (False, True))
    assert whole[0] == tiled[0]
    assert whole[1] > 3 * whole[0]
    assert tiled[1] - tiled[0] == AT_ONCE * 3 * 9 * (1024**2 - 512**2)  # only the clips' own pixels


def test_a_plan_says_whether_encoding_fits_and_what_takes_less(tmp_path: Path) -> None:
    found, _ = planned(tmp_path, split(tmp_path))
    small, large = (cost(found.loaded, 1, memory, bucket="1024x1024x17") for memory in (2**30 + 2**20, 80 * 2**30))
    assert dict(dict(told(large))["Preprocessing"])["encoding of clips"].endswith("of 80.0 GiB with margin: fits")
    assert dict(dict(told(small))["Preprocessing"])["encoding of clips"].endswith("with margin: does not fit")
    assert machine(large)["preprocessing"] == {"video": large.encoding, "text": large.captions, "fits": True}
    assert not machine(small)["preprocessing"]["fits"]
    assert 0 < small.encoding_tiled < small.encoding == large.encoding
    assert any("with preprocessing.vae_tiling = true, and less if" in line for line in advice(small))
    assert large.captions_fit
    elsewhere = attrs.evolve(large, captions=None)
    assert elsewhere.captions_fit
    assert (
        dict(dict(told(elsewhere))["Preprocessing"])["encoding of captions"] == "unknown, because the text encoder is not on this machine"
    )
    scarce = attrs.evolve(large, captions=80 * 2**30)
    assert dict(dict(told(scarce))["Preprocessing"])["encoding of captions"] == "89.0 GiB of 80.0 GiB with margin: does not fit"
    assert any("offload_text_encoder" in line for line in advice(scarce))
    assert not machine(scarce)["preprocessing"]["fits"]
    assert not any("vae_tiling" in line for line in advice(large))


def test_a_run_that_encodes_in_tiles_is_counted_so_and_a_new_run_file_does_where_whole_clips_do_not_fit(tmp_path: Path) -> None:
    paths, whole, tiled = split(tmp_path), *(tmp_path / name for name in ("whole", "tiled"))
    for folder in (whole, tiled):
        folder.mkdir()
        planned(folder, paths, preprocessing={"resolution_buckets": "1024x1024x17", "vae_tiling": folder == tiled})
    memory = with_margin(cost(load_run(whole / "run.toml"), 1, 2**40).encoding) - 1
    without, own, scarce = (
        cost(load_run(folder / "run.toml"), 1, size) for folder, size in ((whole, memory), (tiled, memory), (tiled, 2**30))
    )
    assert not without.encoding_fits
    assert own.encoding_fits
    assert (own.encoding, own.encoding_tiled, scarce.encoding_tiled) == (without.encoding_tiled, 0, 0)
    assert "Encoding the clips takes less if the clips are smaller or shorter." in advice(scarce)
    for folder, size, key in ((whole, memory, {"vae_tiling": "true"}), (whole, 2**40, {}), (tiled, memory, {})):
        assert fitted_to(folder / "run.toml", size, 1, None, lambda _: None).settings.get("preprocessing", {}) == key


def test_the_tiny_codec_and_clips_that_are_encoded_are_not_counted(tmp_path: Path) -> None:
    found, _ = planned(tmp_path, {})
    tiny = cost(found.loaded, 1, 80 * 2**30, bucket="64x64x17")
    assert tiny.encoding == 0
    assert "Preprocessing" not in dict(told(tiny))

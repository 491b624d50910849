"""VAE tiling in a run: it decodes its samples and encodes what they are given, with `acceleration.vae_tiling`, and encodes its clips, with
`preprocessing.vae_tiling`, in pieces, as the commands do with `--vae-tiling`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from helpers.official_models import CHANNELS
from helpers.official_text import WIDTHS
from helpers.sample_made import PLAIN, clip_file, image_file
from helpers.training_runs import put, write_run
from helpers.whole_models import unified
from ltxcore.cli.main import main
from ltxcore.codecs.official.tiles import Tiling
from ltxcore.codecs.official.video_vae import VideoVae
from ltxcore.codecs.source import Codecs
from ltxcore.config.load import load_run
from ltxcore.encoded.store import read_stored
from ltxcore.media.probe import read_clip
from ltxcore.protocols import Clip
from ltxcore.train.start_run import run

SIZE = (544, 64, 9)
"""Wider than a piece, which is 512 pixels wide."""


@attrs.define
class Seen:
    """What the codecs of clips were given, how they were to cut it, and what they encoded it to."""

    decoded: list[tuple[Tiling | None, Tensor]] = attrs.field(factory=list)
    encoded: list[tuple[Tiling | None, Clip, Tensor]] = attrs.field(factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found, decode, encode = Seen(), VideoVae.decode, VideoVae.encode

    def decoded(self: VideoVae, latents: Tensor, rate: float) -> Clip:
        found.decoded.append((self.tiling, latents))
        return decode(self, latents, rate)

    def encoded(self: VideoVae, medium: Clip) -> Tensor:
        latents = encode(self, medium)
        found.encoded.append((self.tiling, medium, latents))
        return latents

    monkeypatch.setattr(VideoVae, "decode", decoded)
    monkeypatch.setattr(VideoVae, "encode", encoded)
    return found


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return unified(tmp_path_factory.mktemp("model"))


def drawn(folder: Path, model: dict[str, Path], *, tiling: bool) -> Path:
    """The sample of a run of one step."""
    told = {"fingerprint": "clip", "origin": "clip.mp4"}
    put(folder / "data", "latents", "clip", {"latents": torch.zeros(CHANNELS, 2, 2, 2)}, rate=24.0, **told)
    put(folder / "data", "conditions", "clip", {name: torch.zeros(3, width) for name, width in WIDTHS.items()}, shape=(8,), **told)
    image_file(folder / "image.png")
    sample = {"prompt": "a red disc", "conditions": [{"type": "first_frame", "image_or_video": str(folder / "image.png")}]}
    tables: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "model": {key: str(path) for key, path in model.items()},
        "lora": {"rank": 2, "target_modules": ["attn1.to_q"]},
        "training_strategy": {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}},
        "optimization": {"steps": 1},
        "acceleration": {"vae_tiling": tiling, "mixed_precision_mode": "no"},
        "data": {"preprocessed_data_root": str(folder / "data"), "held_out": 0, "num_dataloader_workers": 0},
        "validation": {
            **PLAIN,
            "skip_initial_validation": True,
            "inference_steps": 2,
            "video_dims": list(SIZE),
            "frame_rate": 24.0,
            "generate_audio": False,
            "samples": [sample],
        },
    }
    (clip,) = run(load_run(write_run(folder, tables))).generations
    return clip.path


def decoded_by_command(folder: Path, model: dict[str, Path], latents: Tensor, *options: str) -> Tensor:
    """The frames that `ltx decode` makes of latents."""
    fingerprint = Codecs(str(model["model_path"]), device="cpu").video().fingerprint
    put(folder, "latents", "drawn", {"latents": latents}, rate=24.0, fingerprint="drawn", origin="drawn.mp4", encoder=fingerprint)
    where = [str(folder), f"--output={folder / 'clips'}", f"--model-path={model['model_path']}"]
    done = CliRunner().invoke(main, ["decode", *where, "--device=cpu", "--no-progress", *options])
    assert done.exit_code == 0, done.output
    return read_clip(folder / "clips" / "latents" / "drawn.mp4").frames


@pytest.mark.slow
def test_what_a_run_makes_in_pieces_is_what_the_commands_make(model: dict[str, Path], seen: Seen, tmp_path: Path) -> None:
    film = read_clip(drawn(tmp_path, model, tiling=True)).frames
    ((tiling, latents),), ((tiling_of_given, given, encoded),) = seen.decoded, seen.encoded
    assert (tiling, tiling_of_given) == (Tiling(), Tiling())
    assert tuple(film.shape[:3]) == (SIZE[2], SIZE[1], SIZE[0])
    for is_tiled in (True, False):
        codec = Codecs(str(model["model_path"]), device="cpu", tiling=is_tiled).video()
        assert torch.equal(codec.encode(given), encoded) is is_tiled
    assert torch.equal(decoded_by_command(tmp_path / "tiled", model, latents, "--vae-tiling"), film)
    assert not torch.equal(decoded_by_command(tmp_path / "whole", model, latents), film)


@pytest.mark.parametrize("tiling", [True, False])
def test_a_run_decodes_and_encodes_in_pieces_where_that_is_asked_for(
    tiling: bool, model: dict[str, Path], seen: Seen, tmp_path: Path
) -> None:
    drawn(tmp_path, model, tiling=tiling)
    assert [each[0] for each in (*seen.decoded, *seen.encoded)] == [Tiling() if tiling else None] * 2


def trained_on(folder: Path, model: dict[str, Path], *, tiling: bool) -> None:
    """Train a step on the clips of a folder, which are encoded unless they are already."""
    tables: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "model": {key: str(path) for key, path in model.items()},
        "lora": {"rank": 2, "target_modules": ["attn1.to_q"]},
        "training_strategy": {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}},
        "optimization": {"steps": 1},
        "acceleration": {"mixed_precision_mode": "no"},
        "data": {"dataset": str(folder / "clips"), "held_out": 0, "num_dataloader_workers": 0},
        "preprocessing": {"vae_tiling": tiling, "skip_audio": True},
    }
    shutil.rmtree(folder / "out", ignore_errors=True)
    run(load_run(write_run(folder, tables)))


@pytest.mark.slow
def test_clips_that_the_command_encoded_in_pieces_are_those_that_a_run_in_pieces_trains_on(model: dict[str, Path], tmp_path: Path) -> None:
    width, height, frames = SIZE
    clip_file(tmp_path / "clips" / "a.mp4", frames, height, width)
    (tmp_path / "clips" / "a.txt").write_text("a red disc")
    paths = [f"--{key.replace('_', '-')}={path}" for key, path in model.items()]
    done = CliRunner().invoke(
        main, ["preprocess", str(tmp_path / "clips"), *paths, "--device=cpu", "--skip-audio", "--vae-tiling", "--no-progress"]
    )
    assert done.exit_code == 0, done.output
    file = tmp_path / "clips.precomputed" / "latents" / "a.safetensors"
    by_command = read_stored(file)[0]
    written = file.stat().st_mtime_ns
    assert by_command.encoder.endswith("+tiles=512/128")
    trained_on(tmp_path, model, tiling=True)
    assert file.stat().st_mtime_ns == written
    trained_on(tmp_path, model, tiling=False)
    whole = read_stored(file)[0]
    assert "tiles" not in whole.encoder
    trained_on(tmp_path, model, tiling=True)
    assert torch.equal(read_stored(file)[0].tensors["latents"], by_command.tensors["latents"])
    assert not torch.equal(whole.tensors["latents"], by_command.tensors["latents"])

"""Encoded samples become files that play: pictures with their sound, sounds alone, masks; a bad file loses only itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from helpers.encoded_sets import put
from helpers.media_made import psnr
from helpers.raw_media import dataset_file, encode, small_set, sound_file
from helpers.refusing import Refusing, without_sizes
from ltxcore.cli.main import main
from ltxcore.codecs.load_codecs import video_codec
from ltxcore.encoded.manifest import append_entry
from ltxcore.encoded.store import write_sample
from ltxcore.media.probe import probe, read_clip, read_sound
from ltxcore.protocols import Clip, Entry
from ltxplugins.tools.decode.decode import picture_of


def ltx(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["decode", *map(str, arguments), "--no-progress"])


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dataset of two clips with sound and audio masks."""
    folder = tmp_path_factory.mktemp("set")
    encode(small_set(folder, 2))
    return folder


def test_clips_become_mp4_with_their_sound_and_masks_pictures(encoded: Path, tmp_path: Path) -> None:
    result = ltx(encoded, "-o", tmp_path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"4 made, 0 reused in {tmp_path}\n", "")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "audio_masks/clips/0.png",
        "audio_masks/clips/1.png",
        "latents/clips/0.mp4",
        "latents/clips/1.mp4",
    ]
    for name in ("0", "1"):
        decoded, raw = tmp_path / f"latents/clips/{name}.mp4", encoded / f"clips/{name}.mp4"
        assert (probe(decoded).frames, probe(decoded).rate) == (17, 16)
        assert read_sound(decoded).duration == pytest.approx(read_sound(raw).duration, abs=0.08)
        assert psnr(read_clip(decoded).frames, read_clip(raw).frames) > 20


def test_what_is_there_and_no_older_than_its_sample_is_left_alone(encoded: Path, tmp_path: Path) -> None:
    root = encoded / ".precomputed"
    assert ltx(root, "-o", tmp_path, "--sources", "audio_masks").stdout == f"2 made, 0 reused in {tmp_path}\n"
    assert ltx(root, "-o", tmp_path, "--sources", "audio_masks").stdout == f"0 made, 2 reused in {tmp_path}\n"
    (root / "audio_masks/clips/1.safetensors").touch()
    assert ltx(root, "-o", tmp_path, "--sources", "audio_masks").stdout == f"1 made, 1 reused in {tmp_path}\n"
    assert ltx(root, "-o", tmp_path, "--sources", "audio_masks", "--overwrite").stdout == f"2 made, 0 reused in {tmp_path}\n"


def test_sounds_without_pictures_become_wav(tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav", seconds=0.5)
    encode(dataset_file(tmp_path / "set.jsonl", [{"audio": "a.wav", "caption": "a tone"}]))
    assert ltx(tmp_path, "-o", tmp_path / "out").stdout == f"1 made, 0 reused in {tmp_path}/out\n"
    assert read_sound(tmp_path / "out/audio_latents/a.wav").duration == pytest.approx(0.5, abs=0.05)


def latents(root: Path, name: str, tensor: torch.Tensor, encoder: str = "", rate: float = 16.0) -> Path:
    entry = write_sample(root, "latents", name, {"latents": tensor}, Entry((), rate=rate, encoder=encoder))
    append_entry(root, "latents", name, entry)
    return root / "latents" / f"{name}.safetensors"


def test_a_bad_file_loses_only_itself(tmp_path: Path) -> None:
    good = torch.zeros(128, 1, 1, 1)
    latents(tmp_path, "good", good)
    wide = latents(tmp_path, "wide", torch.zeros(64, 1, 1, 1))
    empty = latents(tmp_path, "empty", good * float("nan"))
    short = latents(tmp_path, "short", good)
    short.write_bytes(short.read_bytes()[:-4])
    result = ltx(tmp_path, "-o", tmp_path / "out", "--model-path", "tiny")
    assert result.exit_code == 2
    assert result.stdout == f"1 made, 0 reused, 3 failed in {tmp_path}/out\n"
    assert result.stderr == (
        f"{short}: has changed since it was recorded\n    Run `ltx preprocess --verify` on its dataset, which encodes damaged files again.\n"
        f"{empty}: has NaN or infinite values\n    Run `ltx preprocess --verify` on its dataset, which encodes damaged files again.\n"
        f"{wide}: cannot be decoded: The size of tensor a (64) must match the size of tensor b (128) at non-singleton dimension 3\n"
        "    Check that --model-path names the model that encoded the sample.\n"
    )
    assert (tmp_path / "out/latents/good.png").is_file()


def test_samples_of_another_model_are_not_decoded(tmp_path: Path) -> None:
    latents(tmp_path, "a", torch.zeros(128, 1, 1, 1), "ltx-video-1234+tiles=1")
    remedy = "    Name the model that the samples were encoded with: --model-path MODEL.\n"
    for options, whose in (((), "the tiny model"), (("--model-path", "tiny"), "the model that --model-path names")):
        result = ltx(tmp_path, "-o", tmp_path / "out", *options)
        assert result.exit_code == 2
        assert result.stderr == f"{tmp_path}/latents: the video VAE of {whose} did not make a\n{remedy}"


def test_samples_that_do_not_say_what_made_them_need_a_model(tmp_path: Path) -> None:
    latents(tmp_path, "a", torch.zeros(128, 1, 1, 1))
    assert ltx(tmp_path, "-o", tmp_path / "out").stderr.startswith(f"{tmp_path}/latents: the video VAE of the tiny model did not make a\n")
    assert ltx(tmp_path, "-o", tmp_path / "out", "--model-path", "tiny").exit_code == 0


def test_folders_that_are_not_there_or_cannot_be_seen_are_named(encoded: Path, tmp_path: Path) -> None:
    root = encoded / ".precomputed"
    for arguments, told in (
        ((root, "--sources", "latent"), f'{root}: has no folder "latent"\n    Did you mean "latents"?\n'),
        ((root, "--sources", "conditions"), f'{root}: the folder "conditions" holds data that cannot be seen or heard\n'),
        ((root / "no",), f"{root}/no: there is no such folder\n    Name the folder that `ltx preprocess` wrote to.\n"),
        ((encoded / "clips",), f"{encoded}/clips: holds no latents and no masks\n    Name the folder that `ltx preprocess` wrote to.\n"),
        (
            (root, "--video-vae-path", "x"),
            "the path of a VAE or text encoder needs a model\n    Name the model too: --model-path MODEL.\n",
        ),
    ):
        result = ltx(*arguments, "-o", tmp_path / "out")
        assert (result.exit_code, result.stderr) == (2, told)


def test_the_keyframes_of_a_clip_become_one_picture_from_left_to_right(tmp_path: Path) -> None:
    stills = [Clip(torch.full((1, 32, 64, 3), level, dtype=torch.uint8), 1.0) for level in (40, 200)]
    codec = video_codec("tiny")
    latents = torch.stack([codec.encode(still) for still in stills])
    put(tmp_path, "keyframes", "a", {"pictures": latents, "frames": torch.tensor([0.0, 8.0])}, encoder=codec.fingerprint)
    assert ltx(tmp_path, "-o", tmp_path / "out").exit_code == 0
    frames = read_clip(tmp_path / "out" / "keyframes" / "a.png").frames.float()
    assert frames.shape == (1, 32, 128, 3)
    assert abs(frames[0, :, :64].mean() - 40) < 5
    assert abs(frames[0, :, 64:].mean() - 200) < 5


def test_a_mask_is_as_bright_as_its_cells_and_its_first_frame_stands_alone() -> None:
    mask = torch.tensor([[[0.0, 1.0]], [[0.5, 0.25]]])
    frames = picture_of(mask, 24.0, (8, 32, 32)).frames
    assert frames.shape == (9, 32, 64, 3)
    assert frames[0, 0, [0, 31, 32, 63], 0].tolist() == [0, 0, 255, 255]
    assert (frames[1:, :, :32] == 128).all()
    assert (frames[1:, :, 32:] == 64).all()
    strip = picture_of(torch.tensor([1.0, 0.0]), 24.0, (8, 32, 32)).frames
    assert strip.shape == (1, 32, 16, 3)
    assert strip[0, 0, :, 0].tolist() == [255] * 8 + [0] * 8


def test_a_clip_for_which_memory_does_not_suffice_is_not_taken_for_a_damaged_one(encoded: Path, tmp_path: Path) -> None:
    with Refusing("_write", "decode"):
        result = ltx(encoded, "-o", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        without_sizes(result.stderr)
        .replace(str(encoded), "TMP")
        .endswith(
            "while decoding TMP/.precomputed/latents/clips/0.safetensors and TMP/.precomputed/audio_latents/clips/0.safetensors\n"
            "    --vae-tiling needs less memory. What was decoded so far is kept; run the same command again to do the rest.\n"
        )
    )

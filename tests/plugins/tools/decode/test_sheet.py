"""The contact sheet shows samples of each size: what of their clips is used, how they look and sound decoded, and their captions."""

from __future__ import annotations

import base64
import io
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from helpers.media_made import gradient_clip, number_of, timed_clip
from helpers.raw_media import clip_file, dataset_file, encode, sound_file
from ltxcore.cli.main import main
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.pixels import Cover
from ltxcore.encoded.manifest import append_entry
from ltxcore.encoded.store import write_sample
from ltxcore.media.written import write_clip
from ltxcore.protocols import Entry
from ltxplugins.tools.decode.draw_sheet import CROP, Card, Section, draw, kept


def ltx(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["decode", *map(str, arguments), "--no-progress"])


def pictures(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB") for each in re.findall(r"base64,([^\"]+)", page)]


def cards(page: str) -> dict[str, str]:
    """The cards of a page by the names of their samples."""
    return {card.partition("</h3>")[0].rpartition("<h3>")[2]: card for card in page.split("<article>")[1:]}


def framed(picture: Image.Image) -> tuple[int, int, int, int]:
    """Where the frame around what is used lies: left, top, right and bottom."""
    rows, columns = np.nonzero(np.abs(np.asarray(picture, dtype=int) - CROP).max(axis=2) < 60)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a folder of three clips, of which one is square and one silent, and an image."""
    folder = tmp_path_factory.mktemp("set") / "clips"
    clip_file(folder / "a.mp4", width=160, height=96, frames=25)
    clip_file(folder / "Été.mp4", width=160, height=96, frames=17, sound=False)
    clip_file(folder / "sub/<b>.mp4", width=96, height=96, frames=17)
    for name, words in (("a", "a square & a tone"), ("Été", "日本の夏"), ("sub/<b>", "")):
        (folder / f"{name}.txt").write_text(words or "<i>words</i>", "utf-8")
    encode(folder, resolution_buckets="96x96x17;160x64x9", on_error="skip")
    result = ltx(f"{folder}.precomputed", "--sheet", folder.parent / "sheet.html")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{folder.parent}/sheet.html: 3 samples\n", "")
    return (folder.parent / "sheet.html").read_text("utf-8")


def test_each_size_has_a_section_with_its_samples(sheet: str) -> None:
    assert re.findall(r"<h2>([^<]+)<span>([^<]+)</span>", sheet) == [
        ("160 x 64, 9 frames", "2 samples"),
        ("96 x 96, 17 frames", "1 sample"),
    ]
    assert "3 of 3 samples" in sheet
    assert list(cards(sheet)) == ["a", "Été", "sub/&lt;b&gt;"]


def test_captions_stand_below_in_any_script_and_never_become_part_of_the_page(sheet: str) -> None:
    found = {name: re.findall(r'<p class="caption" dir="auto">(.*?)</p>', card) for name, card in cards(sheet).items()}
    assert found == {"a": ["a square &amp; a tone"], "Été": ["日本の夏"], "sub/&lt;b&gt;": ["&lt;i&gt;words&lt;/i&gt;"]}
    assert "<script" not in sheet


def test_what_is_used_of_a_clip_is_said_and_framed_and_the_rest_is_pale(sheet: str) -> None:
    wide = cards(sheet)["a"]
    assert "original, 160 x 96: 67 % used" in wide
    assert "original, 96 x 96: all used" in cards(sheet)["sub/&lt;b&gt;"]
    original, *decoded = pictures(wide)
    assert original.size == (440, 264)
    assert framed(original) == pytest.approx((0, 44, 440, 220), abs=3)
    colours = np.asarray(original, dtype=int)
    assert colours[:36].mean() > colours[52:212].mean() + 60
    assert [picture.size for picture in decoded] == [(260, 104)] * 3
    assert re.findall(r"<figcaption>([0-9.]+ s)</figcaption>", wide) == ["0.00 s", "0.25 s", "0.50 s"]


def test_the_sound_is_a_waveform_with_its_length_and_loudness(sheet: str) -> None:
    assert re.search(r'<svg viewBox="0 0 399 40"[^>]*><path d="M0,[0-9.]+ L1,', cards(sheet)["a"])
    assert re.search(r"0\.56 of 1\.56 s, peak at -[0-9]+ dBFS", cards(sheet)["a"])
    assert "0.56 of 1.06 s, no audio" in cards(sheet)["Été"]
    assert "<svg" not in cards(sheet)["Été"]


@pytest.mark.parametrize("bucket", [Bucket(96, 96, 1), Bucket(160, 96, 1), Bucket(64, 128, 1)], ids=str)
@pytest.mark.parametrize("size", [(1080, 1920), (333, 77), (96, 96)])
def test_the_frame_is_where_encoding_crops(size: tuple[int, int], bucket: Bucket) -> None:
    cover = Cover.of(*size, bucket)
    left, top, right, bottom = kept(*size, bucket.height, bucket.width)
    scale = cover.resized[0] / size[0], cover.resized[1] / size[1]
    assert (left * scale[1], top * scale[0]) == pytest.approx((cover.left, cover.top), abs=1.01)
    assert ((right - left) * scale[1], (bottom - top) * scale[0]) == pytest.approx((bucket.width, bucket.height), abs=2.01)


def test_a_window_is_shown_beside_the_frame_that_it_begins_with(tmp_path: Path) -> None:
    clip = gradient_clip(frames=33, height=64, width=64)  # which becomes blue
    write_clip(tmp_path / "a.mp4", clip, None)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "caption": "c"}])
    root = encode(path, resolution_buckets="64x64x9", windows="stride:24", skip_audio=True).root
    assert ltx(root, "--sheet", tmp_path / "s.html").exit_code == 0
    found = cards((tmp_path / "s.html").read_text())
    assert list(found) == ["a", "a@000024"]
    assert all("original, 64 x 64: all used" in card for card in found.values())
    blue = [np.asarray(pictures(card)[0])[100:200, 100:200, 2].mean() for card in found.values()]
    assert blue == pytest.approx([0, 255 * 24 / 32], abs=12)
    assert all('dir="auto">c</p>' in card for card in found.values())


def test_the_frame_of_a_resampled_clip_is_that_of_its_moment(tmp_path: Path) -> None:
    ticks = [*range(0, 16, 2), *range(16, 56)]  # half the frames at first, so frame 24 of the resampled clip is frame 16 of the file
    timed_clip(tmp_path / "a.mp4", ticks, Fraction(1, 24))
    path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "caption": "c"}])
    root = encode(path, resolution_buckets="64x64x9", windows="stride:24", skip_audio=True, variable_rate="resample").root
    assert ltx(root, "--sheet", tmp_path / "s.html").exit_code == 0
    found = cards((tmp_path / "s.html").read_text())
    numbers = [number_of(torch.from_numpy(np.asarray(pictures(card)[0].resize((64, 64))).copy())) for card in found.values()]
    assert numbers == [0, 16]


def test_sounds_alone_are_shown_and_what_is_not_known_is_said(tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav", seconds=1.0)
    path = dataset_file(tmp_path / "set.jsonl", [{"audio": "a.wav", "caption": "a tone"}])
    root = encode(path, tmp_path / "elsewhere").root
    assert ltx(root, "--sheet", tmp_path / "s.html").exit_code == 0
    page = (tmp_path / "s.html").read_text()
    assert "<h2>Audio without video<span>1 sample</span></h2>" in page
    assert "The dataset with the captions was not found; --data names it." in page
    assert ltx(root, "--sheet", tmp_path / "s.html", "--data", path).exit_code == 0
    assert 'dir="auto">a tone</p>' in (tmp_path / "s.html").read_text()


def test_silence_and_images_are_said() -> None:
    still = Card("still", "", torch.zeros(1, 32, 32, 3, dtype=torch.uint8), 24.0, None, 0.0, None, 0)
    quiet = Card("quiet", None, None, 24.0, None, 2.0, torch.zeros(2, 8000), 16_000)
    page = draw(Path("set"), [Section("32x32x1", 30, (still,)), Section("", 1, (quiet,))])
    assert "2 of 31 samples" in page
    assert "a still image, no audio" in cards(page)["still"]
    assert "no caption" in cards(page)["still"]
    assert "0.50 of 2.00 s, silent" in cards(page)["quiet"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Name either a folder for the decoded files (-o FOLDER) or a file for a contact sheet (--sheet FILE.html)."),
        (("-o", "out", "--sheet", "s.html"), "Name either a folder"),
        (("--sheet", "s.png"), 'the sheet is a page, so its name must end with .html, unlike "s.png".'),
        (("--sheet", "s.html", "--sources", "latents"), "--sources and --overwrite are for decoded files"),
        (("-o", "out", "--data", "."), "--data is for a contact sheet"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    result = ltx(tmp_path, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_set_without_latents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    result = ltx(tmp_path / "root", "--sheet", tmp_path / "s.html")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "holds no latents of clips or sounds" in result.stderr
    assert not (tmp_path / "s.html").exists()


def test_samples_that_cannot_be_decoded_are_named_and_the_others_are_shown(tmp_path: Path) -> None:
    root, shapes = tmp_path / "root", {"good": (128, 1, 1, 1), "short": (128, 1, 1, 1), "wide": (64, 1, 1, 1)}
    for name, shape in shapes.items():
        entry = write_sample(root, "latents", name, {"latents": torch.zeros(shape)}, Entry((), rate=16.0))
        append_entry(root, "latents", name, entry)
    short = root / "latents/short.safetensors"
    short.write_bytes(short.read_bytes()[:-4])
    result = ltx(root, "--sheet", tmp_path / "s.html", "--model-path", "tiny")
    assert (result.exit_code, result.stdout) == (2, f"{tmp_path}/s.html: 1 sample\n")
    assert f"{short}: has changed since it was recorded" in result.stderr
    assert f"{root}/latents/wide.safetensors: cannot be decoded: The size of tensor a (64)" in result.stderr
    assert list(cards((tmp_path / "s.html").read_text())) == ["good"]
    (root / "latents/good.safetensors").unlink()
    result = ltx(root, "--sheet", tmp_path / "none.html", "--model-path", "tiny")
    assert (result.exit_code, result.stdout) == (2, "")
    assert not (tmp_path / "none.html").exists()

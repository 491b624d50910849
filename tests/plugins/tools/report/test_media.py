"""Media in a page: once, and within the limit."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import torch
from PIL import Image

from helpers.sample_made import clip_file, film, image_file
from ltxcore.media.probe import write_sound
from ltxcore.protocols import Sound
from ltxplugins.tools.report.media import Shelf
from ltxplugins.tools.report.spectrogram import spectrogram


def test_a_file_goes_into_the_page_once(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    shelf = Shelf(tmp_path / "page.html", limit=64)
    first, again = shelf.player(path, "a"), shelf.player(path, "a")
    inside = re.search(r'<video[^>]* src="data:video/mp4;base64,([^"]+)"', first)
    assert base64.b64decode(inside[1]) == path.read_bytes()
    assert 'id="medium0"' in first
    assert 'data-same="medium0"' in again
    assert "data:video" not in again


def test_what_no_longer_fits_is_named_by_its_path_from_the_page(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    path = image_file(tmp_path / "a b" / "x&y.png")
    assert 'src="a%20b/x%26y.png"' in Shelf(tmp_path / "page.html", limit=0).player(path, "a")
    assert 'src="../a%20b/x%26y.png"' in Shelf(tmp_path / "out" / "page.html", limit=0).player(path, "a")


def test_sound_is_shown_as_a_picture_and_silence_of_a_clip_is_not(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "page.html", limit=64)
    assert "spectrogram" in shelf.player(film(tmp_path / "heard.mp4"), "a")
    assert "spectrogram" not in shelf.player(clip_file(tmp_path / "silent.mp4"), "a")
    assert "<audio" in shelf.player(write_tone(tmp_path / "a.wav", 440.0), "a")
    assert shelf.player(tmp_path / "notes.txt", "a") is None


def write_tone(path: Path, pitch: float) -> Path:
    time = torch.arange(16_000) / 16_000
    write_sound(path, Sound(torch.sin(2 * torch.pi * pitch * time)[None], 16_000))
    return path


def test_the_picture_of_a_sound_is_a_png_that_is_brighter_where_the_pitch_is(tmp_path: Path) -> None:
    rows = []
    for pitch in (300.0, 3000.0):
        path = tmp_path / f"{pitch}.png"
        path.write_bytes(spectrogram(write_tone(tmp_path / f"{pitch}.wav", pitch)))
        picture = Image.open(path)
        assert (picture.mode, picture.height) == ("RGB", 64)
        grey = picture.convert("L")
        middle = [grey.getpixel((grey.width // 2, row)) for row in range(64)]
        rows.append(max(range(64), key=middle.__getitem__))
    assert rows[0] > rows[1]

"""The screen of the data: clips as cards, filled when they are seen, with captions that are edited in place."""

from __future__ import annotations

import io
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from helpers import phone_clips
from helpers.media_made import cut, encode, gradient_clip, tone
from helpers.studio_browser import LOOKS, TOKEN, WIDTHS, Served, faults, needs_browser, opened, served
from ltxcore.api import DataError, Sound
from ltxcore.api.dataset import open_dataset, read_excluded
from ltxcore.api.media import write_media
from ltxplugins.studio.app import make_app
from ltxplugins.studio.data import fitting, lengths, listing, pictures, sound_masks
from ltxplugins.studio.data.findings import Findings
from ltxplugins.studio.data.pictures import Pictures
from ltxplugins.studio.jobs import write_json
from ltxplugins.studio.safety import Admission
from ltxplugins.studio.workspace import Workspace

HOSTILE = '<img src=x onerror=alert(1)>"><script>alert(2)</script>'


def make_clips(folder: Path) -> Path:
    """A clip with sound, an upright one with a mask and a reference, a sound without a caption but with a mask and a reference, and a clip
    that is cut short.
    """
    folder.mkdir(parents=True)
    encode(folder / "rain.mp4", gradient_clip(25, 128, 224), tone(1.0))
    (folder / "rain.txt").write_text("The video shows a red car in the rain.")
    encode(folder / "snow.mp4", gradient_clip(17, 224, 128))
    encode(folder / "snow_mask.mp4", gradient_clip(17, 224, 128))
    encode(folder / "snow_reference.mp4", gradient_clip(17, 224, 128))
    (folder / "snow.txt").write_text(HOSTILE)
    encode(folder / "tone.wav", None, tone(2.0), codec="pcm_s16le")
    encode(folder / "tone_reference_audio.wav", None, tone(1.0), codec="pcm_s16le")
    write_mask(folder / "tone_audio_mask.wav", (0.8, 1), (0.2, 0.5), (1.0, 0))
    cut(folder / "rain.mp4", folder / "a broken.mp4", 0.3)
    (folder / "a broken.txt").write_text("Damaged")
    return folder


def client(root: Path) -> TestClient:
    """Ask the studio of a folder without a browser."""
    app = make_app(Workspace(root), Admission(TOKEN, 1))
    return TestClient(app, "http://127.0.0.1", cookies={"ltx_studio_1": TOKEN}, headers={"origin": "http://127.0.0.1", "x-part": "1"})


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("opened")
    make_clips(root / "clips")
    with served(root) as found:
        yield found


@pytest.mark.parametrize(("width", "colours"), LOOKS)
@needs_browser
def test_clips_are_shown_as_cards(browser: Any, studio: Served, width: int, colours: str) -> None:
    with opened(browser, studio, width, color_scheme=colours) as page:
        page.goto(f"{studio.address}/data?data=clips")
        page.get_by_label("Buckets").fill("96x96x9")
        page.get_by_role("button", name="Show", exact=True).click()
        page.locator("[data-details*=buckets]").first.wait_for()
        for name in ("a broken.mp4", "rain.mp4", "snow.mp4", "tone.wav"):
            card = page.locator(".clip", has=page.get_by_role("heading", name=name))
            card.scroll_into_view_if_needed()
            card.locator(".facts").wait_for()
        assert "cut short" in page.locator("#clip-0 .problems").inner_text()
        assert "224×128 · 1.04 s" in page.locator("#clip-1 .facts").inner_text()
        assert page.get_by_role("img", name="Taken: 57% of the width, 100% of the height").count() == 1
        assert page.get_by_role("img", name="Its mask, laid over").count() == 1
        assert page.get_by_role("img", name="reference video of snow.mp4").count() == 1
        assert page.locator("#clip-2 textarea[name=caption]").input_value() == HOSTILE
        assert "2.00 s · sound 16000 Hz" in page.locator("#clip-3 .facts").inner_text()
        wave = page.get_by_role("img", name="Waveform of the sound, 2.0 s, with its mask laid over").bounding_box()
        shaded = [each.bounding_box() for each in page.locator("#clip-3 .given").all()]
        assert [round(each["width"] / wave["width"], 2) for each in shaded] == [0.4, 0.1]
        assert "0.80 to 1.00 s partly given" in page.locator("#clip-3 .mask-words").inner_text()
        assert page.get_by_role("img", name="Waveform of the reference audio, 1.0 s").count() == 1
        assert faults(page) == []


@needs_browser
def test_a_caption_is_saved_where_it_came_from(browser: Any, studio: Served) -> None:
    folder = studio.app.state.studio.workspace.root / "clips"
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/data?data=clips")
        field = page.get_by_label("Caption of tone.wav")
        field.fill("A steady tone")
        page.get_by_text("Not saved yet").wait_for()
        field.press("Control+Enter")
        page.get_by_text("Saved", exact=True).wait_for()
        assert (folder / "tone.txt").read_text() == "A steady tone"
        page.get_by_label("Search").fill("steady")
        page.keyboard.press("Enter")
        page.get_by_text("1 of 4 clips").wait_for()
        assert page.locator(".clip .name").all_inner_texts() == ["tone.wav"]
    (folder / "tone.txt").unlink()


@needs_browser
def test_what_is_shown_is_in_the_address_and_text_that_is_not_saved_is_not_lost_unasked(browser: Any, studio: Served) -> None:
    questions: list[str] = []
    with opened(browser, studio) as page:
        page.on("dialog", lambda dialog: questions.append(dialog.message) or dialog.dismiss())
        page.goto(f"{studio.address}/data?data=clips")
        page.get_by_text("Not encoded yet").wait_for()
        page.get_by_label("Search").fill("red car")
        page.get_by_label("Sort").select_option("by name")
        page.get_by_role("button", name="Show", exact=True).click()
        page.get_by_text("1 of 4 clips").wait_for()
        page.reload()
        page.get_by_text("1 of 4 clips").wait_for()
        assert page.locator(".clip .name").all_inner_texts() == ["rain.mp4"]
        assert (page.get_by_label("Search").input_value(), page.get_by_label("Sort").input_value()) == ("red car", "name")
        assert page.locator("#edit [name=search]").input_value() == "red car"
        page.get_by_label("Caption of rain.mp4").fill("Something long")
        page.get_by_label("Search").fill("")
        page.keyboard.press("Enter")
        assert questions == ["Captions that are not saved yet will be lost. Show other clips?"]
        assert page.get_by_label("Caption of rain.mp4").input_value() == "Something long"
        page.get_by_label("Caption of rain.mp4").fill("The video shows a red car in the rain.")
        page.get_by_role("link", name="Make a run file for it").click()
        assert page.get_by_label("Your clips").input_value() == "clips"


DURATION = "sound => new Promise(done => sound.readyState ? done(sound.duration) : sound.onloadedmetadata = () => done(sound.duration))"


@needs_browser
def test_a_clip_and_its_reference_are_played_in_its_card(browser: Any, studio: Served) -> None:
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/data?data=clips")
        for name, seconds in (("Play tone.wav", 2), ("Play the reference audio of tone.wav", 1)):
            page.get_by_role("button", name=name).click()
            player = page.locator(f'audio[aria-label="{name}"]')
            assert player.evaluate(DURATION) == seconds


def test_a_list_of_ten_thousand_clips_opens_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "clips").mkdir()
    for index in range(10_000):
        (folder / f"{index:05}.mp4").touch()
    looked: list[Path] = []
    monkeypatch.setattr(pictures, "look_at", looked.append)
    with client(tmp_path) as ask:
        page = ask.get("/data?data=clips")
        last = ask.get("/data/clips?data=clips&start=9984")
    assert "10,000 clips" in page.text
    assert page.text.count('<li class="card clip"') == listing.PAGE
    assert len(page.text) < 120_000
    assert "09999.mp4" in last.text
    assert "data-more" not in last.text
    assert looked == []
    assert not (tmp_path / ".studio").exists()


FIRST_PAGE = """
import sys
from pathlib import Path
from starlette.testclient import TestClient
from ltxplugins.studio.app import make_app
from ltxplugins.studio.safety import Admission
from ltxplugins.studio.workspace import Workspace

ask = TestClient(make_app(Workspace(Path(sys.argv[1])), Admission("t", 1)), "http://127.0.0.1", cookies={"ltx_studio_1": "t"})
assert "1 clip" in ask.get("/data?data=clips").text
assert "torch" not in sys.modules
"""


def test_the_first_page_of_a_studio_does_not_wait_for_torch(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").touch()
    subprocess.run([sys.executable, "-c", FIRST_PAGE, str(tmp_path)], check=True)


def test_pages_of_cards_join_to_the_whole_dataset(tmp_path: Path) -> None:
    (folder := tmp_path / "clips").mkdir()
    for index in range(100):
        (folder / f"{index:02}.mp4").touch()
    names, address = [], "/data/clips?data=clips&order=name"
    with client(tmp_path) as ask:
        while address:
            text = ask.get(address).text
            names += re.findall(r'<h2 class="name" title="(.*?)"', text)
            found = re.search(r'data-more="(.*?)"', text)
            address = found[1].replace("&amp;", "&") if found else ""
    assert names == [f"{index:02}.mp4" for index in range(100)]


@pytest.mark.parametrize(
    ("order", "names"),
    [("name", ["a.mp4", "b.mp4", "C.mp4"]), ("words", ["b.mp4", "a.mp4", "C.mp4"]), ("size", ["C.mp4", "b.mp4", "a.mp4"])],
)
def test_clips_are_sorted(tmp_path: Path, order: str, names: list[str]) -> None:
    for number, (name, caption) in enumerate({"a": "one two", "b": "one", "C": "one two three"}.items()):
        (tmp_path / f"{name}.mp4").write_bytes(bytes(number))
        (tmp_path / f"{name}.txt").write_text(caption)
    with client(tmp_path) as ask:
        text = ask.get(f"/data/clips?data=.&order={order}").text
    assert re.findall(r'<h2 class="name" title="(.*?)"', text) == names


def names_in(text: str) -> list[str]:
    return re.findall(r'<h2 class="name" title="(.*?)"', text)


def test_clips_are_sorted_by_length_once_all_lengths_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, frames in {"a": 9, "b": 25, "c": 17}.items():
        encode(tmp_path / f"{name}.mp4", gradient_clip(frames, 64, 96))
    (tmp_path / "damaged.mp4").write_bytes(b"x")
    may_go_on = threading.Event()
    probe = lengths.probe
    monkeypatch.setattr(lengths, "probe", lambda path: may_go_on.wait(60) and probe(path))
    monkeypatch.setattr(lengths, "WAITED", 0.01)
    with client(tmp_path) as ask:
        first = ask.get("/data/clips?data=.&order=length").text
        assert "The lengths of 4 clips are still being read" in first
        assert names_in(first) == ["a.mp4", "b.mp4", "c.mp4", "damaged.mp4"]
        again = re.findall(r'<a href="(.*?)" data-into="#clips">Sort by length now', first)[0].replace("&amp;", "&")
        may_go_on.set()
        monkeypatch.setattr(lengths, "WAITED", 60.0)
        second = ask.get(again).text
    assert "still being read" not in second
    assert names_in(second) == ["b.mp4", "c.mp4", "a.mp4", "damaged.mp4"]


def save(ask: TestClient, data: str, clip: str, old: str, new: str, part: str = "") -> str:
    return ask.post("/data/caption", data={"data": data, "clip": clip, "part": part, "old": old, "caption": new}).text


def test_a_caption_that_changed_meanwhile_is_not_overwritten_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.txt").write_text("theirs")
    with client(tmp_path) as ask:
        refused = save(ask, ".", "a.mp4", "old", "mine & yours")
        assert "another program changed this caption meanwhile, to: theirs" in refused
        assert "mine &amp; yours</textarea>" in refused
        assert (tmp_path / "a.txt").read_text() == "theirs"
        assert "Saved" in save(ask, ".", "a.mp4", "theirs", "mine")
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_rows_of_one_file_have_captions_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "d.csv").write_text("video,caption\na.mp4,same\na.mp4,same\n")
    with client(tmp_path) as ask:
        fields = {"data": "d.csv", "clip": "a.mp4", "row": "1", "part": "", "old": "same", "caption": "other"}
        assert "Saved" in ask.post("/data/caption", data=fields).text
    assert (tmp_path / "d.csv").read_text() == "video,caption\na.mp4,same\na.mp4,other\n"


def test_a_card_stays_that_of_its_clip_if_files_are_added_before_it(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").touch()
    with client(tmp_path) as ask:
        ask.get("/data?data=.")
        (tmp_path / "a.mp4").touch()
        fields = {"data": ".", "clip": "b.mp4", "row": "0", "part": "", "old": "", "caption": "rain"}
        text = ask.post("/data/caption", data=fields).text
    assert 'data-into="#caption-0-0"' in text
    assert (tmp_path / "b.txt").read_text() == "rain"


def test_a_sound_in_a_dataset_of_clips_is_excluded_by_its_path(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.wav"):
        (tmp_path / name).touch()
    (tmp_path / "d.csv").write_text("video,audio,caption\na.mp4,,one\n,b.wav,two\n,,three\n")
    with client(tmp_path) as ask:
        names = names_in(ask.get("/data/clips?data=d.csv").text)
        assert names[:2] == ["a.mp4", "b.wav"]
        assert "Excluded" in ask.post("/data/exclude", data={"data": "d.csv", "clip": "b.wav", "out": "1"}).text
        refused = ask.post("/data/exclude", data={"data": "d.csv", "clip": names[2], "out": "1"})
        assert "this row names no file, so it cannot be excluded" in refused.text
    assert (tmp_path / "d.csv.exclude").read_text() == "b.wav\n"


def test_a_dataset_is_read_once_for_a_caption_that_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").touch()
    read: list[Path] = []
    monkeypatch.setattr(listing, "open_dataset", lambda path: read.append(path) or open_dataset(path))
    with client(tmp_path) as ask:
        ask.get("/data?data=.")
        assert len(read) == 1
        assert "Saved" in save(ask, ".", "b.mp4", "", " steady rain ")
        assert len(read) == 2  # another program may have changed it
        found = ask.get("/data/clips?data=.&search=steady").text
    assert names_in(found) == ["b.mp4"]
    assert "steady rain</textarea>" in found
    assert len(read) == 2


def test_captions_of_a_dataset_file_are_saved_in_it_and_nothing_else_changes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "d.jsonl").write_text('{"video": "a.mp4", "caption": ["one", "two"], "note":  7}\n')
    with client(tmp_path) as ask:
        assert "Saved" in save(ask, "d.jsonl", "a.mp4", "two", "second", part="1")
    assert (tmp_path / "d.jsonl").read_text() == '{"video": "a.mp4", "caption": ["one", "second"], "note":  7}\n'


def details(ask: TestClient, clip: str, **more: str) -> str:
    return ask.get("/data/details", params={"data": ".", "clip": clip, **more}).text


def test_buckets_are_chosen_from_all_clips_if_preprocessing_is_to_choose_them(tmp_path: Path) -> None:
    for name, height, width in (("a", 64, 96), ("b", 64, 96), ("c", 96, 64)):
        encode(tmp_path / f"{name}.mp4", gradient_clip(9, height, width))  # without captions, as on the first day
    with client(tmp_path) as ask:
        assert "bucket <b>96x64x9</b> (auto)" in details(ask, "a.mp4", buckets="auto")
        tall = details(ask, "c.mp4", buckets="auto")
        assert "bucket <b>64x96x9</b> (auto)" in tall
        assert "Taken: 100% of the width, 100% of the height" in tall
        assert "is not a bucket" in details(ask, "a.mp4", buckets="large")
        assert "Taken: 67% of the width, 100% of the height" in details(ask, "a.mp4", buckets="64x64x9")


def test_buckets_of_a_large_dataset_are_chosen_from_some_of_its_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(5):
        encode(tmp_path / f"{index}.mp4", gradient_clip(9, 64, 96))
    monkeypatch.setattr(fitting, "MOST_OPENED", 2)
    with client(tmp_path) as ask:
        assert "bucket <b>96x64x9</b> (auto, judging by 2 of 5 clips)" in details(ask, "4.mp4", buckets="auto")


def test_sounds_that_go_with_a_clip_are_on_its_card(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", gradient_clip(9, 64, 96))
    for name in ("a_audio", "a_reference_audio", "a_audio_mask"):
        encode(tmp_path / f"{name}.wav", None, tone(0.4), codec="pcm_s16le")
    cut(tmp_path / "a_audio_mask.wav", tmp_path / "a_audio_mask.wav", 0.001)
    with client(tmp_path) as ask:
        text = details(ask, "a.mp4")
        for role in ("audio", "reference audio"):
            assert f'aria-label="Waveform of the {role}, 0.4 s"' in text
            assert f"Play the {role} of a.mp4" in text
        assert "sound beside it" in text
        assert "<code>audio mask</code>: " in text
        assert ask.get("/data/media?data=.&clip=a.mp4&role=audio").headers["content-type"] in ("audio/x-wav", "audio/wav")


def write_mask(path: Path, *parts: tuple[float, float], rate: int = 8000) -> Path:
    """A mask of parts, each of so many seconds with one value."""
    values = [torch.full((1, round(seconds * rate)), value) for seconds, value in parts]
    return write_media(path.with_suffix(""), sound=Sound(torch.cat(values, dim=1), rate))


def test_the_mask_of_a_sound_is_told_in_spans_with_what_is_partly_given(tmp_path: Path) -> None:
    encode(tmp_path / "a.wav", None, tone(2.0), codec="pcm_s16le")
    write_mask(tmp_path / "a_audio_mask.wav", (0.5, 1), (0.1, 0.5), (0.06, 0.25), (0.84, 0), (0.5, -1))  # the sign does not matter
    with client(tmp_path) as ask:
        text = details(ask, "a.wav")
    assert 'aria-label="Waveform of the sound, 2.0 s, with its mask laid over"' in text
    assert "0.00 to 0.50 s given, 0.50 to 0.66 s partly given, 0.66 to 1.50 s generated, 1.50 to 2.00 s given</p>" in text
    found = re.findall(r'<rect class="given" x="([^"]*)" width="([^"]*)" height="2" opacity="([^"]*)"', text)
    assert found == [("0.000", "30.000", "1.0"), ("30.000", "6.000", "0.5"), ("36.000", "3.600", "0.25"), ("90.000", "30.000", "1.0")]
    assert "audio mask of a.wav" not in text


@pytest.mark.parametrize(
    ("seconds", "end"), [(3.0, "0.40 to 1.00 s generated</p>"), (0.5, "0.40 to 1.00 s generated</p>"), (0.4, "0.00 to 1.00 s given</p>")]
)
def test_a_mask_ends_with_its_sound_as_in_preprocessing(tmp_path: Path, seconds: float, end: str) -> None:
    encode(tmp_path / "a.wav", None, tone(1.0), codec="pcm_s16le")
    write_mask(tmp_path / "a_audio_mask.wav", (0.4, 1), (seconds - 0.4, 0))
    with client(tmp_path) as ask:
        assert end in details(ask, "a.wav")


def test_a_mask_is_laid_over_the_sound_that_it_is_used_with(tmp_path: Path) -> None:
    encode(tmp_path / "loud.mp4", gradient_clip(9, 64, 96), tone(0.4))
    encode(tmp_path / "silent.mp4", gradient_clip(9, 64, 96))
    for name in ("loud", "silent"):
        write_mask(tmp_path / f"{name}_audio_mask.wav", (0.4, 1))
    with client(tmp_path) as ask:
        assert 'Waveform of the sound, 0.4 s, with its mask laid over"' in details(ask, "loud.mp4")
        assert 'Waveform of the audio mask, 0.4 s"' in details(ask, "silent.mp4")
        encode(tmp_path / "loud_audio.wav", None, tone(0.4), codec="pcm_s16le")
        ask.get("/data?data=.")
        text = details(ask, "loud.mp4")
    assert 'Waveform of the sound, 0.4 s"' in text
    assert 'Waveform of the audio, 0.4 s, with its mask laid over"' in text


def test_a_mask_of_noise_is_told_shortly_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "a.wav", None, tone(2.0), codec="pcm_s16le")
    write_mask(tmp_path / "a_audio_mask.wav", *[(0.1, number % 2) for number in range(20)])
    read: list[Path] = []
    monkeypatch.setattr(pictures, "read_spans", lambda path, longest: read.append(path) or sound_masks.read_spans(path, longest))
    with client(tmp_path) as ask:
        for _ in range(2):
            assert "0.50 to 0.60 s given, and 14 more parts</p>" in details(ask, "a.wav")
    assert read == [tmp_path / "a_audio_mask.wav"]


def test_a_file_that_cannot_be_shown_is_named(tmp_path: Path) -> None:
    encode(tmp_path / "a.wav", None, tone(1.0), codec="pcm_s16le")
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "d.csv").write_text("audio,audio_mask,caption\na.wav,a.safetensors,x\n")
    with client(tmp_path) as ask:
        text = ask.get("/data/details?data=d.csv&clip=a.wav").text
    assert "audio mask: a.safetensors, which is not shown" in text
    assert 'Waveform of the sound, 1.0 s"' in text


def test_rows_of_one_clip_show_what_each_of_them_names(tmp_path: Path) -> None:
    encode(tmp_path / "a.wav", None, tone(1.0), codec="pcm_s16le")
    write_mask(tmp_path / "one.wav", (1, 1))
    write_mask(tmp_path / "two.wav", (1, 0))
    (tmp_path / "d.csv").write_text("audio,audio_mask,caption\na.wav,one.wav,x\na.wav,two.wav,y\n")
    with client(tmp_path) as ask:
        addresses = re.findall(r'data-details="(.*?)"', ask.get("/data?data=d.csv").text)
        first, second = (ask.get(address.replace("&amp;", "&")).text for address in addresses)
    assert "0.00 to 1.00 s given" in first
    assert "0.00 to 1.00 s generated" in second


def test_no_file_outside_the_opened_folder_is_shown(tmp_path: Path) -> None:
    (opened := tmp_path / "opened").mkdir()
    encode(tmp_path / "secret.mp4", gradient_clip())
    (opened / "d.jsonl").write_text(json.dumps({"video": "../secret.mp4", "caption": "x"}) + "\n")
    with client(opened) as ask:
        for what in ("thumbnail", "media"):
            assert ask.get(f"/data/{what}?data=d.jsonl&clip=../secret.mp4").status_code == 422
        assert "is outside the folder that was opened" in ask.get("/data/details?data=d.jsonl&clip=../secret.mp4").text
        assert "is outside the folder that was opened" in ask.get("/data?data=..").text


def test_a_thumbnail_moves_and_is_made_once_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", gradient_clip(60, 64, 96), tone(2.5))
    looked: list[Path] = []
    look_at = pictures.look_at
    monkeypatch.setattr(pictures, "look_at", lambda each: looked.append(each) or look_at(each))
    made = Pictures(Workspace(tmp_path))
    with Image.open(io.BytesIO(made.thumbnail(path))) as image:
        assert (image.format, image.size, image.n_frames) == ("WEBP", (96, 64), 12)
    with Image.open(io.BytesIO(made.thumbnail(path, still=True))) as image:
        assert getattr(image, "n_frames", 1) == 1
    facts = Pictures(Workspace(tmp_path)).facts(path)
    assert (facts.frames, facts.seconds, len(facts.bars)) == (60, 2.5, pictures.BARS)
    assert max(facts.bars) == pytest.approx(0.5, abs=0.05)
    assert len(looked) == 1
    encode(path, gradient_clip(9, 64, 96))
    assert made.facts(path).frames == 9
    assert len(looked) == 2


@pytest.mark.parametrize("name", ["a.tiff", "a.heic"])
def test_a_photograph_has_a_thumbnail_though_no_browser_shows_its_format(tmp_path: Path, name: str) -> None:
    picture = Image.new("RGB", (1200, 800), (200, 30, 30))
    if name.endswith(".heic"):
        pillow_heif.from_pillow(picture).save(tmp_path / name)
    else:
        picture.save(tmp_path / name)
    made = Pictures(Workspace(tmp_path))
    with Image.open(io.BytesIO(made.thumbnail(tmp_path / name))) as image:
        assert image.size == (256, 171)
        assert np.abs(np.asarray(image, float) - (200, 30, 30)).max() < 12
    assert (made.facts(tmp_path / name).width, made.facts(tmp_path / name).seconds) == (1200, 0)


def test_a_clip_from_a_camera_has_a_moving_thumbnail_though_no_browser_plays_it(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mov", gradient_clip(24, 64, 96), pictures="prores_ks", pixels="yuv422p10le")
    with Image.open(io.BytesIO(Pictures(Workspace(tmp_path)).thumbnail(path))) as image:
        assert (image.size, image.n_frames) == ((96, 64), 6)


def test_an_upright_clip_of_a_phone_has_an_upright_thumbnail_in_the_colours_of_the_clip(tmp_path: Path) -> None:
    clip = attrs.evolve(phone_clips.TWELVE[0], seconds=0.5)
    made = Pictures(Workspace(tmp_path))
    path = phone_clips.make(tmp_path / "a.mov", clip)
    with Image.open(io.BytesIO(made.thumbnail(path, still=True))) as image:
        pixels = np.asarray(image.convert("RGB"), float)
    assert pixels.shape == (192, 108, 3)
    assert np.abs(pixels - phone_clips.picture(clip, 0.0)).mean() < 8
    assert (made.facts(path).width, made.facts(path).height) == (108, 192)


def test_why_a_damaged_file_cannot_be_shown_is_kept_too(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not a clip")
    made = Pictures(Workspace(tmp_path))
    assert made.facts(tmp_path / "a.mp4").problem == Pictures(Workspace(tmp_path)).facts(tmp_path / "a.mp4").problem
    with pytest.raises(DataError, match="is not a clip, a sound or an image"):
        made.thumbnail(tmp_path / "a.mp4")


def test_datasets_of_a_folder_are_found_without_what_ltx_made(tmp_path: Path) -> None:
    for name in (
        "one/a.mp4",
        "one/deep/b.mp4",
        "two/c.wav",
        "run/run.json",
        "run/samples/d.mp4",
        "three.precomputed/latents/x",
        ".hidden/e.mp4",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "one" / "d.jsonl").touch()
    found, complete = listing.find_datasets(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["one", "one/d.jsonl", "two"]
    assert complete


def test_a_dataset_without_captions_is_shown_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"video": "a.mp4"}\n')
    found = listing.Listing(open_dataset(tmp_path / "d.jsonl"))
    assert [clip.name for clip in found.clips] == ["a.mp4"]
    assert "has no caption column" in str(found.problems)


def preview(ask: TestClient, **fields: str) -> str:
    return ask.post("/data/edit", data={"data": ".", **fields}).text


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for name, caption in {"a": "A red car", "b": f"A red {HOSTILE}", "c": ""}.items():
        (tmp_path / f"{name}.mp4").touch()
        (tmp_path / f"{name}.txt").write_text(caption)
    return tmp_path


def captions(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("*.txt"))]


def test_many_captions_change_only_after_a_preview_of_the_same_change(three: Path) -> None:
    before = captions(three)
    with client(three) as ask:
        shown = preview(ask, find="red", replacement="blue", prefix="TOK ")
        assert "2 captions would change" in shown
        assert "<img" not in shown
        assert captions(three) == before
        seen = re.findall(r'name="seen" value="(.*?)"', shown)[0]
        (three / "a.txt").write_text("A red bus")
        again = preview(ask, find="red", replacement="blue", prefix="TOK ", seen=seen)
        assert "The captions have changed since the preview" in again
        assert captions(three)[0] == "A red bus"
        seen = re.findall(r'name="seen" value="(.*?)"', again)[0]
        assert "2 changes are saved" in preview(ask, find="red", replacement="blue", prefix="TOK ", seen=seen)
    assert captions(three) == ["TOK A blue bus", f"TOK A blue {HOSTILE}", ""]


def test_only_what_is_searched_for_is_changed(three: Path) -> None:
    with client(three) as ask:
        shown = preview(ask, search="car", suffix=".")
    assert "1 caption would change" in shown


@pytest.mark.parametrize(
    ("fields", "told"),
    [({}, "nothing is to be changed"), ({"find": "(", "regex": "on"}, "this cannot be replaced"), ({"find": "lorry"}, "No caption")],
)
def test_a_change_that_says_nothing_is_refused_in_words(three: Path, fields: dict[str, str], told: str) -> None:
    with client(three) as ask:
        assert told in preview(ask, **fields)


def test_a_change_that_was_stopped_is_finished_from_the_page(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ltxcore.dataset import caption_files

    written: list[Path] = []

    def stopping(path: Path, data: bytes) -> None:
        if len(written) == 2:  # the record and one caption
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(data)

    found = listing.Listing(open_dataset(three))
    assert found.captions is not None
    with monkeypatch.context() as patch:
        patch.setattr(caption_files, "write_whole", stopping)
        with pytest.raises(KeyboardInterrupt):
            found.captions.write({caption: f"new {caption.name}" for caption in found.captions.all[:2]}, "a change")
    with client(three) as ask:
        assert "was stopped before its end" in ask.get("/data?data=.").text
        assert "a change of captions that was stopped" in save(ask, ".", "c.mp4", "", "more")
        assert "1 change is saved" in ask.post("/data/finish", data={"data": "."}).text
        assert "was stopped before its end" not in ask.get("/data?data=.").text
    assert captions(three) == ["new a.mp4", "new b.mp4", ""]


def test_clips_are_excluded_and_included_in_the_list_that_ltx_reads(three: Path) -> None:
    with client(three) as ask:
        for name in ("a.mp4", "b.mp4"):
            assert "Excluded" in ask.post("/data/exclude", data={"data": ".", "clip": name, "out": "1"}).text
        assert read_excluded(three) == ("a.mp4", "b.mp4")
        assert re.findall(r'<h2 class="name" title="(.*?)"', ask.get("/data/clips?data=.&only=excluded").text) == ["a.mp4", "b.mp4"]
        ask.post("/data/exclude", data={"data": ".", "clip": "a.mp4", "out": "0"})
    assert (three / ".exclude").read_text() == "b.mp4\n"


def test_the_doctor_is_a_job_whose_findings_stand_beside_their_clips(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    clip = encode(tmp_path / "clips" / "a.mp4", gradient_clip(9, 64, 96))
    (tmp_path / "clips" / "b.mp4").write_bytes(clip.read_bytes())
    for name in ("a", "b"):
        (tmp_path / "clips" / f"{name}.txt").write_text("The same caption")
    with client(tmp_path) as ask:
        assert "is examining" in ask.post("/data/doctor/start", data={"data": "clips", "buckets": ""}).text
        jobs = ask.app.state.studio.jobs
        (job,) = jobs.all()
        if job.state == "waiting":
            jobs.start(job)
        while not (job.folder / "end.json").exists():
            time.sleep(0.1)
        told = ask.get("/data/doctor?data=clips").text
        assert re.search(r"The doctor found \d errors? and \d warnings?\. ", told)
        assert "resolution_buckets is 96x64x9, the size of all its clips" in told
        text = ask.get("/data/clips?data=clips&only=findings").text
    assert "1 of 2 clips" in text
    card = text.partition('<li class="card clip"')[2]
    assert "the caption is the same as that of" in card
    assert "Edit the caption" in card
    assert "is a copy of" in card
    assert "Exclude b.mp4, as the doctor says" in card


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_findings_changes_and_exclusions_are_readable(browser: Any, tmp_path: Path, width: int) -> None:
    encode(tmp_path / "a.mp4", gradient_clip(9, 64, 96))
    (tmp_path / "a.txt").write_text("A red car")
    with served(tmp_path) as here:
        jobs = here.app.state.studio.jobs
        job = Findings(jobs).start(listing.Listing(open_dataset(tmp_path)), ".", "")
        finding = {"severity": "warning", "what": HOSTILE, "remedy": "Write a caption, or leave the row out."}
        found = [{**finding, "check": "long-caption", "where": str(tmp_path / "a.mp4")}, {**finding, "check": "dataset", "where": "here"}]
        job.log.write_text(json.dumps({"findings": found, "looked_at": [HOSTILE]}, indent=2))
        write_json(job.folder / "end.json", {"status": 1, "at": 0.0})
        with opened(browser, here, width) as page:
            page.goto(f"{here.address}/data?data=.")
            page.get_by_text("The doctor found 0 errors and 2 warnings").wait_for()
            page.get_by_text("What the doctor examined").click()
            page.get_by_text("<img src=x").first.wait_for()
            page.get_by_role("button", name="Edit the caption of a.mp4").click()
            assert page.evaluate("document.activeElement.name") == "caption"
            page.get_by_text("Change many captions").click()
            page.get_by_label("Replace").fill("red")
            page.get_by_label("with", exact=True).fill("blue")
            page.get_by_role("button", name="Preview").click()
            page.get_by_text("1 caption would change").wait_for()
            page.get_by_role("button", name="Exclude a.mp4, as the doctor says").click()
            page.get_by_text("Excluded: runs do not use it").wait_for()
            page.locator(".facts").wait_for()
            assert faults(page) == []
            page.get_by_role("button", name="Save 1 change").click()
            page.get_by_text("1 change is saved").wait_for()
    assert (tmp_path / "a.txt").read_text() == "A blue car"
    assert read_excluded(tmp_path) == ("a.mp4",)


def upload(ask: TestClient, name: str, body: bytes, **more: str) -> int:
    return ask.put("/data/upload", params={"folder": "clips", "name": name, **more}, content=body).status_code


def test_a_dropped_file_is_written_whole_and_replaces_none_unless_the_user_says_so(tmp_path: Path) -> None:
    with client(tmp_path) as ask:
        assert upload(ask, "deep/a.mp4", b"one") == 201
        assert upload(ask, "deep/a.mp4", b"two") == 409
        assert (tmp_path / "clips/deep/a.mp4").read_bytes() == b"one"
        assert upload(ask, "deep/a.mp4", b"two", replace="1") == 201
    assert (tmp_path / "clips/deep/a.mp4").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "clips/deep").iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    "name", ["../../out.mp4", "/../../out.mp4", ".hidden.mp4", "page.html", "run.sh", "", "a/.git/b.txt", "..\\..\\out.mp4"]
)
def test_a_file_that_is_no_data_or_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (opened := tmp_path / "opened").mkdir()
    with client(opened) as ask:
        assert upload(ask, name, b"x") == 422
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_is_taken_where_the_file_system_has_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_links(source: str, to: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", without_links)
    with client(tmp_path) as ask:
        assert upload(ask, "a.mp4", b"one") == 201
        assert upload(ask, "a.mp4", b"two") == 409
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "clips").iterdir()] == [("a.mp4", b"one")]


def test_a_name_that_no_file_can_have_is_refused_in_words(tmp_path: Path) -> None:
    with client(tmp_path) as ask:
        answer = ask.put("/data/upload", params={"folder": "", "name": f"{'a' * 300}.mp4"}, content=b"x")
    assert (answer.status_code, "cannot be written: File name too long" in answer.text) == (507, True)


def test_nothing_is_left_of_a_file_whose_connection_is_cut(tmp_path: Path) -> None:
    with served(tmp_path) as here:
        host, port = here.address.removeprefix("http://").split(":")
        ((name, token),) = here.cookies.items()
        head = f"PUT /data/upload?folder=clips&name=a.mp4 HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {here.address}\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}Cookie: {name}={token}\r\nContent-Length: 1000000\r\n\r\n".encode() + bytes(5000))
            while not (begun := list(tmp_path.glob("clips/.upload-*"))):
                time.sleep(0.02)
        while begun[0].exists():
            time.sleep(0.02)
        assert list((tmp_path / "clips").iterdir()) == []


def drop(page: Any, *paths: Path) -> None:
    """Drop files or folders on a page as the desktop does."""
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [*map(str, paths)], "dragOperationsMask": 1}
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 300, "data": data})


@needs_browser
def test_a_dropped_folder_is_copied_without_its_hidden_files_and_shown(browser: Any, tmp_path: Path) -> None:
    (opened_folder := tmp_path / "opened").mkdir()
    (dropped := tmp_path / "mine" / "deep").mkdir(parents=True)
    encode(dropped / "a.mp4", gradient_clip(9, 64, 96))
    (dropped / "a.txt").write_text("A caption")
    (tmp_path / "mine" / ".DS_Store").write_text("x")
    with served(opened_folder) as here, opened(browser, here) as page:
        page.goto(f"{here.address}/data")
        drop(page, tmp_path / "mine")
        page.get_by_label("Caption of mine/deep/a.mp4").wait_for()
        page.locator(".facts").wait_for()
    copied = sorted(path.relative_to(opened_folder).as_posix() for path in (opened_folder / "clips").rglob("*") if path.is_file())
    assert copied == ["clips/mine/deep/a.mp4", "clips/mine/deep/a.txt"]


DROP = """names => {
    const held = new DataTransfer();
    for (const name of names) held.items.add(new File(["theirs"], name));
    const event = new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true });
    setTimeout(() => document.body.dispatchEvent(event));  // the question comes after this call has returned
}"""


@needs_browser
def test_a_dropped_file_replaces_another_only_after_a_question(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    (folder := tmp_path / "clips").mkdir(parents=True)
    (folder / "a.txt").write_text("mine")
    encode(folder / "a.mp4", gradient_clip(9, 64, 96))
    answers = [True, False]
    with served(tmp_path) as here, opened(browser, here, refused="4") as page:
        page.on("dialog", lambda dialog: dialog.accept() if answers.pop() else dialog.dismiss())
        page.goto(f"{here.address}/data?data=clips")
        page.evaluate(DROP, ["a.txt", "b.txt", "page.html"])
        page.get_by_text("1 of 3 files were copied").wait_for()
        told = page.locator("#add-problems").inner_text()
        assert "a.txt is there already" in told
        assert "page.html is neither a clip, picture or sound" in told
        assert ((folder / "a.txt").read_text(), (folder / "b.txt").read_text()) == ("mine", "theirs")
        page.evaluate(DROP, ["a.txt"])
        expect(page.get_by_label("Caption of a.mp4")).to_have_value("theirs", timeout=60_000)
    assert (answers, (folder / "a.txt").read_text()) == ([], "theirs")


@needs_browser
def test_chosen_files_are_copied_and_shown(browser: Any, tmp_path: Path) -> None:
    (opened_folder := tmp_path / "opened").mkdir()
    clip = encode(tmp_path / "a.mp4", gradient_clip(9, 64, 96))
    (tmp_path / "a.txt").write_text("A caption")
    with served(opened_folder) as here, opened(browser, here) as page:
        page.goto(f"{here.address}/data")
        page.get_by_text("Add files").click()
        assert faults(page) == []
        page.get_by_label("Files", exact=True).set_input_files([clip, tmp_path / "a.txt"])
        page.get_by_label("Caption of a.mp4").wait_for()
    assert (opened_folder / "clips" / "a.mp4").read_bytes() == clip.read_bytes()

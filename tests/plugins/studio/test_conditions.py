"""Files that the browser sends for conditions, masks that are painted, and spans of a sound that are marked."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import expect

from helpers.media_made import encode, gradient_clip, tone
from helpers.studio_browser import WIDTHS, Served, faults, needs_browser, opened, served
from ltxcore.api import DataError
from ltxcore.api.media import read_clip, read_sound, write_media
from ltxplugins.studio.try_out.media import frame_of, mask_of_spans, new_upload, receive, waveform
from ltxplugins.studio.workspace import Workspace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip with sound and a sound."""
    root = tmp_path_factory.mktemp("opened")
    encode(root / "clip.mp4", gradient_clip(17, rate=16), tone(1.0))
    write_media(root / "sound", sound=tone(2.0, start=1.0))
    return root


async def pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def sent(workspace: Workspace, name: str, content: bytes) -> Path:
    path = new_upload(workspace, name)
    asyncio.run(receive(path, pieces(content)))
    return path


def test_a_file_arrives_as_it_was_sent_under_a_name_that_is_harmless(folder: Path) -> None:
    workspace = Workspace(folder)
    content = (folder / "clip.mp4").read_bytes()
    path = sent(workspace, '../../"><img src=x onerror=alert(1)>\\a clip.MP4', content)
    assert path.parent == workspace.state / "uploads"
    assert path.name.startswith("a-clip-")
    assert path.suffix == ".mp4"
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["page.html", "run.toml", "mine.safetensors", "noending", ""])
def test_only_media_are_taken(folder: Path, name: str) -> None:
    with pytest.raises(DataError, match="is not a media file"):
        new_upload(Workspace(folder), name)


def test_of_a_file_that_is_no_medium_or_does_not_arrive_nothing_is_left(folder: Path) -> None:
    workspace = Workspace(folder)
    before = sorted(workspace.own("uploads").iterdir())
    with pytest.raises(DataError, match="cannot be used"):
        sent(workspace, "a.mp4", b"<script>alert(1)</script>")

    async def broken() -> AsyncIterator[bytes]:
        yield (folder / "clip.mp4").read_bytes()
        raise ConnectionResetError

    with pytest.raises(DataError):
        asyncio.run(receive(new_upload(workspace, "a.mp4"), broken()))
    assert sorted(workspace.own("uploads").iterdir()) == before


def test_the_frame_to_paint_on_is_the_first_of_the_clip(folder: Path) -> None:
    image = frame_of(Workspace(folder), folder / "clip.mp4")
    assert torch.equal(read_clip(image).frames, read_clip(folder / "clip.mp4", max_frames=1).frames)
    assert frame_of(Workspace(folder), image) == image


def test_a_waveform_shows_where_the_sound_is_loud(folder: Path) -> None:
    found = waveform(folder / "sound.wav")
    assert found["seconds"] == pytest.approx(2.0)
    assert len(found["peaks"]) == 800
    assert max(found["peaks"][:390]) == 0.0
    assert min(found["peaks"][410:]) > 0.3


def test_what_is_marked_is_generated_and_the_rest_given(folder: Path) -> None:
    mask = read_sound(mask_of_spans(Workspace(folder), folder / "sound.wav", "1.5-9, 0.25-0.5"))
    given = mask.samples[0] > 0.5
    assert mask.duration == pytest.approx(2.0)
    assert [int(given[round(second * mask.rate)]) for second in (0.1, 0.3, 0.6, 1.4, 1.6)] == [1, 0, 1, 1, 0]
    for spans in ("", "2-1", "all", "5-6"):
        with pytest.raises(DataError):
            mask_of_spans(Workspace(folder), folder / "sound.wav", spans)


# ---- in a browser


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Served]:
    with served(folder) as found:
        yield found


def test_a_file_that_is_refused_says_why(studio: Served) -> None:
    connection = http.client.HTTPConnection(studio.address.removeprefix("http://"), timeout=60)
    cookie = "; ".join(f"{name}={value}" for name, value in studio.cookies.items())
    connection.request("POST", "/try/upload?name=a.html", b"<p>", {"cookie": cookie, "origin": studio.address})
    assert json.loads(connection.getresponse().read())["problem"].startswith("a.html is not a media file. Drop a file that ends in")
    connection.close()


def with_condition(page: Any, kind: str, file: Path) -> None:
    page.get_by_label("A kind of condition").select_option(kind)
    page.locator("#try-add-it").click()
    page.locator("[data-upload=c_file]").last.set_input_files(file)
    page.locator(".drop .name").last.wait_for()


@needs_browser
def test_a_mask_is_painted_on_the_frame(browser: Any, studio: Served, folder: Path) -> None:
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/try")
        with_condition(page, "mask", folder / "clip.mp4")
        page.get_by_role("button", name="Paint a mask").click()
        for name, value in {"Left": "0", "Top": "0", "Rectangle width": "50", "Rectangle height": "100"}.items():
            page.get_by_role("dialog").get_by_label(name, exact=True).fill(value)
        page.get_by_role("button", name="Paint it").click()
        box = page.locator("#paint-canvas").bounding_box()
        page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
        page.mouse.down()
        page.mouse.up()
        page.get_by_role("button", name="Use this mask").click()
        page.get_by_alt_text("Mask: white stays, black is generated again").wait_for()
        name = page.locator("[name=c_mask]").input_value()
        assert page.locator("select[name=c_modality]").input_value() == "video"
    mask = read_clip(folder / name).frames[0].float().mean(dim=-1) / 255
    height, width = mask.shape
    assert (width, height) == (96, 64)
    assert float(mask[:, : width // 2 - 2].max()) == 0
    assert float(mask[height // 2, 3 * width // 4]) == 0  # the stroke
    assert float(mask[2, width - 2]) == 1


@needs_browser
def test_a_span_is_marked_on_the_waveform(browser: Any, studio: Served, folder: Path) -> None:
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/try")
        with_condition(page, "mask", folder / "sound.wav")
        page.get_by_role("button", name="Mark a span of the sound").click()
        page.get_by_text("The sound lasts 2.00 seconds.").wait_for()
        box = page.locator("#mark-canvas").bounding_box()
        page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
        page.mouse.up()
        page.get_by_label("From", exact=True).fill("1.5")
        page.get_by_label("To", exact=True).fill("1.75")
        page.get_by_role("button", name="Mark it").click()
        assert page.get_by_label("Spans in seconds").input_value() == "0.5-1, 1.5-1.75"
        page.get_by_role("button", name="Use these spans").click()
        page.get_by_text("Generated again: 0.5-1, 1.5-1.75 s").wait_for()
        name = page.locator("[name=c_mask]").input_value()
        assert page.locator("select[name=c_modality]").input_value() == "audio"
    mask = read_sound(folder / name)
    assert [round(float(mask.samples[0, round(second * mask.rate)])) for second in (0.2, 0.7, 1.2, 1.6, 1.9)] == [1, 0, 1, 0, 1]


@needs_browser
def test_a_file_that_is_dropped_on_the_form_becomes_a_condition(browser: Any, studio: Served, folder: Path) -> None:
    with opened(browser, studio) as page:
        page.goto(f"{studio.address}/try")
        data = page.evaluate_handle(
            "bytes => { const data = new DataTransfer(); data.items.add(new File([new Uint8Array(bytes)], 'mine.wav')); return data; }",
            list((folder / "sound.wav").read_bytes()),
        )
        page.dispatch_event("#try-prompt", "drop", {"dataTransfer": data})
        expect(page.locator("[data-condition] strong")).to_have_text("Sound for the video")
        assert page.locator("[name=c_file]").input_value().startswith(".studio/uploads/mine-")


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_editors_are_readable(browser: Any, studio: Served, folder: Path, width: int) -> None:
    with opened(browser, studio, width, color_scheme="dark") as page:
        page.goto(f"{studio.address}/try")
        with_condition(page, "mask", folder / "clip.mp4")
        page.get_by_role("button", name="Paint a mask").click()
        page.get_by_role("button", name="Paint it").click()
        assert faults(page) == []
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Mark a span of the sound").click()
        page.get_by_text("The sound lasts").wait_for()
        assert faults(page) == []

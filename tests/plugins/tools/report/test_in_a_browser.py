"""The page in a real browser: nothing goes wrong, curves are to be seen, samples play."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.made_run import HOSTILE, STEPS, made_run, media, metrics
from ltxplugins.tools.report.write import write_report
from plugins.tools.report.chromium import PROGRAM, Browser, browser

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here")

NAMES = ("a red disc sways slowly", HOSTILE)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Path]]:
    """The page of a run with clips, sounds and hostile names, as a file, without a network."""
    folder = tmp_path_factory.mktemp("page")
    run = folder / "a run"
    drawn = media(run, NAMES)
    made_run(run, lines=[*metrics(held_out=(1.0, 0.8, 0.6, 0.5)), *drawn])
    with browser(folder) as page:
        page.ask("Network.enable")
        page.ask("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        page.open(write_report(run).as_uri())
        yield page, run


def test_the_page_opens_without_a_complaint_and_runs_nothing_but_its_own_script(opened: tuple[Browser, Path]) -> None:
    page, run = opened
    assert page.value("document.title") == f"{run.name} · ltx"
    titles = page.value("[...document.querySelectorAll('.over-steps h3')].map((title) => title.firstChild.textContent)")
    assert titles == [NAMES[0], f"{NAMES[0]}, sound", NAMES[1], f"{NAMES[1]}, sound"]
    assert page.complaints == []


def test_every_curve_is_to_be_seen(opened: tuple[Browser, Path]) -> None:
    page, _ = opened
    sizes = page.value(
        "[...document.querySelectorAll('.plot .curve')].map((curve) => { const box = curve.getBBox(); return [box.width, box.height]; })"
    )
    assert len(sizes) > 20
    assert all(width > 100 for width, _ in sizes)
    falling = page.value("(() => { const box = document.querySelector('.plot .curve .smooth').getBBox(); return box.height; })()")
    assert falling > 50


def test_the_first_screen_answers_and_shows_a_sample(opened: tuple[Browser, Path]) -> None:
    page, _ = opened
    page.ask("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
    page.value("scrollTo(0, 0)")
    seen = page.value(
        "[...document.querySelectorAll('#answers h2, #answers .word')].filter((each) => each.getBoundingClientRect().bottom < innerHeight)"
        ".map((each) => each.textContent)"
    )
    assert seen == ["Did it learn?", "Yes", "Is it still learning?", "Yes", "What does it generate?", "How do I use it?"]
    assert page.value("document.querySelector('#answers video').getBoundingClientRect().top < innerHeight")
    assert page.value("document.querySelector('#answers pre').getBoundingClientRect().top < innerHeight")


def test_every_sample_plays(opened: tuple[Browser, Path]) -> None:
    page, _ = opened
    page.until("[...document.querySelectorAll('video, audio')].every((medium) => medium.readyState >= 3 || medium.error)")
    found = page.value(
        "[...document.querySelectorAll('video, audio')].map((medium) => [medium.tagName, medium.error && medium.error.message, medium.duration])"
    )
    assert [error for _, error, _ in found if error] == []
    assert {tag for tag, _, _ in found} == {"VIDEO", "AUDIO"}
    assert all(duration == pytest.approx(9 / 16, abs=0.08) for _, _, duration in found)
    assert page.value("[...document.querySelectorAll('video')].every((video) => video.videoWidth === 64 && video.videoHeight === 64)")
    for kind in ("video", "audio"):
        page.value(f"document.querySelector('{kind}').play()")
        page.until(f"document.querySelector('{kind}').currentTime > 0.1")
    assert page.complaints == []


def test_samples_of_a_row_play_together_and_others_stop(opened: tuple[Browser, Path]) -> None:
    page, _ = opened
    page.value("document.querySelectorAll('video').forEach((video) => { video.loop = true; })")
    page.value("document.querySelector('.together').click()")
    page.until(
        "[...document.querySelector('.over-steps').querySelectorAll('video')].every((video) => !video.paused && video.currentTime > 0)"
    )
    assert page.value("[...document.querySelectorAll('#answers video')].every((video) => video.paused)")


def test_the_numbers_under_the_pointer_and_the_legend_work(opened: tuple[Browser, Path]) -> None:
    page, _ = opened
    page.value("document.querySelector('.plot svg').scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = page.value(
        "(() => { const b = document.querySelector('.plot svg').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
    page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + box[2] * 0.9, y=box[1] + box[3] / 2)
    page.until("!document.querySelector('.plot .tip').hidden")
    head, *rows = page.value("[...document.querySelector('.plot .tip').children].map((each) => each.textContent)")
    assert 0.8 * STEPS < int(head.removeprefix("step ")) <= STEPS
    assert [row.partition(":")[0] for row in rows] == ["total", "video", "audio"]
    page.value("document.querySelector('.plot .legend button').click()")
    assert page.value("document.querySelector('.plot .curve').style.display") == "none"


def test_large_files_stay_beside_the_page_and_play_from_there(opened: tuple[Browser, Path], tmp_path: Path) -> None:
    page, run = opened
    page.open(write_report(run, run / "light.html", embed=0).as_uri())
    assert page.value("document.querySelector('video').src.startsWith('file:')")
    page.until("[...document.querySelectorAll('video, audio')].every((medium) => medium.readyState >= 3)")
    assert page.complaints == []


def test_what_goes_wrong_in_a_page_is_noticed(opened: tuple[Browser, Path], tmp_path: Path) -> None:
    page, _ = opened
    (tmp_path / "wrong.html").write_text("<script>console.error('said'); missing();</script><img src='https://example.org/a.png'>")
    page.complaints.clear()
    page.open((tmp_path / "wrong.html").as_uri())
    page.until("true")
    told = " ".join(page.complaints)
    assert "said" in told
    assert "missing is not defined" in told


@pytest.mark.parametrize("width", [1280, 820, 480])
def test_no_word_of_a_table_is_broken_and_the_page_is_no_wider_than_its_window(opened: tuple[Browser, Path], width: int) -> None:
    page, _ = opened
    page.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    broken = page.value(
        """[...document.querySelectorAll('.wide table:not(.facts) :is(th, td), .wide .facts th')].flatMap((cell) => {
          const text = cell.firstChild;
          return !text || text.nodeType !== 3 ? [] : [...text.data.matchAll(/\\S+/g)].filter((word) => {
            const range = document.createRange();
            range.setStart(text, word.index); range.setEnd(text, word.index + word[0].length);
            return new Set([...range.getClientRects()].map((box) => box.top)).size > 1;
          }).map((word) => word[0]);
        })"""
    )
    assert broken == []
    assert page.value("document.documentElement.scrollWidth") <= width

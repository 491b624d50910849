"""The page: one file with everything that a run has, and nothing of elsewhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import attrs
import pytest

from helpers.made_run import HOSTILE, made_run, media, metrics
from ltxcore.train.validation_loss import OTHER, OWN, SIGMAS, ClipLoss, of_average, statistics
from ltxplugins.tools.report.tracker import Report
from ltxplugins.tools.report.write import write_report


@attrs.define(eq=False)
class Reader(HTMLParser):
    """The elements of a page, and its text."""

    tags: list[tuple[str, dict[str, str | None]]] = attrs.field(factory=list)
    said: list[str] = attrs.field(factory=list)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    return reader


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "a run"
    lines = media(folder, ("a red disc", HOSTILE))
    return write_report(made_run(folder, lines=[*metrics(), *lines], preprocessing={"lora_trigger": HOSTILE}))


def test_a_caption_is_the_first_or_the_last_child_of_its_figure(page: Path) -> None:
    # Within a figure nothing follows its caption, and no script stands behind it: what HTML allows.
    captions = re.findall(r"</figcaption>(.{9})", page.read_text(), re.DOTALL)
    assert len(captions) > 10
    assert set(captions) == {"</figure>"}


def test_the_page_has_every_part(page: Path) -> None:
    assert page.name == "report.html"
    found = read(page)
    assert [told["id"] for tag, told in found.tags if tag == "section"] == ["answers", "curves", "samples", "data", "trained", "run-file"]
    text = " ".join(found.said)
    for part in (
        "Did it learn?",
        "28 samples",
        "64 x 64 pixels, 17 frames at 16 a second",
        "LoRA of rank 4, alpha 4",
        "gradient_accumulation_steps",
    ):
        assert part in text


def test_what_was_measured_beside_the_loss_is_on_the_page_by_the_names_it_is_measured_under(tmp_path: Path) -> None:
    """Intervals, parts of the conditioning that another clip gave, and the losses of the averaged weights."""
    context = {OWN: 0.5, OTHER: 1.5, "other_text": 1.0, "other_frozen": 0.75}
    rows = [
        ClipLoss(str(clip), name, "video", sigma, loss + 0.1 * clip)
        for clip in range(3)
        for sigma in SIGMAS
        for name, loss in context.items()
    ]
    found = statistics(rows)
    lines = [{"step": 0, **{name: 2 * value for name, value in found.items()}}, {"step": 9, **found, **of_average(found)}]
    page = write_report(made_run(tmp_path / "run", lines=[*metrics(9, held_out=()), *lines])).read_text()
    assert "(one at a time: frozen 1.4, text 1.8)" in page
    assert "<td>0.6000 ± 0.1132</td><td>0.6000</td><td>1.6000</td>" in page
    assert "averaged weights" in page
    assert "Validation loss of the averaged weights, video" in page
    del lines[1][f"ema/held_out/{OWN}/video/sigma_{SIGMAS[0]:.2f}"]
    page = write_report(made_run(tmp_path / "less", lines=[*metrics(9, held_out=()), *lines])).read_text()
    assert "<td>0.6000 ± 0.1132</td><td>–</td><td>1.6000</td>" in page


def test_the_datasets_of_objectives_are_among_the_data(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    status = json.loads((folder / "run.json").read_text())
    status["data"]["datasets"] = {"regularization": {**status["data"], "root": "/people.precomputed", "train": 1234, "held_out": 32}}
    (folder / "run.json").write_text(json.dumps(status))
    status["data"]["train"] = 1
    (folder / "run.json").write_text(json.dumps(status))
    page = write_report(folder).read_text()
    assert "<td>1,234 samples in /people.precomputed, and 32 held out</td>" in page
    assert "<td>1 sample</td>" in page


def test_the_sets_of_a_run_are_among_the_data_with_how_often_they_are_seen(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    status = json.loads((folder / "run.json").read_text())
    sets = {"clips": ("/clips.precomputed", 100, 4, 100), "photos": ("/photos.precomputed", 10, 0, 25)}
    status["data"]["sets"] = {
        name: {"root": root, "train": train, "held_out": held_out, "per_epoch": count}
        for name, (root, train, held_out, count) in sets.items()
    }
    (folder / "run.json").write_text(json.dumps(status))
    page = write_report(folder).read_text()
    assert "<td>clips, photos</td>" in page
    assert "<td>100 samples in /clips.precomputed, each seen once in a pass (80.0% of the training), and 4 held out</td>" in page
    assert "<td>10 samples in /photos.precomputed, each seen 2.5 times in a pass (20.0% of the training), and 0 held out</td>" in page


def test_nothing_comes_from_elsewhere_and_nothing_hostile_becomes_code(page: Path) -> None:
    found = read(page)
    sources = [told[key] or "" for _, told in found.tags for key in ("src", "href") if key in told]
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert [told for tag, told in found.tags if tag == "script" and told.get("type") != "application/json"] == [{}]
    assert not [told for _, told in found.tags if any(name.startswith("on") for name in told)]
    assert any(HOSTILE in said for said in found.said)


def test_its_policy_allows_no_other_script(page: Path) -> None:
    (policy,) = [told["content"] for tag, told in read(page).tags if tag == "meta" and told.get("http-equiv")]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in re.search(r"script-src [^;]+", policy)[0]


def test_an_unfinished_run_has_a_page_too(tmp_path: Path) -> None:
    text = " ".join(read(write_report(made_run(tmp_path / "run", lines=[], status="running"), tmp_path / "other.html")).said)
    for said in ("not finished", "No step has been trained yet.", "No samples were generated.", "Not known", "Resume"):
        assert said in text


def test_every_run_has_a_page_that_is_renewed_when_samples_are_drawn(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    tracker = Report()
    tracker.start(folder, {}, 10, 0)
    tracker.log(1, {"loss": 1.0})
    assert not (folder / "report.html").exists()
    tracker.sample(1, "a", folder / "a.png")
    tracker.log(1, {"loss": 1.0})
    assert (folder / "report.html").exists()
    (folder / "report.html").unlink()
    tracker.finish()
    assert (folder / "report.html").exists()


def test_a_page_that_cannot_be_written_is_told_of_and_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Report()
    tracker.start(tmp_path, {}, 10, 0)
    tracker.finish()
    assert caplog.messages == [
        f"report.html could not be written: ConfigError: {tmp_path}: this is not the output folder of a run\n"
        "    Name the output_dir of a run that `ltx run` started."
    ]

"""Reference clips: exact rates and counts, filters of strangers, one bad clip, what a second run does."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from helpers.media_made import cut, encode, gradient_clip
from helpers.raw_media import clip_file, dataset_file, pictures, sound_file
from ltxcore.cli.main import main
from ltxcore.dataset.sources import read_table
from ltxcore.media.probe import probe, read_clip, write_clip
from ltxcore.protocols import Clip

PLUGIN = """
from ltxcore.api import hookimpl


def negative(frames):
    for frame in frames:
        yield 255 - frame


@hookimpl
def ltx_reference_filters():
    return {"negative": negative}
"""


def ltx(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["reference", *map(str, arguments), "--no-progress"])


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def two_clips(folder: Path) -> Path:
    listed = []
    for index in range(2):
        clip_file(folder / f"clips/{index}.mp4", seed=index, sound=False)
        listed.append({"video": f"clips/{index}.mp4", "caption": f"clip number {index}", "more": index})
    return dataset_file(folder / "set.jsonl", listed)


def plugin(folder: Path, text: str = PLUGIN) -> Path:
    (folder / "plugin.py").write_text(text)
    return folder / "plugin.py"


# ---------------------------------------------------------------- what comes out


def test_the_dataset_is_written_with_a_reference_beside_every_clip(tmp_path: Path) -> None:
    result = ltx(two_clips(tmp_path), "-o", tmp_path / "edges.jsonl")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"2 made, 0 reused in {tmp_path}/edges.jsonl\n", "")
    assert rows(tmp_path / "edges.jsonl") == [
        {**row, "reference_video": f"references/canny/clips/{index}.mp4"} for index, row in enumerate(rows(tmp_path / "set.jsonl"))
    ]


def test_a_second_filter_writes_its_references_to_a_column_of_their_own(tmp_path: Path) -> None:
    assert ltx(two_clips(tmp_path), "-o", tmp_path / "edges.jsonl").exit_code == 0
    added = ("--filter", "negative", "--plugin", plugin(tmp_path), "--column", "negative")
    assert ltx(tmp_path / "edges.jsonl", "-o", tmp_path / "both.jsonl", *added).exit_code == 0
    assert rows(tmp_path / "both.jsonl") == [
        {**row, "negative": f"references/negative/clips/{index}.mp4"} for index, row in enumerate(rows(tmp_path / "edges.jsonl"))
    ]
    assert ltx(tmp_path / "edges.jsonl", "-o", tmp_path / "both.jsonl", *added).stdout == f"0 made, 2 reused in {tmp_path}/both.jsonl\n"


def test_a_clip_with_the_longest_name_has_a_reference(tmp_path: Path) -> None:
    name = f"{'x' * 252}.ts"  # with .mp4 for .ts it would be too long
    clip_file(tmp_path / "a.mp4", sound=False).rename(tmp_path / name)
    result = ltx(dataset_file(tmp_path / "set.jsonl", [{"video": name, "caption": "long"}]), "-o", tmp_path / "edges.jsonl")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"1 made, 0 reused in {tmp_path}/edges.jsonl\n", "")
    (row,) = rows(tmp_path / "edges.jsonl")
    assert (tmp_path / row["reference_video"]).is_file()
    assert len(Path(row["reference_video"]).name) == 255


def test_the_clips_of_a_folder_keep_their_captions_and_its_sounds_are_counted(tmp_path: Path) -> None:
    two_clips(tmp_path)
    (tmp_path / "clips/1.TXT").write_text("a square\n")
    sound_file(tmp_path / "clips/waves.wav")
    result = ltx(tmp_path / "clips", "-o", tmp_path / "clips/edges.jsonl")
    note = "1 sound has no row in the output, since its rows are clips and pictures"
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"2 made, 0 reused in {tmp_path}/clips/edges.jsonl\n{note}\n", "")
    made = [
        {"video": "0.mp4", "reference_video": "references/canny/0.mp4"},
        {"video": "1.mp4", "caption": "a square", "reference_video": "references/canny/1.mp4"},
    ]
    assert rows(tmp_path / "clips/edges.jsonl") == made
    assert [row.file for row in read_table(tmp_path / "clips").rows] == ["0.mp4", "1.mp4", "waves.wav"]


def test_clips_that_the_user_excludes_have_no_reference(tmp_path: Path) -> None:
    dataset = two_clips(tmp_path)
    (tmp_path / "set.jsonl.exclude").write_text("clips/0.mp4\n")
    note = f"{dataset}: 1 sample excluded by {dataset}.exclude"
    assert ltx(dataset, "-o", tmp_path / "edges.jsonl").stdout == f"1 made, 0 reused in {tmp_path}/edges.jsonl\n{note}\n"
    assert [row["video"] for row in rows(tmp_path / "edges.jsonl")] == ["clips/1.mp4"]
    assert not (tmp_path / "references/canny/clips/0.mp4").exists()


def test_canny_is_that_of_opencv_at_100_and_200(tmp_path: Path) -> None:
    ltx(two_clips(tmp_path), "-o", tmp_path / "edges.jsonl")
    frames = read_clip(tmp_path / "clips/0.mp4").frames.numpy()
    wanted = np.stack([cv2.Canny(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 100, 200) for frame in frames])
    written = read_clip(tmp_path / "references/canny/clips/0.mp4").frames.numpy()
    assert 0 < (wanted > 0).mean() < 0.2
    for colour in range(3):  # H.264 is not exact, but leaves no doubt where an edge is
        assert ((written[..., colour] > 127) == (wanted > 127)).mean() > 0.995


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25), Fraction(15, 2)])
def test_a_reference_has_the_exact_rate_and_the_frames_of_its_clip(tmp_path: Path, rate: Fraction) -> None:
    write_clip(tmp_path / "a.mp4", pictures(frames=23, rate=float(rate)))
    assert ltx(tmp_path, "-o", tmp_path / "edges.jsonl").exit_code == 0
    info = probe(tmp_path / "references/canny/a.mp4")
    assert (info.rate, info.frames, info.height, info.width) == (rate, 23, 64, 64)
    assert read_clip(info.path).frames.shape[0] == 23


def test_clips_of_odd_size_and_other_formats_and_images_have_references_too(tmp_path: Path) -> None:
    encode(tmp_path / "odd.webm", gradient_clip(5, 35, 47), pictures="libvpx")
    write_clip(tmp_path / "image.jpg", Clip(pictures(frames=1).frames, 1.0))
    assert ltx(tmp_path, "-o", tmp_path / "edges.csv").stdout == f"2 made, 0 reused in {tmp_path}/edges.csv\n"
    with (tmp_path / "edges.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["video", "reference_video"],
            ["image.jpg", "references/canny/image.png"],
            ["odd.webm", "references/canny/odd.mp4"],
        ]
    assert read_clip(tmp_path / "references/canny/odd.mp4").frames.shape == (5, 35, 47, 3)
    assert read_clip(tmp_path / "references/canny/image.png").frames.shape == (1, 64, 64, 3)


def test_a_reference_has_the_shape_that_its_clip_is_shown_with(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for picture in pictures(frames=3).frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    assert ltx(tmp_path, "-o", tmp_path / "edges.jsonl").exit_code == 0
    assert read_clip(tmp_path / "references/canny/a.mp4").frames.shape == (3, 64, 128, 3)


def test_paths_of_a_dataset_in_another_folder_lead_where_they_did(tmp_path: Path) -> None:
    clip_file(tmp_path / "lists/a.mp4", sound=False)
    data = dataset_file(tmp_path / "lists/set.jsonl", [{"media_path": "a.mp4", "ref_media_path": "b.mp4", "caption": "a.mp4"}])
    ltx(data, "-o", tmp_path / "edges.json")
    assert json.loads((tmp_path / "edges.json").read_text()) == [
        {"media_path": "lists/a.mp4", "caption": "a.mp4", "reference_video": "references/canny/lists/a.mp4"}
    ]


# ---------------------------------------------------------------- again


def test_only_what_changed_is_made_again(tmp_path: Path) -> None:
    data, output = two_clips(tmp_path), tmp_path / "edges.jsonl"
    ltx(data, "-o", output)
    assert ltx(data, "-o", output).stdout == f"0 made, 2 reused in {output}\n"
    clip_file(tmp_path / "clips/1.mp4", seed=5, sound=False)
    assert ltx(data, "-o", output).stdout == f"1 made, 1 reused in {output}\n"
    (tmp_path / "references/canny/clips/0.mp4").write_bytes(b"cut short")
    with (tmp_path / "references/canny/made.jsonl").open("a") as file:
        file.write('{"name": "clips/1.mp4", "of')  # what a killed process leaves
    assert ltx(data, "-o", output).stdout == f"1 made, 1 reused in {output}\n"
    assert ltx(data, "-o", output).stdout == f"0 made, 2 reused in {output}\n"
    assert ltx(data, "-o", output, "--overwrite").stdout == f"2 made, 0 reused in {output}\n"


def test_another_version_of_a_local_filter_makes_all_again(tmp_path: Path) -> None:
    data, output, local = two_clips(tmp_path), tmp_path / "negative.jsonl", plugin(tmp_path)
    options = ("-o", output, "--filter", "negative", "--plugin", local)
    assert ltx(data, *options).stdout == f"2 made, 0 reused in {output}\n"
    assert ltx(data, *options).stdout == f"0 made, 2 reused in {output}\n"
    plugin(tmp_path, PLUGIN.replace("255 - frame", "frame // 2"))
    assert ltx(data, *options).stdout == f"2 made, 0 reused in {output}\n"


# ---------------------------------------------------------------- strangers


def test_a_filter_of_an_installed_package_is_used_as_ours_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "ltx_negative-1.0.dist-info").mkdir(parents=True)
    (site / "ltx_negative-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: ltx-negative\nVersion: 1.0\n")
    (site / "ltx_negative-1.0.dist-info/entry_points.txt").write_text("[ltx]\nnegative = ltx_negative\n")
    (site / "ltx_negative.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(site)
    result = ltx(two_clips(tmp_path / "data"), "-o", tmp_path / "data/negative.jsonl", "--filter", "negative")
    assert (result.exit_code, result.stdout) == (0, f"2 made, 0 reused in {tmp_path}/data/negative.jsonl\n")
    ours = read_clip(tmp_path / "data/clips/0.mp4").frames
    theirs = read_clip(tmp_path / "data/references/negative/clips/0.mp4").frames
    assert (255 - ours.int() - theirs.int()).abs().float().mean() < 6


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return list(frames)[:-1]", "gives 16 frames for 17"),
        ("return (frame for frame in frames for _ in range(2))", "gives 34 frames for 17"),
        ("return (frame.float() for frame in frames)", "returns torch.float32 [64, 64, 3], not torch.uint8 [H, W, 3]"),
        ("return (frame.numpy() for frame in frames)", "returns ndarray, not torch.uint8 [H, W, 3]"),
        ("return (frame[: 64 - 2 * i] for i, frame in enumerate(frames))", "returns frames of different sizes"),
        ("return 1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("return iter(())", "gives 0 frames for 17"),
    ],
)
def test_a_filter_that_breaks_its_protocol_is_named(tmp_path: Path, body: str, told: str) -> None:
    clip = clip_file(tmp_path / "clips/a.mp4", sound=False)
    local = plugin(tmp_path, PLUGIN.replace("for frame in frames:\n        yield 255 - frame", body))
    result = ltx(tmp_path / "clips", "-o", tmp_path / "set.jsonl", "--filter", "negative", "--plugin", local)
    assert result.exit_code == 2
    assert result.stderr == f'{clip}: the reference filter "negative" of local file ({local}) {told}\n'
    assert not (tmp_path / "set.jsonl").exists()


# ---------------------------------------------------------------- what goes wrong


def test_a_bad_clip_loses_only_itself(tmp_path: Path) -> None:
    data = two_clips(tmp_path)
    broken = cut(tmp_path / "clips/1.mp4", tmp_path / "clips/broken.mp4", 0.5)
    listed = [*rows(data), {"video": "clips/broken.mp4"}, {"video": "clips/none.mp4"}, {"video": " "}]
    dataset_file(data, listed)
    result = ltx(data, "-o", tmp_path / "edges.jsonl")
    assert result.exit_code == 2
    assert result.stdout == f"2 made, 0 reused, 3 failed in {tmp_path}/edges.jsonl\n"
    assert result.stderr == (
        f'{data}:5: the value of "video" does not name a file\n    Name a file, or leave the row out.\n'
        f"{data}:3: {broken}: this file is cut short: it ends earlier than its header says\n    Copy or download the file again.\n"
        f"{data}:4: {tmp_path}/clips/none.mp4: there is no such file\n    Check the path; paths in a dataset are relative to the dataset's own folder.\n"
    )
    assert [row["video"] for row in rows(tmp_path / "edges.jsonl")] == ["clips/0.mp4", "clips/1.mp4"]


def test_a_filter_without_its_library_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = clip_file(tmp_path / "a.mp4", sound=False)
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    result = ltx(tmp_path, "-o", tmp_path / "edges.jsonl")
    assert result.exit_code == 2
    assert result.stderr == f'{clip}: the filter "canny" needs OpenCV, which is not installed\n    Run `pip install "ltx[tools]"`.\n'


def wrong(folder: Path) -> Sequence[tuple[tuple[str | Path, ...], str]]:
    """Arguments that are refused before anything is made, and what is said."""
    data = folder / "set.jsonl"
    (folder / "other.jsonl").write_text('{"video": "a.mp4"}\n')
    (folder / "empty").mkdir()
    return (
        (
            (data, "-o", data),
            f"{data}: the output would overwrite the dataset, without the rows whose clips fail\n    Name another file.\n",
        ),
        (
            (data, "-o", folder / "other.jsonl"),
            f'{folder}/other.jsonl: already exists, and was not written by this command with the filter "canny"\n    Name another file.\n',
        ),
        (
            (data, "-o", folder / "a.txt"),
            f'{folder}/a.txt: a dataset cannot be written as a ".txt" file\n    Write .jsonl, .json or .csv.\n',
        ),
        (
            (data, "-o", folder / "empty/a.csv"),
            f"{data}:1: the clip {folder}/clips/0.mp4 is not inside the output's folder, {folder}/empty\n"
            f"    Write the output to {folder}.\n",
        ),
        (
            (folder / "empty", "-o", folder / "a.csv"),
            f"{folder}/empty: contains no clips, images or sounds\n"
            "    Put clips, images or sounds there, or name a dataset file (.jsonl, .csv, .tsv, .json, .parquet).\n",
        ),
        ((data, "-o", folder / "a.csv", "--filter", "cany"), '--filter: there is no reference filter "cany"\n    Did you mean "canny"?\n'),
        (
            (data, "-o", folder / "a.csv", "--video-column", "vide"),
            f'{data}: has no column "vide" to use as the video column\n    Did you mean "video"?\n',
        ),
    )


def test_what_cannot_be_done_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    two_clips(tmp_path)
    for arguments, told in wrong(tmp_path):
        result = ltx(*arguments)
        assert (result.exit_code, result.stderr) == (2, told)
    assert not (tmp_path / "references").exists()


def test_two_clips_whose_references_would_have_one_name_are_told(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", sound=False)
    encode(tmp_path / "a.webm", gradient_clip(3), pictures="libvpx")
    result = ltx(tmp_path, "-o", tmp_path / "edges.jsonl")
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"{tmp_path}/a.webm: its reference would have the same name as that of {tmp_path}/a.mp4\n    Rename one of the clips.\n"
    )


def test_a_clip_that_two_rows_have_is_filtered_once(tmp_path: Path) -> None:
    data = two_clips(tmp_path)
    dataset_file(data, [*rows(data), *rows(data)])
    assert ltx(data, "-o", tmp_path / "edges.jsonl").stdout == f"2 made, 0 reused in {tmp_path}/edges.jsonl\n"
    assert len(rows(tmp_path / "edges.jsonl")) == 4


def test_frames_reach_a_filter_one_at_a_time(tmp_path: Path) -> None:
    """A generator that takes one frame and gives one is asked so: no list of them is made anywhere."""
    write_clip(tmp_path / "clips/a.mp4", Clip(torch.zeros(40, 32, 32, 3, dtype=torch.uint8), 24.0))
    log = tmp_path / "log"
    text = f"""
from pathlib import Path

from ltxcore.api import hookimpl


def watched(frames):
    with Path({str(log)!r}).open("w") as log:
        for index, frame in enumerate(frames):
            print(f"took {{index}}", file=log)
            yield frame
            print(f"gave {{index}}", file=log)


@hookimpl
def ltx_reference_filters():
    return {{"negative": watched}}
"""
    local = plugin(tmp_path, text)
    assert ltx(tmp_path / "clips", "-o", tmp_path / "set.jsonl", "--filter", "negative", "--plugin", local).exit_code == 0
    assert log.read_text().splitlines() == [f"{what} {index}" for index in range(40) for what in ("took", "gave")]

"""`ltx reference` and `ltx mask` with filters that have keys: real clips in, real references and masks out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from helpers.raw_media import clip_file, dataset_file, encode
from helpers.vision_models import depth_model, segmentation_model
from ltxcore.cli.main import main
from ltxcore.dataset.sources import read_table
from ltxcore.media.probe import read_clip
from ltxplugins.filters.masks import Motion
from ltxplugins.filters.models import Label


def ltx(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--no-progress"])


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def two_clips(folder: Path, count: int = 2) -> Path:
    listed = []
    for index in range(count):
        clip_file(folder / f"clips/{index}.mp4", seed=index, sound=False)
        listed.append({"video": f"clips/{index}.mp4", "caption": f"clip number {index}"})
    return dataset_file(folder / "set.jsonl", listed)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    depth_model(folder / "depth")
    segmentation_model(folder / "segmentation")
    return folder


# ---------------------------------------------------------------- what comes out


def test_a_box_becomes_the_latent_cells_that_are_generated(tmp_path: Path) -> None:
    data, output = two_clips(tmp_path), tmp_path / "boxes.jsonl"
    result = ltx("mask", data, "-o", output, "--filter", "box,top=0.5,left=0,right=0.5,bottom=1")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"2 made, 0 reused in {output}\n", "")
    folder = "masks/box-bottom-1.0-left-0.0-right-0.5-top-0.5"
    assert rows(output) == [{**row, "video_mask": f"{folder}/clips/{index}.mp4"} for index, row in enumerate(rows(data))]
    encode(output, tmp_path / "encoded", resolution_buckets="64x64x17", folders=("video_masks",))
    mask = load_file(tmp_path / "encoded/video_masks/clips/0.safetensors")["mask"]
    wanted = torch.ones(mask.shape)
    wanted[:, mask.shape[1] // 2 :, : mask.shape[2] // 2] = 0
    assert mask.equal(wanted)


def test_a_mask_is_stored_without_loss(tmp_path: Path) -> None:
    data = two_clips(tmp_path, count=1)
    assert ltx("mask", data, "-o", tmp_path / "moving.jsonl", "--filter", "motion,threshold=0.05,grow=1").exit_code == 0
    frames = read_clip(tmp_path / "clips/0.mp4").frames
    wanted = torch.stack(list(Motion(threshold=0.05, grow=1)(iter(frames))))
    assert 0 < (wanted == 0).float().mean() < 0.5
    assert read_clip(tmp_path / "masks/motion-grow-1-threshold-0.05/clips/0.mp4").frames.equal(wanted)


def test_a_mask_of_a_label_is_what_the_model_finds(tmp_path: Path, models: Path) -> None:
    data = two_clips(tmp_path, count=1)
    filter_ = f"label,path={models}/segmentation,label=person,region=given"
    result = ltx("mask", data, "-o", tmp_path / "people.jsonl", "--filter", filter_)
    assert (result.exit_code, result.stderr) == (0, "")
    (row,) = rows(tmp_path / "people.jsonl")
    made = Label(path=models / "segmentation", label="person", region="given")(iter(read_clip(tmp_path / row["video"]).frames))
    assert read_clip(tmp_path / row["video_mask"]).frames.equal(torch.stack(list(made)))


def test_the_reference_of_a_clip_is_smaller_where_the_filter_makes_it_so(tmp_path: Path) -> None:
    data = two_clips(tmp_path, count=1)
    assert ltx("reference", data, "-o", tmp_path / "small.jsonl", "--filter", "downscale,factor=2").exit_code == 0
    (row,) = rows(tmp_path / "small.jsonl")
    assert row["reference_video"] == "references/downscale-factor-2.0/clips/0.mp4"
    frames = read_clip(tmp_path / "clips/0.mp4").frames
    wanted = frames.float().reshape(17, 32, 2, 32, 2, 3).mean(dim=(2, 4))
    written = read_clip(tmp_path / row["reference_video"]).frames
    assert written.shape == (17, 32, 32, 3)
    assert (written.float() - wanted).abs().mean() < 3  # H.264 is not exact


def test_references_and_masks_in_a_folder_are_no_clips_of_it(tmp_path: Path) -> None:
    two_clips(tmp_path)
    clips = tmp_path / "clips"
    assert ltx("reference", clips, "-o", clips / "soft.jsonl", "--filter", "blur").exit_code == 0
    for _ in range(2):
        assert ltx("mask", clips, "-o", clips / "boxes.jsonl", "--filter", "box").exit_code == 0
        assert rows(clips / "boxes.jsonl") == [{"video": f"{index}.mp4", "video_mask": f"masks/box/{index}.mp4"} for index in range(2)]
    assert [row.file for row in read_table(clips).rows] == ["0.mp4", "1.mp4"]


# ---------------------------------------------------------------- what a second run does


def test_other_keys_have_a_folder_of_their_own_and_the_same_keys_are_reused(tmp_path: Path) -> None:
    data = two_clips(tmp_path, count=1)

    def made(output: str, filter_: str) -> str:
        return ltx("reference", data, "-o", tmp_path / output, "--filter", filter_).stdout.partition(" in")[0]

    assert made("a.jsonl", "blur,sigma=2") == "1 made, 0 reused"
    assert made("b.jsonl", "blur,sigma=3") == "1 made, 0 reused"
    assert made("a.jsonl", "blur,sigma=2.0") == "0 made, 1 reused"
    assert sorted(path.name for path in (tmp_path / "references").iterdir()) == ["blur-sigma-2.0", "blur-sigma-3.0"]
    assert made("c.jsonl", "blur") == "1 made, 0 reused"
    assert made("c.jsonl", "blur,sigma=8") == "0 made, 1 reused"  # as by default


def test_an_output_of_other_keys_is_not_written_over(tmp_path: Path) -> None:
    data, output = two_clips(tmp_path, 1), tmp_path / "small.jsonl"
    assert ltx("reference", data, "-o", output, "--filter", "downscale,factor=2").exit_code == 0
    result = ltx("reference", data, "-o", output, "--filter", "downscale,factor=3")
    said = 'already exists, and was not written by this command with the filter "downscale" and these keys'
    assert (result.exit_code, result.stderr) == (2, f"{output}: {said}\n    Name another file.\n")


def test_a_half_done_folder_is_finished(tmp_path: Path) -> None:
    data, output = two_clips(tmp_path), tmp_path / "boxes.jsonl"
    assert ltx("mask", data, "-o", output, "--filter", "box").exit_code == 0
    before = (tmp_path / "masks/box/clips/1.mp4").read_bytes()
    (tmp_path / "masks/box/clips/1.mp4").write_bytes(before[:100])
    output.unlink()
    assert ltx("mask", data, "-o", output, "--filter", "box").stdout == f"1 made, 1 reused in {output}\n"
    assert (tmp_path / "masks/box/clips/1.mp4").read_bytes() == before
    assert len(rows(output)) == 2


def test_another_model_in_the_same_folder_makes_all_again(tmp_path: Path) -> None:
    data, model = two_clips(tmp_path, count=1), depth_model(tmp_path / "model")
    options = ("-o", tmp_path / "depth.jsonl", "--filter", f"depth,path={model},metric=true")
    assert ltx("reference", data, *options).stdout == f"1 made, 0 reused in {tmp_path}/depth.jsonl\n"
    assert ltx("reference", data, *options).stdout == f"0 made, 1 reused in {tmp_path}/depth.jsonl\n"
    weights = load_file(model / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, model / "model.safetensors", metadata={"format": "pt"})
    assert ltx("reference", data, *options).stdout == f"1 made, 0 reused in {tmp_path}/depth.jsonl\n"


# ---------------------------------------------------------------- what goes wrong


def test_what_a_filter_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    data = two_clips(tmp_path, count=1)
    for command, filter_, told in (
        ("reference", "box", '--filter: the filter "box" makes a mask, not a reference\n    Use `ltx mask`.\n'),
        ("mask", "blur", '--filter: the filter "blur" makes a reference, not a mask\n    Use `ltx reference`.\n'),
        ("reference", "blur,sigma=0", "--filter blur,sigma=0: sigma: must be above 0, not 0\n"),
        ("reference", "blur,radius=4", "--filter blur,radius=4: radius: there is no such key\n    Known: sigma.\n"),
        ("reference", "canny,high=50", "--filter canny,high=50: high: is 50; it must be at least low, which is 100\n    Raise high, or lower low.\n"),
        (
            "mask",
            "box,top=0.8",
            "--filter box,top=0.8: bottom: is 0.75; it must be above top, which is 0.8\n    Write a larger bottom, or a smaller top.\n",
        ),
        (
            "mask",
            "color,color=grene",
            '--filter color,color=grene: color: "grene" is not a color\n'
            '    Write it as "#RRGGBB", such as "#00FF00", or by its name in HTML.\n',
        ),
        (
            "mask",
            "motion,region=moving",
            '--filter motion,region=moving: region: must be "generated" or "given", not the text "moving"\n',
        ),
    ):  # fmt: skip
        result = ltx(command, data, "-o", tmp_path / "out.jsonl", "--filter", filter_)
        assert (result.exit_code, result.stderr) == (2, told)
    assert not (tmp_path / "out.jsonl").exists()
    assert not any((tmp_path / name).exists() for name in ("references", "masks"))


def test_a_filter_that_is_a_function_has_no_keys(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from ltxcore.api import hookimpl\n\n\ndef same(frames):\n    yield from frames\n\n\n"
        '@hookimpl\ndef ltx_reference_filters():\n    return {"same": same}\n'
    )
    result = ltx("reference", two_clips(tmp_path), "-o", tmp_path / "out.jsonl", "--filter", "same,much=1", "--plugin", plugin)
    assert (result.exit_code, result.stderr) == (2, '--filter same,much=1: the reference filter "same" has no keys\n    Leave them out.\n')


def test_a_filter_that_cannot_work_stops_at_the_first_clip(tmp_path: Path) -> None:
    data, model = two_clips(tmp_path), depth_model(tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"damaged")
    result = ltx("reference", data, "-o", tmp_path / "depth.jsonl", "--filter", f"depth,path={model}", "--workers", "1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{model}: the model cannot be loaded: ")
    assert result.stderr.count("cannot be loaded") == 1


def test_a_clip_that_a_filter_refuses_loses_only_itself(tmp_path: Path) -> None:
    data = two_clips(tmp_path)
    clip_file(tmp_path / "clips/still.png", frames=1, sound=False)
    dataset_file(data, [*rows(data), {"video": "clips/still.png", "caption": "still"}])
    result = ltx("mask", data, "-o", tmp_path / "moving.jsonl", "--filter", "motion")
    assert result.exit_code == 2
    assert result.stdout == f"2 made, 0 reused, 1 failed in {tmp_path}/moving.jsonl\n"
    assert result.stderr == (
        f"{data}:3: {tmp_path}/clips/still.png: has only one frame, in which nothing can move\n    Leave it out, or make its mask in another way.\n"
    )


def test_a_mask_needs_the_name_of_its_filter(tmp_path: Path) -> None:
    result = ltx("mask", two_clips(tmp_path, 0), "-o", tmp_path / "out.jsonl")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, "Error: Missing option '--filter'.")


@pytest.mark.parametrize(
    ("column", "what"),
    [
        ("", "is empty"),
        ("caption", "holds the clips, their audio or their captions"),
        ("video", "holds the clips, their audio or their captions"),
    ],
)
def test_masks_do_not_take_the_place_of_clips_or_captions(column: str, what: str, tmp_path: Path) -> None:
    result = ltx("mask", two_clips(tmp_path), "-o", tmp_path / "out.jsonl", "--filter", "box", "--column", column)
    assert (result.exit_code, result.stderr) == (2, f'--column "{column}": {what}\n    Name another column.\n')
    assert not (tmp_path / "out.jsonl").exists()

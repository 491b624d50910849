"""What `ltx sample` is told to draw: prompts, files of prompts, conditions and options beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.run_files import MINIMAL
from ltxcore.config.prompts import load_samples
from ltxcore.errors import ConfigError

ENDS = """
import attrs
from ltxcore.api import Inputs, LatentState, hookimpl

@attrs.frozen
class Ends:
    modalities = frozenset({"video"})
    content = "whole"

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(state.grid.frame == 0)

@hookimpl
def ltx_conditions():
    return {"ends": Ends}
"""


ENDLESS = ("don't, or do.png", "it's, type=x.png")
"""Values with a quote that does not end."""


@pytest.fixture
def files(folder: Path) -> Path:
    """A folder of media that is not the working directory, in which there are others."""
    for name in ("a.png", "clip.mp4", "sound.wav"):
        (folder / name).touch()
    Path("here.mp4").touch()
    return folder


def refused(files: Path, what: str, **rest: object) -> str:
    with pytest.raises(ConfigError) as error:
        load_samples(what, **rest)
    return str(error.value).replace(f"{files}/", "")


def test_a_prompt_is_a_sample(files: Path) -> None:
    found = load_samples("a red disc")
    assert [sample.prompt for sample in found.table.samples] == ["a red disc"]
    assert (found.said, found.model) == ({"samples"}, None)


def test_a_toml_file_holds_the_table_of_a_run_file(files: Path) -> None:
    path = files / "prompts.toml"
    path.write_text(
        "[validation]\nseed = 0\n[[validation.samples]]\nprompt = 'one'\nconditions = [{ type = 'first_frame', video = 'clip.mp4' }]\n"
    )
    found = load_samples(str(path))
    assert found.table.seed == 0
    assert found.table.samples[0].conditions[0].medium == files / "clip.mp4"
    assert found.said == {"seed", "samples"}
    assert found.where("validation.samples.0.conditions.0.video").replace(f"{files}/", "") == (
        "prompts.toml:5: validation.samples[0].conditions[0].video"
    )


def test_the_table_may_be_the_whole_file(files: Path) -> None:
    path = files / "prompts.toml"
    path.write_text("seed = 5\n[[samples]]\nprompt = 'one'\n")
    assert load_samples(str(path)).table.seed == 5
    path.write_text("[[samples]]\nprompt = 'one'\nsede = 3\n")
    assert refused(files, str(path)) == 'prompts.toml:3: samples[0].sede: there is no such key\n    Did you mean "seed"?'


def test_a_run_file_says_which_model(files: Path) -> None:
    path = files / "run.toml"
    path.write_text(MINIMAL + "[validation]\nprompts = ['one']\n")
    found = load_samples(str(path))
    assert found.model is not None
    assert found.model.model_path == "tiny"
    assert [sample.prompt for sample in found.table.samples] == ["one"]


def test_a_line_of_jsonl_is_a_sample(files: Path) -> None:
    path = files / "prompts.jsonl"
    path.write_text(
        '{"prompt": "one", "seed": 0, "video_dims": [64, 64, 9]}\n\n'
        '{"prompt": "two", "conditions": [{"type": "audio_to_video", "audio": "sound.wav"}]}\n'
    )
    first, second = load_samples(str(path)).table.samples
    assert (first.prompt, first.seed, first.video_dims) == ("one", 0, (64, 64, 9))
    assert second.frozen[0].medium == files / "sound.wav"


def test_lines_that_are_wrong_are_named_all_at_once(files: Path) -> None:
    path = files / "prompts.jsonl"
    path.write_text('{"prompt": "one"\n{"prompt": "two"}\nthree\n')
    assert refused(files, str(path)) == (
        "prompts.jsonl:1: is not JSON: Expecting ',' delimiter, at column 17\nprompts.jsonl:3: is not JSON: Expecting value, at column 1"
    )
    path.write_text('{"promt": "one"}\n\n"two"\n{"prompt": "x", "conditions": [{"type": "first_frame", "video": "gone.mp4"}]}\n')
    assert refused(files, str(path)) == (
        'prompts.jsonl:1: promt: there is no such key\n    Did you mean "prompt"?\n'
        "prompts.jsonl:1: prompt: is missing\n    Add prompt: text, what to generate.\n"
        'prompts.jsonl:3: must be a table, not the text "two"\n'
        "prompts.jsonl:4: conditions[0].video: there is no file gone.mp4\n    Paths are relative to that file."
    )


def test_conditions_of_the_command_line_are_added_to_every_sample_after_its_own(files: Path) -> None:
    path = files / "prompts.jsonl"
    path.write_text('{"prompt": "one", "conditions": [{"type": "first_frame", "video": "clip.mp4"}]}\n{"prompt": "two"}\n')
    asked = ["type=prefix,video=here.mp4,num_frames=9", "type=audio_to_video,audio=here.mp4"]
    found = load_samples(str(path), conditions=asked)
    first, second = found.table.samples
    assert [(each.type, each.index) for each in first.conditions] == [("first_frame", 0), ("prefix", 1)]
    assert [(each.type, each.index, each.num_frames, each.medium) for each in second.conditions] == [
        ("prefix", 0, 9, Path.cwd() / "here.mp4")
    ]
    assert [each.index for each in (*first.frozen, *second.frozen)] == [2, 1]
    assert found.where("validation.samples.0.conditions.0").endswith("prompts.jsonl:1: conditions[0]")
    assert found.where("validation.samples.0.conditions.1.num_frames") == f"--condition {asked[0]}: num_frames"
    assert found.where("validation.samples.1.conditions.1") == f"--condition {asked[1]}"


def test_values_of_conditions_are_toml_or_text_and_commas_in_brackets_do_not_count(files: Path) -> None:
    found = load_samples(
        "x", conditions=["type=spatial_crop,video=here.mp4,spatial_region=[0, 0, 32, 64]", "type=reference,video='here.mp4'"]
    )
    crop, reference = found.table.samples[0].conditions
    assert crop.of_length().condition.spatial_region == (0, 0, 32, 64)
    assert reference.media == {"reference": Path.cwd() / "here.mp4"}


@pytest.mark.parametrize(
    "name",
    [
        "'one, two.png'",
        '"one, two.png"',
        "one[1,2].png",
        "one[a,b].png",
        "one {a, 'b'}, [1, [2, 3]].png",
        *ENDLESS,
    ],
)
def test_commas_inside_quotes_or_brackets_of_a_value_are_part_of_it(files: Path, name: str) -> None:
    bare = name.strip("'\"") if name[0] in "'\"" else name
    Path(bare).touch()
    pair, kind = f"image_or_video={name}", "type=first_frame"
    found = load_samples("x", conditions=[f"{kind},{pair}" if name in ENDLESS else f"{pair},{kind}"])
    assert found.table.samples[0].conditions[0].medium == Path.cwd() / bare


def test_conditions_that_are_wrong_are_named_as_they_were_written(files: Path) -> None:
    assert refused(files, "x", conditions=["type=prefx,video=here.mp4", "first_frame", "type=first_frame,video=gone.mp4"]) == (
        '--condition first_frame: "first_frame" is not key=value\n    Write --condition type=first_frame,image_or_video=a.png.'
    )
    assert refused(files, "x", conditions=["type=prefx,video=here.mp4", "type=first_frame,video=gone.mp4"]) == (
        '--condition type=prefx,video=here.mp4: type: there is no condition "prefx"\n    Did you mean "prefix"?\n'
        f"--condition type=first_frame,video=gone.mp4: video: there is no file {Path.cwd()}/gone.mp4\n    Paths are relative to the working directory."
    )
    assert refused(files, "x", conditions=["type=spatial_crop,spatial_region=[1"]) == (
        "--condition type=spatial_crop,spatial_region=[1: the value is broken TOML: Unclosed array (at end of document)\n"
        "    Write --condition type=first_frame,image_or_video=a.png."
    )


def test_options_go_before_what_the_file_says_for_all_samples(files: Path) -> None:
    path = files / "prompts.toml"
    path.write_text("[validation]\nseed = 1\nframe_rate = 8\n[[validation.samples]]\nprompt = 'one'\nseed = 2\n")
    found = load_samples(str(path), options={"seed": 3, "video_dims": [64, 64, 9]})
    assert (found.table.seed, found.table.samples[0].seed, found.table.frame_rate, found.table.video_dims) == (3, 2, 8.0, (64, 64, 9))
    assert found.where("validation.video_dims") == "--video-dims"
    assert refused(files, str(path), options={"seed": -1, "video_cfg_scale": 0.5}) == (
        "--seed: must be at least 0, not -1\n--video-cfg-scale: must be at least 1, not 0.5"
    )


def test_files_that_say_of_no_sample_are_refused(files: Path) -> None:
    remedy = '    Write [[validation.samples]], each with a prompt = "...".'
    (files / "run.toml").write_text(MINIMAL + "[validation]\nseed = 1\n")
    assert refused(files, str(files / "run.toml")) == f"run.toml:10: validation: has no samples to generate\n{remedy}"
    (files / "run.toml").write_text(MINIMAL)
    assert refused(files, str(files / "run.toml")) == (
        "run.toml: this run file has no table [validation]\n"
        '    Give a prompt in place of the file, or write [[validation.samples]] in it, each with a prompt = "...".'
    )
    (files / "odd.toml").write_text("validation = 3\n")
    assert refused(files, str(files / "odd.toml")) == "odd.toml:1: validation: must be a table, not 3"
    (files / "empty.jsonl").write_text("\n")
    assert refused(files, str(files / "empty.jsonl")) == f"empty.jsonl: has no samples to generate\n{remedy}"


def test_files_that_cannot_be_read_are_refused(files: Path) -> None:
    assert refused(files, "gone.jsonl") == "gone.jsonl: there is no such file\n    Name a TOML or JSONL file of prompts, or write a prompt."
    (files / "a.toml").write_text("[validation\n")
    assert refused(files, str(files / "a.toml")).startswith("a.toml:1: is not TOML: ")


def test_conditions_of_a_file_beside_it_can_be_used(files: Path) -> None:
    (files / "ends.py").write_text(ENDS)
    found = load_samples("x", conditions=["type=ends,video=here.mp4"], plugins=[files / "ends.py"])
    assert found.table.samples[0].conditions[0].type == "ends"
    (files / "run.toml").write_text(
        "plugins = ['ends.py']\n[[validation.samples]]\nprompt = 'x'\nconditions = [{ type = 'ends', video = 'clip.mp4' }]\n"
    )
    assert load_samples(str(files / "run.toml")).table.samples[0].conditions[0].type == "ends"
    (files / "broken.py").write_text("1 / 0\n")
    assert refused(files, "x", plugins=[files / "gone.py"]) == "plugins: there is no file gone.py"
    assert refused(files, "x", plugins=[files / "broken.py"]).startswith("plugins: the plugin broken.py is broken: ZeroDivisionError")

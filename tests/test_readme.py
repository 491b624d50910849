"""The README keeps what it promises: two commands, tables and code that are what they are of, a picture that shows something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli
import yaml
from PIL import Image, ImageChops, ImageSequence, ImageStat

import memory
import moving_picture
import readme
from ltxcore import __version__

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DEVELOP = ROOT / "docs" / "develop.md"


@pytest.fixture(scope="module")
def text() -> str:
    return README.read_text(encoding="utf-8")


def test_the_readme_has_two_commands_of_one_line_of_which_the_first_installs_no_tools_of_tests(text: str) -> None:
    commands = re.findall(r"^```bash\n(.*?)```$", text, re.MULTILINE | re.DOTALL)
    assert commands == [
        "python -m pip install -e . && ltx run examples/audio_inpainting.toml\n",
        'python -m pip install -e ".[dev]" && pytest\n',
    ]


def test_its_condition_and_its_table_of_modes_are_what_they_are_of(text: str) -> None:
    assert text == readme.whole(text), "run: python docs/made/readme.py"
    assert len(list(readme.learned())) == 16


def test_its_condition_is_no_more_than_it_says() -> None:
    lines = [line for line in readme.condition().splitlines() if line.strip()]
    assert len(lines) < 20
    assert '"first_frame"' in lines[-1]


def test_its_figure_of_full_fine_tuning_is_that_of_the_page_of_memory(text: str) -> None:
    of_22b = memory.PAGE.read_text(encoding="utf-8").partition("## ltx-2.3-22b")[2]
    row = next(line for line in of_22b.splitlines() if line.startswith("| full, stage 3 |"))
    on_eight = row.split("|")[2 + memory.GPUS.index(8)].strip()
    assert f"Full fine-tuning takes {on_eight} GiB on each of 8 GPUs" in " ".join(text.split())


def test_its_picture_is_small_and_shows_that_training_brings_what_is_drawn_nearer_to_the_clip(text: str) -> None:
    path = moving_picture.PICTURE
    assert f"({path.relative_to(ROOT).as_posix()})" in text
    assert path.stat().st_size < 1_000_000
    step, side = moving_picture.SIDE + moving_picture.GAP, moving_picture.SIDE
    with Image.open(path) as picture:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
    assert len(frames) == 17
    for line in range(len(moving_picture.CLIPS)):
        left, top = moving_picture.GAP, moving_picture.HEAD + line * step
        boxes = [(left + column * step, top, left + column * step + side, top + side) for column in range(4)]
        cut = [[frame.crop(box) for box in boxes] for frame in frames]
        before = sum(difference(drawn, clip) for _, drawn, _, clip in cut)
        after = sum(difference(drawn, clip) for _, _, drawn, clip in cut)
        assert after < 0.75 * before


def difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).rms)


def test_the_version_stands_in_one_place() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "ltxcore/__init__.py"
    assert f'__version__ = "{__version__}"' in (ROOT / "ltxcore" / "__init__.py").read_text(encoding="utf-8")


def test_deepspeed_is_asked_for_on_linux_alone() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (deepspeed,) = (each for each in project["dependencies"] if each.startswith("deepspeed"))
    assert deepspeed.endswith("; sys_platform == 'linux'")


def test_ci_elsewhere_does_what_is_done_here(text: str) -> None:
    """The workflow that others can run calls .ci/run, and the README's first command on other systems."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert ".ci/run" in [step.get("run") for step in jobs["all"]["steps"]]
    assert f"```bash\n{jobs['elsewhere']['steps'][-1]['run']}\n```" in text


def test_the_tree_of_the_page_for_developers_names_folders_that_are_there() -> None:
    tree = re.search(r"^```\n(ltxcore/ .*?)^```$", DEVELOP.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert tree is not None
    folder, named = ROOT, set()
    for line in tree[1].splitlines():
        is_inner = line.startswith("  ")
        for name in line[: 22 if is_inner else 20].split():
            path = (folder if is_inner else ROOT) / name
            assert path.exists(), path
            named.add(path)
        folder = folder if is_inner else path
    assert {path.parent for path in (ROOT / "ltxcore").glob("*/__init__.py")} <= named


@pytest.mark.parametrize("name", ["torch", "diffusers", "deepspeed"])
def test_the_page_for_developers_has_the_ranges_of_pinned_packages(name: str) -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (pinned,) = (each.partition(";")[0] for each in project["dependencies"] if each.startswith(f"{name}>="))
    assert f"| {name} | `{pinned.removeprefix(name)}`" in DEVELOP.read_text(encoding="utf-8")

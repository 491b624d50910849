"""Films cut into scenes: where the cuts are, rates and sound, what a second run does, one bad film."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from helpers.media_made import pitch
from helpers.raw_media import pictures, tone
from ltxcore.cli.main import main
from ltxcore.media.probe import probe, read_clip, read_sound, write_clip
from ltxcore.protocols import Clip, Sound
from ltxplugins.tools.split.split import scenes

RATE = Fraction(30000, 1001)
SCENES = (40, 12, 33)


def ltx(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["split", *map(str, arguments), "--no-progress"])


def film(path: Path, sound: bool = True) -> Path:
    """Three scenes of different colours, the middle one short, each with a pitch of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = (0.3, 1.0, 0.6)
    parts = [(pictures(frames=n, seed=3 * i).frames * levels[i]).to(torch.uint8).roll(i, -1) for i, n in enumerate(SCENES)]
    heard = [tone(n / float(RATE), hertz=300.0 * (i + 1)).samples for i, n in enumerate(SCENES)]
    write_clip(path, Clip(torch.cat(parts), float(RATE)), Sound(torch.cat(heard, dim=1), 16_000) if sound else None)
    return path


def test_scenes_are_found_at_the_frames_where_the_picture_changes(tmp_path: Path) -> None:
    assert scenes(film(tmp_path / "a.mp4"), 27.0) == (RATE, [(0, 40), (40, 52), (52, 85)])


def test_scenes_keep_frames_rate_and_sound_and_short_ones_are_left_out(tmp_path: Path) -> None:
    path, output = film(tmp_path / "film.mp4"), tmp_path / "out"
    result = ltx(path, "-o", output)
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        f"2 made, 0 reused in {output}\n1 scene shorter than 1 s was left out\n",
        "",
    )
    assert (output / "dataset.jsonl").read_text() == '{"video": "film/0000.mp4"}\n{"video": "film/0001.mp4"}\n'
    whole = read_clip(path).frames.float()
    for name, start, end, hertz in (("0000", 0, 40, 300), ("0001", 52, 85, 900)):
        scene = output / f"film/{name}.mp4"
        assert (probe(scene).frames, probe(scene).rate) == (end - start, RATE)
        assert (read_clip(scene).frames.float() - whole[start:end]).abs().mean() < 3
        assert read_sound(scene).duration == pytest.approx((end - start) / float(RATE), abs=0.07)
        assert pitch(read_sound(scene)) == pytest.approx(hertz, abs=3)


def test_a_film_is_cut_once_and_again_where_it_or_the_cutting_changed(tmp_path: Path) -> None:
    film(tmp_path / "films/a.mp4", sound=False)
    output = tmp_path / "out"
    assert ltx(tmp_path / "films", "-o", output).stdout == f"2 made, 0 reused in {output}\n1 scene shorter than 1 s was left out\n"
    assert probe(output / "a/0000.mp4").sound_rate is None
    assert ltx(tmp_path / "films", "-o", output).stdout == f"0 made, 2 reused in {output}\n"
    assert ltx(tmp_path / "films", "-o", output, "--min-seconds", "0").stdout == f"3 made, 0 reused in {output}\n"
    assert (
        ltx(tmp_path / "films", "-o", output, "--min-seconds", "1.2").stdout
        == f"1 made, 0 reused in {output}\n2 scenes shorter than 1.2 s were left out\n"
    )
    assert sorted(path.name for path in (output / "a").glob("*.mp4")) == ["0000.mp4"]


def test_files_of_others_are_neither_written_over_nor_removed(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", sound=False)
    others = {tmp_path / "a/0000.mp4": "its folder", tmp_path / "dataset.jsonl": '{"video": "a.mp4", "caption": "mine"}\n'}
    for other, content in others.items():
        other.parent.mkdir(exist_ok=True)
        other.write_text(content)
        result = ltx(path, "-o", tmp_path)
        assert (result.exit_code, result.stdout) == (2, "")
        assert other.read_text() == content
        other.unlink()
    assert result.stderr.startswith(f"{tmp_path}/dataset.jsonl: already exists, and was not written by this command\n")
    assert ltx(path, "-o", tmp_path).exit_code == 0
    (tmp_path / "a/2023 trip.mp4").write_text("mine")
    assert ltx(path, "-o", tmp_path, "--min-seconds", "1.2").exit_code == 0
    assert sorted(each.name for each in (tmp_path / "a").iterdir()) == ["0000.mp4", "2023 trip.mp4", "scenes.json"]


def test_a_film_whose_cutting_was_stopped_is_cut_again(tmp_path: Path) -> None:
    path, output = film(tmp_path / "a.mp4", sound=False), tmp_path / "out"
    assert ltx(path, "-o", output).exit_code == 0
    (output / "made.jsonl").unlink()  # as after a stop before the first film was finished
    (output / "dataset.jsonl").unlink()
    (output / "a/scenes.json").write_text("[]")
    assert ltx(path, "-o", output).stdout.startswith(f"2 made, 0 reused in {output}\n")
    assert (output / "dataset.jsonl").read_text() == '{"video": "a/0000.mp4"}\n{"video": "a/0001.mp4"}\n'


def test_a_bad_film_loses_only_itself(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", sound=False)
    (tmp_path / "b.mp4").write_text("no film")
    result = ltx(tmp_path / "a.mp4", tmp_path / "b.mp4", "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (
        2,
        f"2 made, 0 reused, 1 failed in {tmp_path}/out\n1 scene shorter than 1 s was left out\n",
    )
    assert result.stderr == (
        f"{tmp_path}/b.mp4: this is not a clip, a sound or an image that can be read\n"
        "    Play the file to see whether it is intact, and convert it to MP4, WAV or PNG.\n"
    )
    alone = [ltx(tmp_path / "b.mp4", "-o", tmp_path / "alone") for _ in range(2)]
    assert [each.stdout for each in alone] == [f"0 made, 0 reused, 1 failed in {tmp_path}/alone\n"] * 2


def test_two_films_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = film(tmp_path / "1/a.mp4", sound=False), film(tmp_path / "2/a.mp4", sound=False)
    result = ltx(one, other, "-o", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (
        2,
        f"{other}: the scenes of this film and of {one} would be written to the same folder\n    Rename one of the films.\n",
    )


def test_without_pyscenedetect_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    told = 'finding scenes needs PySceneDetect, which is not installed\n    Run `pip install "ltx[tools]"`.\n'
    assert ltx(tmp_path, "-o", tmp_path / "out").stderr == told

"""Every mode learns, from the shipped base by its own run file; and what the documentation says of it is what was measured."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import attrs
import measure_modes
import pytest
from click.testing import CliRunner
from measure_modes import MODES, PAGE, Mean, Row, doubts, page_of, read_table, rows, table

from helpers.sampling import asked, sampled
from ltxcore.cli.main import main
from ltxcore.config.prompts import load_samples

ROOT = Path(__file__).parents[2]
COMMANDS = ("ltx run ", "ltx sample ", "ltx export ")


def row(ratio: float = 0.5, base: float = 1.0, own: float = 0.4, clips: int = 96, mode: str = "v2a") -> Row:
    return Row(mode, "audio", "frozen", clips, Mean(base, 0.05), Mean(own, 0.02), Mean(own / ratio, 0.02), Mean(ratio, 0.03))


# ---------------------------------------------------------------- what a row has to show


def test_a_row_of_a_mode_that_learned_and_listens_leaves_no_doubt() -> None:
    assert doubts(row()) == []


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (row(own=0.94), ["v2a, audio: loss 0.940 ± 0.020 is not below that of the base model, 1.000 ± 0.050"]),
        (row(ratio=0.86), ["v2a, audio: ratio 0.860 ± 0.030 is above 0.85"]),
        (row(clips=31), ["v2a, audio: 31 clips are too few to tell"]),
        (
            row(ratio=0.98),
            [
                "v2a, audio: loss 0.400 ± 0.020 is not below that with the frozen modality of another clip, 0.408 ± 0.020: ratio 0.980 ± 0.030",
                "v2a, audio: ratio 0.980 ± 0.030 is above 0.85",
            ],
        ),
    ],
)
def test_what_a_row_does_not_show_is_said(of: Row, said: list[str]) -> None:
    assert doubts(of) == said


def test_rows_are_those_of_the_metrics_of_a_run() -> None:
    """Of a condition that only some clips have, the clips that have it are counted."""
    key, applied = "held_out/own_context/{}/sigma_0.90", "/video.cond0.first_frame/applied"
    before = {f"{key.format(name)}{end}": value for name, value in (("video", 1.0), ("audio", 2.0)) for end in ("", applied)}
    before |= {key.format("video"): 9.0, key.format("audio"): 9.0}
    after = {name: value / 2 for name, value in before.items()}
    for name, value in (("video", 0.8), ("audio", 1.6)):
        after |= {f"held_out/other_given/{name}/sigma_0.90": value, f"held_out_ratio/other_given/{name}/sigma_0.90": 0.625}
    with_intervals = [metrics | {f"half_width_95/{name}": 0.1 for name in metrics} for metrics in (before, after)]
    with_intervals[1]["held_out/other_given/clips"] = 48.0
    found = rows("i2v", *with_intervals)
    near = lambda value: Mean(value, 0.1)  # noqa: E731
    assert found == [
        Row("i2v", "video", "given", 48, near(1.0), near(0.5), near(0.8), near(0.625)),
        Row("i2v", "audio", "given", 48, near(2.0), near(1.0), near(1.6), near(0.625)),
    ]


def test_a_table_is_read_as_it_was_written() -> None:
    found = [row(mode="v2a"), row(mode="t2a", ratio=0.75)]
    assert read_table(table(found, named=True)) == [attrs.evolve(each, other=Mean(round(each.other.value, 3), 0.02)) for each in found]


def test_new_rows_take_the_place_of_those_of_the_same_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGE", *MODES):
        (tmp_path / f"{name}.md").write_text(f"Before\n{measure_modes.BEGIN}\n{measure_modes.END}\nafter\n")
    monkeypatch.setattr(measure_modes, "PAGE", tmp_path / "PAGE.md")
    monkeypatch.setattr(measure_modes, "page_of", lambda mode: tmp_path / f"{mode}.md")
    for each in (row(mode="t2a", own=0.5), row(mode="v2a"), row(mode="t2a", own=0.25)):
        measure_modes.write_rows([each])
    text = (tmp_path / "PAGE.md").read_text()
    assert read_table(text) == [row(mode="v2a"), row(mode="t2a", own=0.25)]
    assert text.startswith("Before\n")
    assert text.endswith("\nafter\n")
    assert table([row(own=0.25)], named=False) in (tmp_path / "t2a.md").read_text()


# ---------------------------------------------------------------- what the pages say

CHECKED_IN = read_table(PAGE.read_text())


def test_the_page_has_a_row_for_every_modality_that_every_mode_generates_and_all_of_them_learn() -> None:
    assert [(each.mode, each.modality, each.part) for each in CHECKED_IN] == [
        (mode, modality, about.part) for mode, about in MODES.items() for modality in about.generated
    ]
    assert [doubt for each in CHECKED_IN for doubt in doubts(each)] == []


@pytest.mark.parametrize("mode", MODES)
def test_the_how_to_of_a_mode_has_its_rows_and_its_part_of_the_run_file(mode: str) -> None:
    text = page_of(mode).read_text()
    assert f"{table([each for each in CHECKED_IN if each.mode == mode], named=False)}\n{measure_modes.END}" in text
    shown, *_ = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert shown in (ROOT / "examples" / f"{mode}.toml").read_text()
    assert f"how-to/modes/{mode}.md)" in (ROOT / "examples" / "README.md").read_text()


def commands(mode: str) -> Iterator[list[str]]:
    """The commands of a how-to, as words."""
    (run_it, use_it) = re.findall(r"^```console\n(.*?)^```$", page_of(mode).read_text(), re.MULTILINE | re.DOTALL)
    for line in f"{run_it}{use_it}".replace("\\\n", " ").splitlines():
        assert line.startswith(tuple(f"$ {command}" for command in COMMANDS))
        yield shlex.split(line[2:])


@pytest.mark.parametrize("mode", MODES)
def test_the_how_to_of_a_mode_runs_its_run_file_and_draws_with_its_lora_and_with_media_that_are_there(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    run_it, sample, export = commands(mode)
    assert run_it == ["ltx", "run", f"examples/{mode}.toml"]
    lora = f"outputs/{mode}/lora.safetensors"
    assert sample[sample.index("--lora") + 1] == export[2] == lora
    asked = [value for flag, value in pairwise(sample) if flag == "--condition"]
    loaded = load_samples(sample[2], conditions=asked)
    (drawn,) = loaded.table.samples
    media = [each.medium for each in (*drawn.conditions, *drawn.frozen) if each.medium] + [
        path for each in drawn.conditions for path in (*each.media.values(), *each.masks.values())
    ]
    assert all(path.is_file() for path in media)
    assert len(drawn.conditions) + len(drawn.frozen) == len(asked)


# ---------------------------------------------------------------- what is measured

LOSS, SHARE = 0.06, 0.05
"""How far a loss and a ratio may be from what is checked in: another processor rounds otherwise, and training makes more of it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modes")


@pytest.fixture(scope="module")
def measured(request: pytest.FixtureRequest, folder: Path) -> dict[str, tuple[list[Row], float]]:
    """The modes that are asked for, measured as `measure_modes.py` does it, with the seconds of CPU that its run took."""
    return {found[0].mode: (found, seconds) for found, seconds in measure_modes.all_measured(asked(request, "learned"), folder)}


def shown(mode: str) -> set[str]:
    """The part of a context and the modality, of a mode that generates one: with two it takes twice as long."""
    about = MODES[mode]
    return {about.part, *about.generated} if len(about.generated) == 1 else set()


LEARNED = sampled(MODES, 4, shown)


@pytest.mark.slow
@pytest.mark.parametrize("learned", LEARNED)
def test_a_mode_learns_and_uses_its_condition(measured: dict[str, tuple[list[Row], float]], learned: str) -> None:
    found, seconds = measured[learned]
    assert [doubt for each in found for doubt in doubts(each)] == []
    assert seconds < 135, "a run takes at most 90 seconds where nothing else runs; half as much again for a busy machine"


@pytest.mark.slow
@pytest.mark.parametrize("learned", LEARNED)
def test_the_checked_in_row_is_what_was_measured(measured: dict[str, tuple[list[Row], float]], learned: str) -> None:
    said = [each for each in CHECKED_IN if each.mode == learned]
    for now, then in zip(measured[learned][0], said, strict=True):
        assert now.clips == then.clips
        assert now.base.value == pytest.approx(then.base.value, abs=0.002)
        assert now.own.value == pytest.approx(then.own.value, abs=LOSS), "run: python examples/measure_modes.py"
        assert now.ratio.value == pytest.approx(then.ratio.value, abs=SHARE), "run: python examples/measure_modes.py"


@pytest.mark.slow
@pytest.mark.parametrize("learned", LEARNED)
def test_the_commands_of_its_how_to_draw_and_export_with_the_lora_that_was_trained(
    measured: dict[str, tuple[list[Row], float]], folder: Path, learned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "outputs").symlink_to(folder)
    _, sample, export = commands(learned)
    for command in ([*sample, "--inference-steps", "4"], export):
        done = CliRunner().invoke(main, command[1:])
        assert done.exit_code == 0, done.output
        assert (tmp_path / command[command.index("-o") + 1]).stat().st_size > 1000

"""Whether an unfinished run is that of a run file: any engine and number of processes, as long as the global batch stays the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.marker_made import VIDEO, clip_loaded
from ltxcore.config.load import LoadedRun
from ltxcore.models.backbone import ModelInfo
from ltxcore.runs.resume import Begun, Difference, begun, difference


def run(seed: int = 1, accumulation: int = 2, engine: str = "auto", size: int | None = None) -> str:
    text = f'seed = {seed}\n[optimization]\nsteps = 4\ngradient_accumulation_steps = {accumulation}\n[engine]\nname = "{engine}"\n'
    return text if size is None else f"{text}sequence_parallel = {size}\n"


def test_the_same_run_goes_on_and_so_does_it_on_another_engine() -> None:
    assert difference(run(), run()) is None
    assert difference(run(engine="single"), run(engine="zero")) is None


def test_another_number_of_processes_goes_on_where_the_accumulation_makes_up_for_it() -> None:
    assert difference(run(accumulation=4), run(accumulation=1), (1, 4)) is None
    assert difference(run(accumulation=2), run(accumulation=4), (2, 1)) is None


def test_another_global_batch_is_refused_with_the_accumulation_that_would_keep_it() -> None:
    assert difference(run(accumulation=2), run(accumulation=2), (2, 1)) == Difference(
        "that takes 4 micro-batches per step (accumulation 2, processes 2), but here a step would take 2 (accumulation 2, processes 1)",
        "Set optimization.gradient_accumulation_steps to 4.",
    )
    assert difference(run(accumulation=1), run(accumulation=1), (4, 3)) == Difference(
        "that takes 4 micro-batches per step (accumulation 1, processes 4), but here a step would take 3 (accumulation 1, processes 3)",
        "Resume with a number of processes that divides 4.",
    )
    assert difference(run(accumulation=2), run(accumulation=3)) == Difference(
        "that takes 2 micro-batches per step (accumulation 2, processes 1), but here a step would take 3 (accumulation 3, processes 1)",
        "Set optimization.gradient_accumulation_steps to 2.",
    )


def test_processes_that_divide_micro_batches_count_as_one() -> None:
    assert difference(run(), run(size=2), (2, 4)) is None
    assert difference(run(size=2), run(size=4), (2, 4)) is None
    assert difference(run(accumulation=1), run(accumulation=2, size=2), (4, 4)) is None
    assert difference(run(accumulation=1), run(accumulation=1, size=2), (4, 4)) == Difference(
        "that takes 4 micro-batches per step (accumulation 1, processes 4), but here a step would take 2 (accumulation 1, 2 groups of 2 processes)",
        "Set optimization.gradient_accumulation_steps to 2.",
    )
    assert difference(run(accumulation=1), run(accumulation=1, size=2), (4, 6)) == Difference(
        "that takes 4 micro-batches per step (accumulation 1, processes 4), but here a step would take 3 (accumulation 1, 3 groups of 2 processes)",
        "Resume with a number of groups that divides 4.",
    )


def test_another_run_file_is_refused_with_the_lines_that_differ() -> None:
    assert difference(run(seed=1), run(seed=2)) == Difference(
        "with another run file:\n    -seed = 1\n    +seed = 2",
        "Undo the change to resume it, accept it with --allow-changes, set checkpoints.no_resume to start over in the same folder, or choose another output_dir.",
    )


# ---------------------------------------------------------------- a saved file that is older than some keys

TAKES = ModelInfo("ltx-2.5.safetensors", "2.5", "", 48, takes_marker=True)
OTHER = ModelInfo("ltx-2.3.safetensors", "2.3", "", 48)
NOTE = "continues without the first-frame marker, as it began; a new run would use the marker (training_strategy.video.mark_first_frame = false)"


def without(text: str, *keys: str) -> str:
    """A run file as it was written before there were these keys."""
    for key in keys:
        text, count = re.subn(rf"^{key} = .*\n", "", text, flags=re.MULTILINE)
        assert count == 1, key
    return text


def beside(folder: Path, saved: str | bytes, loaded: LoadedRun, info: ModelInfo | None = TAKES) -> Begun:
    path = folder / "saved.toml"
    path.write_bytes(saved if isinstance(saved, bytes) else saved.encode())
    return begun(loaded, path, info)


@pytest.fixture
def new(tmp_path: Path) -> LoadedRun:
    (tmp_path / "data").mkdir()
    return clip_loaded(tmp_path / "data", "tiny", tmp_path / "out")


def test_keys_that_a_saved_file_does_not_have_are_at_their_defaults(tmp_path: Path, new: LoadedRun) -> None:
    """Single keys, and a whole table."""
    older = without(new.resolved(), "remove_llm_prefixes", "on_error", "keep_last_n", "mark_first_frame")
    older, count = re.subn(r"\n\[wandb\]\n(.+\n)+", "", older)
    assert count == 1
    found = beside(tmp_path, older, new, OTHER)
    assert found.loaded is new
    assert found.notes == ()
    assert difference(found.saved, new.resolved()) is None
    assert found.saved == new.resolved()


def test_a_key_that_was_set_then_and_is_not_now_is_a_difference_and_the_only_one_shown(tmp_path: Path, new: LoadedRun) -> None:
    older = without(new.resolved(), "on_error", "mark_first_frame").replace("use_rslora = false", "use_rslora = true")
    found = difference(beside(tmp_path, older, new, OTHER).saved, new.resolved())
    assert found is not None
    assert found.what == "with another run file:\n    -use_rslora = true\n    +use_rslora = false"


def test_a_key_that_no_table_has_now_is_a_difference(tmp_path: Path, new: LoadedRun) -> None:
    later = new.resolved().replace("use_rslora = false", "use_rslora = false\nuse_magic = true")
    found = difference(beside(tmp_path, later, new).saved, new.resolved())
    assert found is not None
    assert found.what == "with another run file:\n    -use_magic = true"


def test_a_run_that_is_older_than_the_marker_keeps_to_doing_without_and_says_so(tmp_path: Path, new: LoadedRun) -> None:
    found = beside(tmp_path, without(new.resolved(), "mark_first_frame"), new)
    assert found.notes == (NOTE,)
    assert found.loaded.config.training_strategy.video.mark_first_frame is False
    assert difference(found.saved, found.loaded.resolved()) is None
    assert "mark_first_frame = false" in found.loaded.resolved()
    again = beside(tmp_path, found.loaded.resolved(), new)
    assert (again.notes, again.loaded.config) == (found.notes, found.loaded.config)


def test_a_run_that_goes_on_with_another_size_of_group_says_so(tmp_path: Path, new: LoadedRun) -> None:
    saved = new.resolved().replace("sequence_parallel = 1", "sequence_parallel = 4")
    told = "had engine.sequence_parallel = 4, and continues with 1: losses then agree to about 1e-5, but not to the last bit"
    assert beside(tmp_path, saved, new, OTHER).notes == (told,)
    assert beside(tmp_path, without(new.resolved(), "sequence_parallel"), new, OTHER).notes == ()


def test_a_run_file_that_sets_the_marker_is_held_to_it(tmp_path: Path, new: LoadedRun) -> None:
    saved = without(new.resolved(), "mark_first_frame")
    asked = clip_loaded(tmp_path / "data", "tiny", tmp_path / "out", "training_strategy.video.mark_first_frame=true")
    found = beside(tmp_path, saved, asked)
    assert (found.loaded, found.notes) == (asked, ())
    said = difference(found.saved, asked.resolved())
    assert said is not None
    assert said.what == "with another run file:\n    -mark_first_frame = false\n    +mark_first_frame = true"
    written = {"name": "flexible", "video": {**VIDEO, "mark_first_frame": True}}
    asked = clip_loaded(tmp_path / "data", "tiny", tmp_path / "out", strategy=written)
    assert difference(beside(tmp_path, saved, asked).saved, asked.resolved()) == said


def test_the_older_strategies_keep_to_doing_without_as_well(tmp_path: Path, new: LoadedRun) -> None:
    older = clip_loaded(tmp_path / "data", "tiny", tmp_path / "out", strategy={"name": "text_to_video"})
    found = beside(tmp_path, without(older.resolved(), "mark_first_frame"), older)
    assert found.loaded.config.training_strategy.mark_first_frame is False
    assert difference(found.saved, found.loaded.resolved()) is None
    assert found.notes == (NOTE.replace("video.", ""),)


@pytest.mark.parametrize("info", [OTHER, None])
def test_a_model_without_the_marker_has_nothing_to_keep(tmp_path: Path, new: LoadedRun, info: ModelInfo | None) -> None:
    found = beside(tmp_path, without(new.resolved(), "mark_first_frame"), new, info)
    assert (found.loaded, found.saved, found.notes) == (new, new.resolved(), ())


def test_a_run_that_began_with_the_marker_goes_on_with_it(tmp_path: Path, new: LoadedRun) -> None:
    found = beside(tmp_path, new.resolved(), new)
    assert (found.loaded, found.saved, found.notes) == (new, new.resolved(), ())


def test_without_a_saved_file_there_is_nothing_to_keep_and_one_that_is_broken_is_named(tmp_path: Path, new: LoadedRun) -> None:
    assert begun(new, tmp_path / "none.toml", TAKES).saved == ""
    for text, what in (("seed =", "saved.toml:1: is not TOML"), (b"\xff\xfe", "saved.toml: is not UTF-8 text")):
        assert str(beside(tmp_path, text, new).broken).startswith(f"{tmp_path}/{what}")


def test_what_is_verified_before_a_run_is_no_difference() -> None:
    saved = "[data]\nheld_out = 4\n"
    assert difference(saved, saved + "verify = 0.01\n") is None
    assert difference(saved, saved.replace("4", "5") + "verify = 0.01\n") is not None

"""What preprocessing would make of a dataset is known from headers, with all that is wrong, and is the same for whoever asks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from helpers.raw_media import clip_file, dataset_file, encode
from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import survey_dataset
from ltxcore.encode.survey import Survey, survey_media
from ltxcore.progress import bars


def surveyed(path: Path, model: Codecs | None = None, **options: Any) -> Survey:
    table, root = PreprocessingTable(**options), path.parent / ".precomputed"
    data, problems = survey_dataset(path, table, None, root)
    assert problems == ()
    with bars(False) as phase:
        return survey_media(data, root, table, model, 2, phase)


def clips(folder: Path, **silent: bool) -> Path:
    """A dataset of these clips, each with sound or not."""
    for number, (name, is_silent) in enumerate(silent.items()):
        clip_file(folder / f"{name}.mp4", sound=not is_silent, seed=number)
    return dataset_file(folder / "set.jsonl", [{"video": f"{name}.mp4", "caption": name} for name in silent])


def test_samples_that_cannot_be_made_whole_are_told_with_what_can_be_made_of_them(tmp_path: Path) -> None:
    path = clips(tmp_path, a=False, b=True)
    found = surveyed(path)
    (refused,) = found.refused
    assert (refused.sample.name, [problem.what for problem in refused.problems]) == ("b", ["has no sound"])
    assert refused.part is not None
    assert refused.part.folders == {"conditions", "latents"}
    assert ([each.sample.name for each in found.planned], found.whole, found.unfit) == (["a"], {"a"}, {"b"})
    assert (found.leaves_out, found.problems, found.left_out) == (False, refused.problems, ())


def test_what_on_error_leaves_out_is_no_problem_as_preprocessing_finds_too(tmp_path: Path) -> None:
    path = clips(tmp_path, a=False, b=True)
    found = surveyed(path, on_error="skip")
    assert ([each.sample.name for each in found.planned], found.whole) == (["a", "b"], {"a"})
    assert (found.leaves_out, found.problems) == (True, ())
    assert tuple(found.left_out) == encode(path, on_error="skip").silent


def test_a_set_of_which_no_clip_has_sound_is_told_once_and_planned_without(tmp_path: Path) -> None:
    found = surveyed(clips(tmp_path, a=True, b=True))
    assert found.silent is not None
    assert found.silent.what == "none of the clips has audio"
    assert (found.problems, found.refused) == ((found.silent,), ())
    assert {each.folders for each in found.planned} == {frozenset({"conditions", "latents"})}


def test_without_one_size_each_clip_is_planned_by_the_size_nearest_to_its_own(tmp_path: Path) -> None:
    path = clips(tmp_path, a=False)
    clip_file(tmp_path / "b.mp4", width=96)
    path = dataset_file(path, [{"video": "a.mp4", "caption": "a"}, {"video": "b.mp4", "caption": "b"}])
    found = surveyed(path)
    assert not found.has_sizes
    assert found.sizeless is not None
    assert found.problems == found.sizeless.problems
    assert [str(each.bucket) for each in found.planned] == ["64x64x17", "96x64x17"]


def test_copies_are_found_by_their_bytes(tmp_path: Path) -> None:
    path = clips(tmp_path, a=False, b=False)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "c.mp4")
    path = dataset_file(path, [{"video": f"{name}.mp4", "caption": name} for name in "abc"])
    steps: list[None] = []
    found = [(sample.name, path.name, other.name) for sample, path, other in surveyed(path).copies(lambda: steps.append(None))]
    assert (found, len(steps)) == ([("c", "c.mp4", "a")], 3)

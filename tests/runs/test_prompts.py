"""What a run needs besides its captions is known before it starts: which texts, whether they are encoded, and whether they can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.training_runs import loaded_run, message, sound_set
from ltxcore.codecs.load_codecs import text_encoder
from ltxcore.encode.prompts import FOLDER, encode_prompts
from ltxcore.errors import ConfigError
from ltxcore.runs.checks import check_run
from ltxcore.runs.prompts import prompt_problems, prompts_of_run, to_encode
from ltxcore.runs.run_plan import draft, plan

FLOW = {"type": "flow_matching"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts")
    sound_set(path / "data", count=5)
    return path


def test_prompts_that_cannot_be_encoded_are_told_before_the_run_unless_some_are_kept_beside_the_data(folder: Path, tmp_path: Path) -> None:
    found = draft(loaded_run(folder, objectives=[FLOW, {"type": "preservation"}]), 1).checked()
    assert prompt_problems(found) == ()
    config = attrs.evolve(found.config, model=attrs.evolve(found.config.model, model_path=str(tmp_path / "none.safetensors")))
    without = attrs.evolve(found, loaded=attrs.evolve(found.loaded, config=config))
    assert prompt_problems(without)
    plain = attrs.evolve(without, loaded=attrs.evolve(found.loaded, config=attrs.evolve(config, objectives=[])))
    assert prompt_problems(plain) == ()
    (tmp_path / ".prompts").mkdir()
    assert prompt_problems(attrs.evolve(without, root=tmp_path)) == ()


@pytest.mark.parametrize(("dropped", "texts"), [(0.1, [""]), ({"audio": 0.1}, [""]), ({"audio": 0.0}, []), (0, [])])
def test_a_run_that_drops_captions_needs_the_empty_one(folder: Path, dropped: Any, texts: list[str]) -> None:
    assert prompts_of_run(loaded_run(folder, data={"caption_dropout": dropped}).config) == texts
    slider = {"type": "slider", "towards": "a tone"}
    config = loaded_run(folder, data={"caption_dropout": dropped}, objectives=[FLOW, slider]).config
    assert sorted(prompts_of_run(config)) == ["", "a tone"], "each text once"


def test_a_check_tells_whether_the_empty_caption_has_still_to_be_encoded(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=5)
    told = "The first run also encodes the empty caption, and keeps what it encodes beside the data."
    loaded = loaded_run(tmp_path, data={"caption_dropout": 0.1})
    assert told in check_run(loaded).notes
    assert told not in check_run(loaded_run(tmp_path)).notes
    encode_prompts(tmp_path / "data", [""], text_encoder("tiny").fingerprint, lambda: text_encoder("tiny"))
    assert told not in check_run(loaded).notes


def test_another_prompt_beside_the_data_is_not_taken_for_the_empty_caption(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=5)
    encode_prompts(tmp_path / "data", ["a dog"], text_encoder("tiny").fingerprint, lambda: text_encoder("tiny"))
    found = draft(loaded_run(tmp_path, data={"caption_dropout": 0.1}), 1).checked()
    manifest = plan(found).manifest
    assert list(to_encode(found, manifest))
    config = attrs.evolve(found.config, model=attrs.evolve(found.config.model, model_path=str(tmp_path / "none.safetensors")))
    without = attrs.evolve(found, loaded=attrs.evolve(found.loaded, config=config))
    assert prompt_problems(without, manifest)
    encode_prompts(tmp_path / "data", [""], text_encoder("tiny").fingerprint, lambda: text_encoder("tiny"))
    assert prompt_problems(without, manifest) == ()
    assert (tmp_path / "data" / FOLDER).is_dir()


@pytest.mark.parametrize(
    ("dropped", "told"),
    [
        (1.5, "data.caption_dropout: must be at most 1, not 1.5"),
        ({"audio": 1.5}, "data.caption_dropout.audio: must be from 0 to 1, not 1.5"),
        ({"text": 0.1}, "data.caption_dropout.text: is not a modality\n    Write video or audio."),
        (
            {"video": 0.1},
            "data.caption_dropout.video: the run has no video, so it has no caption to drop\n    Remove it; the run has audio.",
        ),
    ],
)
def test_captions_that_cannot_be_dropped_are_told(folder: Path, dropped: Any, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        draft(loaded_run(folder, data={"caption_dropout": dropped}), 1).checked()
    assert told in message(error.value, folder)

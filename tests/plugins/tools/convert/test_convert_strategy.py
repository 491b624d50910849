"""The flexible strategy is carried over condition by condition; the two older ones become what they amount to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.converted_configs import converted, old_file, refused, remarks, strategy, values
from ltxcore.config.load import load_run

AUDIO = {"is_generated": True, "latents_dir": "audio_latents"}


def test_every_condition_is_carried_over() -> None:
    video = [
        {"type": "first_frame", "probability": 0.5},
        {"type": "prefix", "temporal_boundary": 8},
        {"type": "suffix", "temporal_boundary": 2, "probability": 1.0},
        {"type": "spatial_crop", "spatial_region": [0, 0, 288, 576]},
        {"type": "mask", "mask_dir": "video_masks"},
        {"type": "reference", "latents_dir": "reference_latents"},
    ]
    text = strategy(video={"is_generated": True, "latents_dir": "latents", "conditions": video}, audio=None)
    assert values(text)["training_strategy"] == {
        "name": "flexible",
        "video": {"is_generated": True, "latents_dir": "latents", "conditions": video},
    }
    assert remarks(text) == []


def test_a_condition_that_did_nothing_on_a_frozen_modality_is_told_and_a_reference_stays() -> None:
    conditions = [{"type": "prefix", "temporal_boundary": 8}, {"type": "reference", "latents_dir": "others"}]
    text = strategy(
        video={"is_generated": False, "latents_dir": "latents", "conditions": conditions},
        audio=AUDIO,
    )
    assert remarks(text) == [
        'line 13 of the old file: training_strategy.video.conditions[0]: "prefix" is not converted: it makes no sense on frozen video, and had no effect in ltx-trainer.'
    ]
    assert values(text)["training_strategy"]["video"]["conditions"] == [conditions[1]]


def test_what_is_wrong_with_a_strategy_is_told_with_its_line() -> None:
    conditions: list[Any] = [{"type": "prefx"}, {"type": "prefix"}, {"type": "spatial_crop", "spatial_region": [1, 2]}, {}, "mask"]
    text = strategy(video={"is_generated": "perhaps", "conditions": conditions, "sigma": 1})
    assert refused(text) == (
        'old.yaml:10: training_strategy.video.is_generated: must be true or false, not the text "perhaps"\n'
        "old.yaml:10: training_strategy.video.latents_dir: is missing\n"
        'old.yaml:12: training_strategy.video.conditions[0].type: there is no condition "prefx"\n    Did you mean "prefix"?\n'
        "old.yaml:13: training_strategy.video.conditions[1].temporal_boundary: is missing\n"
        "old.yaml:16: training_strategy.video.conditions[2].spatial_region: must be a list of 4, not of 2\n"
        "old.yaml:18: training_strategy.video.conditions[3].type: is missing\n"
        'old.yaml:19: training_strategy.video.conditions[4]: must be a mapping, not the text "mask"'
    )


def test_an_unknown_strategy_is_refused() -> None:
    assert refused(old_file(training_strategy={"name": "mine"})) == (
        'old.yaml:8: training_strategy.name: must be "flexible" or "text_to_video" or "video_to_video", not the text "mine"'
    )


# ---------------------------------------------------------------- older strategies


def legacy(**keys: Any) -> str:
    return old_file(training_strategy=keys)


FIRST_FRAME = {"type": "first_frame", "probability": 0.1}
VIDEO = {"is_generated": True, "latents_dir": "latents", "conditions": [FIRST_FRAME]}


def test_text_to_video_is_a_generated_video_whose_first_frame_is_given_now_and_then() -> None:
    found = values(legacy(name="text_to_video"))
    assert found["training_strategy"] == {"name": "flexible", "video": VIDEO}
    assert "flow_matching" not in found


def test_text_to_video_with_audio_has_one_sigma_for_both() -> None:
    found = values(legacy(name="text_to_video", first_frame_conditioning_p=0.3, with_audio=True, audio_latents_dir="sounds"))
    assert found["training_strategy"] == {
        "name": "flexible",
        "video": {**VIDEO, "conditions": [{"type": "first_frame", "probability": 0.3}]},
        "audio": {"is_generated": True, "latents_dir": "sounds"},
    }
    assert found["flow_matching"] == {"shared_sigma": True}


def test_its_other_keys_of_flow_matching_stay() -> None:
    text = old_file(training_strategy={"name": "text_to_video", "with_audio": True}, flow_matching={"timestep_sampling_mode": "uniform"})
    assert values(text)["flow_matching"] == {"shared_sigma": True, "timestep_sampling_mode": "uniform"}


def test_video_to_video_is_a_reference_and_a_first_frame() -> None:
    found = values(legacy(name="video_to_video", first_frame_conditioning_p=0, reference_latents_dir="depth"))
    assert found["training_strategy"] == {
        "name": "flexible",
        "video": {
            "is_generated": True,
            "latents_dir": "latents",
            "conditions": [{"type": "reference", "latents_dir": "depth"}, {"type": "first_frame", "probability": 0.0}],
        },
    }


@pytest.mark.parametrize(
    "text", [old_file(training_strategy=None), old_file(training_strategy={}), old_file(training_strategy={"with_audio": False})]
)
def test_no_strategy_meant_text_to_video_and_that_is_told(text: str) -> None:
    (said,) = remarks(text)
    assert said.endswith('the strategy had no name, which meant "text_to_video"; it is written as the flexible strategy here.')
    assert values(text)["training_strategy"] == {"name": "flexible", "video": VIDEO}


def test_keys_that_an_older_strategy_lacks_become_comments() -> None:
    text = legacy(name="video_to_video", with_audio=True)
    assert remarks(text) == [
        "line 9 of the old file: training_strategy.with_audio = true is not converted: ltx-trainer does not have this key either."
    ]


def test_wrong_values_of_an_older_strategy_are_told() -> None:
    text = legacy(name="text_to_video", first_frame_conditioning_p="often", with_audio="perhaps")
    assert refused(text) == (
        'old.yaml:9: training_strategy.first_frame_conditioning_p: must be a number, not the text "often"\n'
        'old.yaml:10: training_strategy.with_audio: must be true or false, not the text "perhaps"'
    )


@pytest.mark.parametrize("name", ["text_to_video", "video_to_video"])
def test_the_converted_run_loads_and_is_what_the_registered_name_builds(name: str, tmp_path: Path) -> None:
    """The shims of the same names are held to the recorded numbers; what is written here must be what they build."""
    model = tmp_path / "model.safetensors"
    model.touch()
    keys = {"with_audio": True} if name == "text_to_video" else {}
    text = old_file(
        model={"model_path": str(model)},
        data={"preprocessed_data_root": str(tmp_path)},
        training_strategy={"name": name, "first_frame_conditioning_p": 0.25, **keys},
    )
    path = tmp_path / "run.toml"
    path.write_text(converted(text).text)
    config = load_run(path).config
    said = load_run(_replacement(tmp_path, name, keys)).config
    assert config.training_strategy == said.training_strategy
    assert config.flow_matching.shared_sigma == said.flow_matching.shared_sigma == bool(keys)


def _replacement(folder: Path, name: str, keys: dict[str, Any]) -> Path:
    """The run file that the deprecated name itself says to write."""
    from ltxcore.registry import load

    cls = load().get("strategy", name).value
    text = cls(first_frame_conditioning_p=0.25, **keys).replacement()
    path = folder / "said.toml"
    path.write_text(text.partition("\n\n")[2] + f'\n[model]\nmodel_path = "tiny"\n\n[data]\npreprocessed_data_root = "{folder}"\n')
    return path

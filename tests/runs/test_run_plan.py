"""What is found wrong with a run before it writes anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.raw_media import sound_file
from helpers.training_runs import loaded_run, message, put, put_sound, sound_set
from ltxcore.codecs.load_codecs import audio_codec
from ltxcore.errors import LtxError
from ltxcore.models import TINY_BASE
from ltxcore.runs.checks import check_run
from ltxcore.runs.run_folder import RunFolder
from ltxcore.runs.run_plan import draft


def refusal(folder: Path, **changed: object) -> str:
    loaded = loaded_run(folder, **changed)
    with pytest.raises(LtxError) as error:
        check_run(loaded)
    assert not (folder / "out").exists()
    return message(error.value, folder)


def test_a_run_that_is_in_order_is_planned_without_writing(tmp_path: Path) -> None:
    sound_set(tmp_path / "data")
    plan = check_run(loaded_run(tmp_path)).plan
    assert plan is not None
    assert len(plan.split.train) == 20
    assert len(plan.split.held_out) == 4
    assert set(plan.split.train) | set(plan.split.held_out) == set(plan.manifest.samples)
    assert plan.outline.modalities == {"audio"}
    assert plan.order.per_epoch == 5
    assert not (tmp_path / "out").exists()


def test_everything_that_is_wrong_without_the_data_is_found_at_once(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=1)
    RunFolder(tmp_path / "out").path.mkdir()
    RunFolder(tmp_path / "out").write_status("finished", held_out=[])
    loaded = loaded_run(
        tmp_path,
        lora={"target_modules": ["to_qq", "attn1.to_q"]},
        optimization={"scheduler_type": "cosine_with_restarts", "scheduler_params": {"T_0": 0}},
        checkpoints={"max_shard_size": 2.0},
        engine={"name": "single", "stage": 2},
        data={"held_out": 0},
    )
    with pytest.raises(LtxError) as error:
        check_run(loaded)
    found = message(error.value, tmp_path)
    places = [line for line in found.splitlines() if not line.startswith("    ")]
    lines = {
        key: number for number, line in enumerate((tmp_path / "run.toml").read_text().splitlines(), 1) for key in [line.partition(" =")[0]]
    }
    assert places == [
        f"TMP/run.toml:{lines['output_dir']}: output_dir: TMP/out holds a finished run, which is not overwritten",
        f"TMP/run.toml:{lines['max_shard_size']}: checkpoints.max_shard_size: applies to a whole model, but a LoRA is always one file",
        f'TMP/run.toml:{lines["stage"]}: engine.stage: only works with several processes, but engine.name is "single"',
        f"TMP/run.toml:{lines['[optimization.scheduler_params]']}: optimization.scheduler_params: "
        'the schedule "cosine_with_restarts" does not take these parameters: Expected positive integer T_0, but got 0',
        f'TMP/run.toml:{lines["target_modules"]}: lora.target_modules: the LoRA target "to_qq" does not match any module',
        f'TMP/run.toml:{lines["target_modules"]}: lora.target_modules: the LoRA target "attn1.to_q" matches only modules of video, but this run has only audio',
    ]


def line_of(folder: Path, start: str) -> int:
    return next(n for n, text in enumerate((folder / "run.toml").read_text().splitlines(), 1) if text.startswith(start))


def test_a_source_folder_that_is_missing_is_named_with_its_key(tmp_path: Path) -> None:
    sound_set(tmp_path / "data")
    for path in (tmp_path / "data" / "audio_masks").iterdir():
        path.unlink()
    (tmp_path / "data" / "audio_masks").rmdir()
    assert refusal(tmp_path) == (
        f"TMP/run.toml:{line_of(tmp_path, 'conditions')}: training_strategy.audio.conditions[0].mask_dir: "
        'there is no folder "audio_masks" in TMP/data\n'
        "    Known: audio_latents, conditions."
    )


def test_a_mask_of_the_wrong_length_is_named_with_its_sample(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=3)
    put_sound(tmp_path / "data", 3, steps=6)
    put(tmp_path / "data", "audio_masks", "sound03", {"mask": torch.ones(5)})
    assert "sound03" in refusal(tmp_path, data={"held_out": 0})


def test_a_prefix_as_long_as_the_clip_is_refused_with_file_and_line(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=2)
    strategy = {
        "name": "flexible",
        "audio": {"is_generated": True, "latents_dir": "audio_latents", "conditions": [{"type": "prefix", "temporal_boundary": 8}]},
    }
    assert refusal(tmp_path, training_strategy=strategy, data={"held_out": 0}) == (
        f"TMP/run.toml:{line_of(tmp_path, 'conditions')}: training_strategy.audio.conditions[0], samples sound00, sound01: "
        "a prefix of 8 latent frames leaves nothing to generate in a sample of 8 latent frames\n"
        "    Set temporal_boundary below the length of the shortest sample, or leave out the short samples."
    )


def test_data_that_another_encoder_made_are_refused(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=2)
    for name in ("sound00", "sound01"):
        put(tmp_path / "data", "audio_latents", name, {"latents": torch.zeros(8, 8, 16)}, encoder="another-codec")
    found = refusal(tmp_path, data={"held_out": 0})
    line = line_of(tmp_path, "latents_dir")
    assert found == (
        f"TMP/run.toml:{line}: training_strategy.audio.latents_dir: the samples in TMP/data/audio_latents were encoded by another-codec, "
        f"but the base model tiny-untrained needs samples encoded by {audio_codec('tiny').fingerprint}\n"
        "    Encode the samples again with this model, into another data.preprocessed_data_root."
    )


def test_a_split_that_leaves_nothing_to_train_on_is_refused_with_file_and_line(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=3)
    found = refusal(tmp_path, data={"held_out": 3})
    line = line_of(tmp_path, "held_out")
    assert found == (
        f"TMP/run.toml:{line}: data.held_out: held_out = 3 leaves nothing to train on: there are 3 samples\n"
        "    Hold out fewer, or name another dataset to hold out."
    )


def test_a_model_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=1)
    (tmp_path / "none.safetensors").write_bytes(b"truncated")
    assert refusal(tmp_path, model={"model_path": str(tmp_path / "none.safetensors")}).startswith("TMP/none.safetensors: ")


def test_a_model_whose_weights_are_packed_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav")
    (tmp_path / "clips.jsonl").write_text('{"audio": "a.wav", "audio_mask": "a.wav", "caption": "a tone"}')
    tensors = load_file(TINY_BASE)
    with safe_open(TINY_BASE, framework="pt") as file:
        metadata = file.metadata()
    name = next(name for name in tensors if name.endswith("audio_attn1.to_q.weight"))
    path = tmp_path / "packed.safetensors"
    save_file(tensors | {name: tensors[name].to(torch.int8)}, path, metadata=metadata)
    found = refusal(tmp_path, model={"model_path": str(path)}, data={"dataset": str(tmp_path / "clips.jsonl"), "held_out": 0})
    own = name.removeprefix("model.diffusion_model.")
    assert found == (
        f"TMP/packed.safetensors: 1 tensor is packed, which is not supported: {own} (torch.int8)\n"
        "    Use the bf16 file, and quantization under [acceleration]."
    )


def test_data_that_are_not_encoded_yet_are_no_mistake(tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav")
    (tmp_path / "clips.jsonl").write_text('{"audio": "a.wav", "audio_mask": "a.wav", "caption": "a tone"}')
    data = {"dataset": str(tmp_path / "clips.jsonl"), "preprocessed_data_root": str(tmp_path / "later"), "held_out": 0}
    checked = check_run(loaded_run(tmp_path, data=data))
    assert checked.plan is None
    assert checked.samples == f"1, not encoded yet; the first run encodes {tmp_path / 'clips.jsonl'}"
    assert not (tmp_path / "later").exists()


def test_the_engine_of_one_process_is_refused_where_there_are_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    sound_set(tmp_path / "data", count=1)
    found = refusal(tmp_path, engine={"name": "single"}, data={"held_out": 0})
    line = line_of(tmp_path, 'name = "single')
    assert found == (
        f'TMP/run.toml:{line}: engine.name: "single" is an engine for one process, but there are 2\n    Start the run without a launcher.'
    )


def test_a_number_of_processes_that_cannot_divide_micro_batches_is_refused_and_none_is_where_it_is_not_known(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=1)
    loaded = loaded_run(tmp_path, engine={"sequence_parallel": 3}, data={"held_out": 0})
    where = f"TMP/run.toml:{line_of(tmp_path, 'sequence_parallel = 3')}: engine.sequence_parallel"
    heads = f"{where}: 3 processes cannot share the model's 4 heads of video and 4 heads of audio, because each takes equally many\n    Use one of 2, 4."
    groups = f"{where}: 4 processes cannot be divided into groups of 3, each of which divides the tokens of a micro-batch"
    for processes, expected in ((None, [heads]), (3, [heads]), (4, [groups, heads])):
        with pytest.raises(LtxError) as error:
            draft(loaded, processes).checked()
        found = message(error.value, tmp_path)
        assert all(each in found for each in expected)
        assert len(error.value.problems) == len(expected)


def test_a_dataset_of_which_only_another_run_needed_a_part_is_not_encoded_yet(tmp_path: Path) -> None:
    sound_file(tmp_path / "sound00.wav")
    (tmp_path / "sounds.jsonl").write_text('{"audio": "sound00.wav", "audio_mask": "sound00.wav", "caption": "a tone"}\n')
    sound_set(tmp_path / "data", count=3)
    changed = {"data": {"dataset": str(tmp_path / "sounds.jsonl"), "held_out": 0}}
    assert check_run(loaded_run(tmp_path, **changed)).samples == "1 to train on, 0 held out; the first run encodes it again"
    (tmp_path / "data" / "audio_masks").rename(tmp_path / "data" / "others")
    assert check_run(loaded_run(tmp_path, **changed)).samples.startswith("1, not encoded yet")

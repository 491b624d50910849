"""Runs on top of frozen LoRAs: what they train, save, record and refuse."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.heard import heard
from helpers.lora_files import read_pairs
from helpers.training_runs import loaded_run, message, sound_set
from ltxcore.cli.main import main
from ltxcore.config.loras import Strength, said_of
from ltxcore.errors import LtxError
from ltxcore.planner.estimate import Estimator
from ltxcore.planner.largest_batch import all_samples, sets_here, shapes_of
from ltxcore.runs.noted import of_loras
from ltxcore.runs.read_run import read_run, sample_command
from ltxcore.runs.run_plan import draft
from ltxcore.train.start_run import run

UNDER = ["transformer_blocks.0.audio_attn1.to_q", "transformer_blocks.2.audio_ff.net.2"]
SIDES = {UNDER[0]: (128, 128), UNDER[1]: (128, 512)}
RANK = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sound_set(tmp_path / "data", 6)
    draws = torch.Generator().manual_seed(0)
    tensors = {}
    for module in UNDER:
        rows, columns = SIDES[module]
        tensors[f"diffusion_model.{module}.lora_A.weight"] = 0.1 * torch.randn(RANK, columns, generator=draws)
        tensors[f"diffusion_model.{module}.lora_B.weight"] = 0.1 * torch.randn(rows, RANK, generator=draws)
    save_file(tensors, tmp_path / "under.safetensors", metadata={"generation": "tiny"})
    return tmp_path


def asked(folder: Path, *loras: str, **changed: Any) -> Any:
    quick = {"optimization": {"steps": 2, "learning_rate": 0.01}, "data": {"held_out": 2}}
    return loaded_run(folder, **{**quick, "model": {"loras": list(loras)}, **changed})


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.mark.slow
def test_a_run_says_what_it_is_on_top_of_and_exports_one_lora_of_the_sum(folder: Path) -> None:
    under = folder / "under.safetensors"
    with heard() as told:
        outcome = run(asked(folder, "under.safetensors:0.5", checkpoints={"interval": 1, "precision": "float32"}))
    assert "the LoRA is trained on top of under.safetensors; only the LoRA itself changes" in told.getvalue()
    expected = [{"name": "under.safetensors", "strength": 0.5, "sha256": sha256(under.read_bytes()).hexdigest()}]
    assert outcome.weights is not None
    assert json.loads(metadata(outcome.weights)["frozen_loras"]) == expected
    assert json.loads((folder / "out" / "run.json").read_text())["frozen_loras"] == expected
    assert f'loras = ["{under}:0.5"]' in (folder / "out" / "run.toml").read_text()

    record = read_run(folder / "out")
    assert record.weights is not None
    command = sample_command(record, record.weights)
    assert f"--lora {under}:0.5 --lora {outcome.weights}" in command
    quick = ["--inference-steps", "2", "--device", "cpu", "-o", str(folder / "a.wav"), "--no-generate-video"]
    missing = f"{outcome.weights} was trained on top of under.safetensors:0.5, which is not used: add it with --lora."
    for loras, is_told in (([outcome.weights], True), ([f"{under}:0.5", outcome.weights], False)):
        drawn = CliRunner().invoke(
            main, ["sample", "x", "--model", "tiny-untrained", *quick, *(w for each in loras for w in ("--lora", str(each))), "--overwrite"]
        )
        assert drawn.exit_code == 0, drawn.output
        assert (missing in drawn.stderr) == is_told

    exported = folder / "sum.safetensors"
    words = ["export", str(outcome.weights), "--for", "comfyui", "-o", str(exported)]
    result = CliRunner().invoke(main, [*words, "--with-frozen", str(under)])
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    own, below, both = read_pairs(outcome.weights), read_pairs(under), read_pairs(exported)
    assert both.keys() == own.keys() | below.keys()
    for name, (a, b) in both.items():
        parts = [(own.get(name), 1.0), (below.get(name), 0.5)]
        torch.testing.assert_close(b @ a, sum(strength * pair[1] @ pair[0] for pair, strength in parts if pair), atol=1e-6, rtol=1e-6)
    kept = metadata(exported)
    assert [each["name"] for each in json.loads(kept["merged_loras"])] == ["under.safetensors", "lora.safetensors"]
    assert "frozen_loras" not in kept
    alone = CliRunner().invoke(main, [*words, "--overwrite"]).output
    assert "It was trained on top of under.safetensors:0.5: use them together, or export again with --with-frozen.\n" in alone
    other = folder / "other.safetensors"
    other.write_bytes(outcome.weights.read_bytes())
    refused = CliRunner().invoke(main, [*words, "--overwrite", "--with-frozen", str(other)])
    assert refused.exit_code == 2
    said = "was trained on top of under.safetensors:0.5; not given: under.safetensors:0.5; given, but not one of them:"
    assert f"{outcome.weights}: {said} {other}\n" in refused.output


@pytest.mark.slow
def test_full_fine_tuning_saves_weights_without_the_loras_and_says_that_they_belong_to_them(folder: Path) -> None:
    under = folder / "under.safetensors"
    model = {"loras": ["under.safetensors:0.5"], "training_mode": "full"}
    small = {"optimization": {"steps": 2, "learning_rate": 1e-9}, "checkpoints": {"precision": "float32"}}
    with heard() as told:
        outcome = run(asked(folder, model=model, **small))
    assert "the model is trained on top of under.safetensors, which the saved weights will not contain" in told.getvalue()
    assert outcome.weights is not None
    plain = run(asked(folder, model={"training_mode": "full"}, output_dir=str(folder / "plain"), **small))
    assert plain.weights is not None
    ours, theirs = load_file(outcome.weights), load_file(plain.weights)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-7, rtol=0)
    assert [each["name"] for each in json.loads(metadata(outcome.weights)["frozen_loras"])] == ["under.safetensors"]
    losses = [json.loads(line)["loss"] for each in (outcome, plain) for line in each.metrics.read_text().splitlines() if '"loss"' in line]
    assert abs(losses[0] - losses[len(losses) // 2]) > 1e-4, "the LoRA takes part in the forward"

    record = read_run(folder / "out")
    assert record.weights is not None
    assert f"--model {outcome.weights} " in sample_command(record, record.weights)
    assert f"--lora {under}:0.5" in sample_command(record, record.weights)
    loaded = asked(folder, model={"model_path": str(outcome.weights), "loras": []}, output_dir=str(folder / "next"))
    found = draft(loaded, 1, writes=False).outline
    assert found is not None
    assert list(of_loras(found)) == [
        f"{outcome.weights} was trained on top of under.safetensors:0.5, which is not used: add it to model.loras, unless it is merged into the model."
    ]


@pytest.mark.slow
def test_an_unfinished_run_is_not_resumed_on_another_file_of_the_same_name(folder: Path) -> None:
    loaded = asked(folder, "under.safetensors", checkpoints={"interval": 1, "keep_last_n": -1})
    outcome = run(loaded)
    record = outcome.output_dir / "run.json"
    record.write_text(record.read_text().replace('"finished"', '"stopped"'))
    assert outcome.weights is not None
    outcome.weights.unlink()
    tensors = load_file(folder / "under.safetensors")
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, folder / "under.safetensors", metadata={"generation": "tiny"})
    with pytest.raises(LtxError) as caught:
        run(loaded)
    assert message(caught.value, folder) == (
        "TMP/run.toml:5: model.loras: frozen LoRAs have changed since this run began: under.safetensors\n"
        "    Restore the files, or accept the change with --allow-changes."
    )


def refusal(folder: Path, *loras: str, **changed: Any) -> str:
    with pytest.raises(LtxError) as caught:
        run(asked(folder, *loras, **changed))
    return message(caught.value, folder)


def test_what_cannot_be_under_a_run_is_refused_before_anything_is_written(folder: Path) -> None:
    tensors = load_file(folder / "under.safetensors")
    narrow = {name: tensor[:, :-1].contiguous() if "lora_A" in name else tensor for name, tensor in tensors.items()}
    save_file(narrow, folder / "narrow.safetensors")
    assert "model.loras[0]: there is no file TMP/nothing.safetensors" in refusal(folder, "nothing.safetensors")
    assert "TMP/narrow.safetensors: 2 modules do not fit the base" in refusal(folder, "narrow.safetensors")
    save_file({**tensors, f"diffusion_model.{UNDER[0]}.diff_b": torch.ones(128)}, folder / "biased.safetensors")
    assert "TMP/biased.safetensors: 1 module has a changed bias, which would be lost here" in refusal(folder, "biased.safetensors")
    assert "model.loras[0]: the strength nan is not a finite number" in refusal(folder, "under.safetensors:nan")
    whole = {f"diffusion_model.{module}.diff": torch.ones(SIDES[module]) for module in UNDER}
    save_file(whole, folder / "whole.safetensors")
    for changed in ({"model": {"loras": ["whole.safetensors"], "training_mode": "full"}}, {"engine": {"name": "zero"}}):
        said = refusal(folder, "whole.safetensors", **changed)
        assert 'adapters of the type "full" need whole matrices, which full fine-tuning trains and several processes divide' in said
    assert not (folder / "out").exists()


def test_a_run_that_lacks_what_its_loras_were_trained_on_top_of_says_so(folder: Path) -> None:
    under, start = folder / "under.safetensors", folder / "start.safetensors"
    on_top = {"generation": "tiny", "frozen_loras": said_of([Strength(under, 0.5)])}
    save_file(load_file(under), start, metadata=on_top)
    for loras, missing in (([], True), (["under.safetensors"], True), (["under.safetensors:0.5"], False)):
        found = draft(asked(folder, model={"loras": loras, "load_checkpoint": "start.safetensors"}), 1, writes=False).outline
        assert found is not None
        what = f"{start} was trained on top of under.safetensors:0.5, which is not used: add it to model.loras"
        assert list(of_loras(found)) == [f"{what}, unless it is merged into the model."] * missing


def stored(folder: Path, *loras: str, mode: str) -> int:
    """The bytes that the plan counts for the weights of a run."""
    loaded = asked(folder, model={"loras": list(loras), "training_mode": mode})
    found = draft(loaded, 1, writes=False).checked()
    estimator = Estimator(found, found.base, shapes_of(found, found.base, encoded=all_samples(sets_here(found))))
    need = estimator.need(loaded.config, 1)
    return int(need.states.weights)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_plan_counts_every_number_of_the_frozen_loras(mode: str, folder: Path) -> None:
    numbers = sum(RANK * (rows + columns) for rows, columns in SIDES.values())
    assert stored(folder, "under.safetensors:0.5", mode=mode) - stored(folder, mode=mode) == 4 * numbers

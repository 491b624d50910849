"""Text that is stored after the connectors of a model: what is stored, what is made again, and what a run makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.raw_media import dataset_file, sound_file
from helpers.whole_models import unified
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.config.render import document
from ltxcore.encoded.manifest import read_source
from ltxcore.encoded.padding import padded
from ltxcore.models.checkpoint_files import open_checkpoint
from ltxcore.models.connectors import connectors_fingerprint
from ltxcore.models.load_base import load_backbone
from ltxcore.runs.checks import check_run
from ltxcore.train.feed import Samples
from ltxcore.train.trained_model import load_model

CAPTIONS = ("a low hum", "a high and steady whistle")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """Two sounds with captions and their model; encoded with features in `features`, and from there with what connectors make of them in `outputs`."""
    folder = tmp_path_factory.mktemp("connected")
    model = unified(folder / "models")
    rows = []
    for number, caption in enumerate(CAPTIONS):
        sound_file(folder / f"sound{number}.wav", seconds=0.5, hertz=300 * (number + 1))
        rows.append({"audio": f"sound{number}.wav", "caption": caption})
    dataset_file(folder / "set.jsonl", rows)
    preprocessed(folder, model, "features")
    shutil.copytree(folder / "features", folder / "outputs")
    assert text_and_sound(preprocessed(folder, model, "outputs", "--connector-outputs")) == (2, 0)
    return folder, model


def ltx(*arguments: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(main, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == exit_code, done.output
    return done.output


def preprocessed(
    folder: Path, model: Mapping[str, object], root: str, *options: str, dataset: str = "set.jsonl", exit_code: int = 0
) -> str:
    named = [f"--{key.replace('_', '-')}={path}" for key, path in model.items()]
    places = [str(folder / dataset), f"--output-dir={folder / root}", "--no-progress"]
    return ltx("preprocess", *places, *named, "--audio-durations=0.4", *options, exit_code=exit_code)


def text_and_sound(said: str) -> tuple[int, ...]:
    """How many files of text and of sound were made now."""
    lines = [line.split() for line in said.splitlines()[:2]]
    assert [line[0] for line in lines] == ["conditions", "audio_latents"]
    return tuple(int(line[1]) for line in lines)


def run_file(folder: Path, model: Mapping[str, object], root: str, output: Path, **changed: Mapping[str, Any]) -> Path:
    told: dict[str, Any] = {
        "output_dir": str(output / "out"),
        "model": {key: str(path) for key, path in model.items()},
        "lora": {"rank": 2, "target_modules": "auto"},
        "training_strategy": {"name": "flexible", "audio": {"is_generated": True, "latents_dir": "audio_latents"}},
        "optimization": {"steps": 2, "batch_size": 1, "learning_rate": 1e-2},
        "acceleration": {"mixed_precision_mode": "bf16"},
        "data": {"preprocessed_data_root": str(folder / root), "held_out": 0, "num_dataloader_workers": 0},
        **changed,
    }
    path = output / f"{root}.toml"
    path.write_text(document(told))
    return path


def other_connectors(model: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """The same model with one number of one connector changed."""
    with safe_open(model["model_path"], framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(model["model_path"])
    name = next(name for name in tensors if name.endswith("audio_embeddings_connector.learnable_registers"))
    tensors[name][0, 0] += 1.0
    save_file(tensors, folder / "other.safetensors", metadata)
    return {**model, "model_path": folder / "other.safetensors"}


def test_what_is_stored_is_what_the_backbone_makes_of_the_features(made: tuple[Path, dict[str, Path]]) -> None:
    folder, model = made
    backbone = load_backbone(str(model["model_path"]), frozenset({"video", "audio"}), dtype=torch.bfloat16)
    for name in ("sound0", "sound1"):
        features, outputs = (load_file(folder / root / "conditions" / f"{name}.safetensors") for root in ("features", "outputs"))
        context = backbone.connect(padded(features, 1024))
        for modality, stored in outputs.items():
            assert (stored.dtype, stored.shape[0]) == (torch.bfloat16, 1024)
            assert torch.equal(stored, context.features[modality][0])
        assert bool(context.mask.all())
        assert backbone.connect(context) is context  # once is enough


def test_header_and_manifest_say_which_they_are(made: tuple[Path, dict[str, Path]]) -> None:
    folder, model = made
    identity = connectors_fingerprint(open_checkpoint(str(model["model_path"])))
    assert len(identity) == 16
    for root, connectors in (("features", ""), ("outputs", identity)):
        entries = read_source(folder / root, "conditions")
        assert {entry.connectors for entry in entries.values()} == {connectors}
        with safe_open(folder / root / "conditions" / "sound0.safetensors", framework="pt") as file:
            assert file.metadata()["encoder"] == entries["sound0"].encoder


def test_a_run_sees_the_same_and_has_the_same_losses_to_the_last_bit(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, model = made
    seen = []
    for root in ("features", "outputs"):
        run = run_file(folder, model, root, tmp_path)
        ltx("inspect", str(run), "--steps=2", f"--dump={tmp_path / 'seen.safetensors'}")
        seen.append(load_file(tmp_path / "seen.safetensors"))
    features, outputs = seen
    assert features.keys() == outputs.keys()
    for wanted in ("context", "predicted", "loss"):
        assert any(wanted in name for name in features), sorted(features)
    # The one context is bfloat16, the other the same numbers as float32.
    assert all(torch.equal(features[name].double(), outputs[name].double()) for name in features)


@pytest.mark.parametrize(
    ("root", "prompts", "loaded"), [("features", [], True), ("outputs", [], False), ("outputs", [{"prompt": "a hum"}], True)]
)
def test_connectors_are_loaded_where_some_text_has_still_to_go_through_them(
    made: tuple[Path, dict[str, Path]], tmp_path: Path, root: str, prompts: list[Any], loaded: bool
) -> None:
    folder, model = made
    plan = check_run(load_run(run_file(folder, model, root, tmp_path, validation={"samples": prompts, "video_dims": [64, 64, 9]}))).plan
    assert plan is not None
    samples = Samples(plan.outline.root, plan.outline.strategy.sources(), plan.manifest)
    assert (load_model(plan, samples, torch.device("cpu")).backbone.connectors is not None) == loaded


def test_other_connectors_make_the_text_anew_and_are_refused_until_then(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, model = made
    other = other_connectors(model, tmp_path)
    for root in ("features", "outputs"):
        shutil.copytree(folder / root, tmp_path / root)
    run = run_file(tmp_path, other, "outputs", tmp_path)
    assert ltx("check", str(run), exit_code=2).strip() == (
        f"{tmp_path}/outputs/conditions: this text went through connectors that are not those of the model other.safetensors before it was stored\n"
        "    Run `ltx preprocess` again with this model, into another folder or in place of it."
    )
    shutil.copy(folder / "set.jsonl", tmp_path)
    for number in range(2):
        shutil.copy(folder / f"sound{number}.wav", tmp_path)
    assert text_and_sound(preprocessed(tmp_path, other, "features")) == (0, 0)
    assert text_and_sound(preprocessed(tmp_path, other, "outputs", "--connector-outputs")) == (2, 0)
    assert "outputs.toml is in order." in ltx("check", str(run))


def test_a_set_of_both_is_refused_with_the_names_of_its_samples(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, model = made
    shutil.copytree(folder / "features", tmp_path / "mixed")
    shutil.copy(folder / "sound0.wav", tmp_path)
    dataset_file(tmp_path / "one.jsonl", [{"audio": "sound0.wav", "caption": CAPTIONS[0]}])
    preprocessed(tmp_path, model, "mixed", "--connector-outputs", dataset="one.jsonl")
    run = run_file(tmp_path, model, "mixed", tmp_path)
    assert ltx("check", str(run), exit_code=2).strip() == (
        f'{tmp_path}/mixed/conditions: "conditions" mixes the outputs of connectors, in 1 sample (sound0), with text features, in 1 sample (sound1)\n'
        "    Run `ltx preprocess` again on the whole dataset, with connector_outputs or without."
    )


def test_a_model_without_connectors_refuses_the_option(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, _ = made
    refused = "the model tiny has no text connectors, so there are no outputs of theirs to store\n    Leave this out: its text features are what its blocks attend to."
    tiny = {"model_path": "tiny"}
    assert preprocessed(folder, tiny, "tiny", "--connector-outputs", exit_code=2).strip() == f"--connector-outputs: {refused}"
    assert not (folder / "tiny").exists()
    run = run_file(folder, tiny, "tiny", tmp_path, preprocessing={"connector_outputs": True}, data={"dataset": str(folder / "set.jsonl")})
    line = next(number for number, text in enumerate(run.read_text().splitlines(), 1) if text.startswith("connector_outputs"))
    assert ltx("check", str(run), exit_code=2).strip() == f"{run}:{line}: preprocessing.connector_outputs: {refused}"


def test_the_doctor_finds_nothing_stale_in_it_unless_the_option_was_switched(made: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    folder, model = made
    for outputs, stale in ((True, 0), (False, 2)):
        preprocessing = {"connector_outputs": outputs, "audio_durations": [0.4]}
        data = {"dataset": str(folder / "set.jsonl"), "preprocessed_data_root": str(folder / "outputs"), "held_out": 0}
        run = run_file(folder, model, "outputs", tmp_path, preprocessing=preprocessing, data=data)
        assert ltx("doctor", str(run)).count("was made of another encoder") == stale

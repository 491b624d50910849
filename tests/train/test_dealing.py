"""A regularization dataset is learned beside the run's own samples, in an order and with draws of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.raw_media import sound_file
from helpers.training_runs import STOPPER, loaded_run, put, put_sound, sound_set, tables, write_run
from ltxcore.codecs.load_codecs import text_encoder
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.encoded.stored import of_captions
from ltxcore.engines.process import Processes
from ltxcore.engines.single import single_engine
from ltxcore.errors import DataError, LtxError
from ltxcore.runs.checks import check_run
from ltxcore.runs.objective_datasets import objective_datasets, with_planned
from ltxcore.runs.run_plan import RunPlan, draft, plan
from ltxcore.train.dealing import OWN, Data, data_of
from ltxcore.train.loop import Loop
from ltxcore.train.start_run import run
from ltxcore.train.trained_model import load_model
from ltxcore.train.validation_loss import held_out_of

CPU = torch.device("cpu")
FLOW = {"type": "flow_matching"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("regularization")
    sound_set(path / "data", count=10)
    for number in range(20, 29):  # longer than those of the run, and with other names
        put_sound(path / "others", number, steps=12)
    return path


def run_of(folder: Path, *objectives: Any, **changed: Any) -> LoadedRun:
    return loaded_run(folder, **{"data": {"held_out": 0}, **changed}, objectives=list(objectives))


def others(folder: Path, **keys: Any) -> dict[str, Any]:
    return {"type": "regularization", "dataset": str(folder / "others"), **keys}


def planned(loaded: LoadedRun) -> RunPlan:
    found = draft(loaded).checked()
    return with_planned(plan(found), {each.label: (each.outline.root, None) for each in objective_datasets(found)})


def loop_of(loaded: LoadedRun) -> Loop:
    of, config = planned(loaded), loaded.config
    data = data_of(of)
    samples = data.pop(OWN).samples
    model = load_model(of, samples, CPU)
    engine = single_engine(model.backbone, model.parameters, config.optimization, precision="no", device=CPU)
    strategy, accumulation = of.outline.strategy, config.optimization.gradient_accumulation_steps
    return Loop(engine, model.backbone, strategy, samples, of.order, config.seed, accumulation, 0, config.objectives, datasets=data)


def gradients(loop: Loop) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The gradients of the first step, before they are clipped, and its metrics."""
    kept = dict[str, Tensor]()
    loop.engine.max_grad_norm = 0.0
    loop.engine.optimizer.register_step_pre_hook(
        lambda *_: kept.update({name: p.grad.clone() for name, p in loop.engine.parameters.items()})
    )
    ((_, metrics),) = loop.steps(1)
    return kept, metrics


def test_its_gradient_is_added_with_its_weight_to_that_of_the_run(folder: Path) -> None:
    many = {"optimization": {"gradient_accumulation_steps": 2, "batch_size": 4, "learning_rate": 1e-3}}
    both, metrics = gradients(loop_of(run_of(folder, FLOW, others(folder, weight=0.25), **many)))
    own, alone = gradients(loop_of(run_of(folder, FLOW, **many)))
    # The same samples, as the only ones of a run that draws as the dataset does.
    apart = loop_of(run_of(folder, FLOW, others(folder), **many))
    data = apart.datasets["regularization"]
    there = Loop(apart.engine, apart.backbone, apart.strategy, data.samples, data.order, data.seed, 2, 0)
    other, found = gradients(there)
    for name, tensor in both.items():
        torch.testing.assert_close(tensor, own[name] + 0.25 * other[name], rtol=1e-5, atol=1e-8)
    assert metrics["loss/flow_matching"] == pytest.approx(alone["loss"])
    assert metrics["loss/regularization"] == pytest.approx(0.25 * found["loss"])
    assert metrics["loss/regularization/audio"] == pytest.approx(found["loss/audio"])
    assert metrics["loss"] == pytest.approx(alone["loss"] + 0.25 * found["loss"])
    assert metrics["loss/audio"] == alone["loss/audio"], "the run's own samples are told as if there were no others"


def test_its_samples_are_counted_among_the_tokens_that_the_model_sees(folder: Path) -> None:
    seen = []
    for objectives in ([FLOW], [FLOW, others(folder)]):
        _, metrics = gradients(loop_of(run_of(folder, *objectives, data={"held_out": 2})))
        seen.append(round(metrics["tokens_per_second"] * metrics["step_seconds"]))
    assert seen == [4 * 8, 4 * 8 + 4 * 12]


def test_a_step_in_which_it_is_not_drawn_reads_none_of_its_samples_and_a_resumed_run_draws_as_before(folder: Path) -> None:
    loaded = run_of(folder, FLOW, others(folder, probability=0.5))
    loop = loop_of(loaded)
    dealt = [set(each) for each in loop._dealt(0, 12)]
    metrics = [each for _, each in loop.steps(12)]
    assert [("loss/regularization" in each) for each in metrics] == ["regularization" in each for each in dealt]
    assert 0 < sum("regularization" in each for each in dealt) < 12
    names = [each["regularization"].micro_batch.names for each in loop._dealt(0, 12) if "regularization" in each]
    later = [each["regularization"].micro_batch.names for each in loop_of(loaded)._dealt(5, 12) if "regularization" in each]
    assert later == names[-len(later) :]


def test_two_processes_deal_what_one_deals(folder: Path) -> None:
    many = {"optimization": {"gradient_accumulation_steps": 2, "batch_size": 4, "learning_rate": 1e-3}}
    data = loop_of(run_of(folder, FLOW, others(folder), **many)).datasets["regularization"]
    for index in range(3):
        alone = data.step(index, accumulation=2, rank=0, world_size=1)
        shares = [data.step(index, accumulation=1, rank=rank, world_size=2) for rank in (0, 1)]
        assert [each.micro_batch for each in alone] == [each.micro_batch for share in shares for each in share]
        assert [each.weight for each in alone] == [each.weight for share in shares for each in share]


def test_a_loss_on_its_samples_that_is_not_finite_names_them(folder: Path) -> None:
    loop = loop_of(run_of(folder, FLOW, others(folder)))
    object.__setattr__(loop.objectives[1], "weight", math.inf)
    with pytest.raises(DataError, match=r"the loss is not finite \(NaN or Inf\) at step 1, samples .*sound2") as error:
        list(loop.steps(1))
    assert "sigmas audio" in str(error.value)


def test_memory_is_tried_with_its_largest_micro_batch(folder: Path) -> None:
    loop = loop_of(run_of(folder, FLOW, others(folder)))
    loop.attempt(loop.order.micro_batch(0), {"regularization": loop.datasets["regularization"].order.micro_batch(0)})
    assert all(parameter.grad is None for parameter in loop.engine.parameters.values())


def test_some_of_its_samples_are_held_out_unless_the_run_holds_out_none(folder: Path) -> None:
    apart = planned(run_of(folder, FLOW, others(folder), data={"held_out": 4})).datasets["regularization"]
    assert (len(apart.split.train), len(apart.split.held_out)) == (8, 1)
    assert planned(run_of(folder, FLOW, others(folder))).datasets["regularization"].split.held_out == ()


def test_none_of_its_samples_are_held_out_if_the_run_has_no_validation_loss_to_measure_on_them(folder: Path, tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=4)  # too few for some to be held out by default
    named = tables(tmp_path / "data", tmp_path / "out", objectives=[FLOW, others(folder)])
    del named["data"]["held_out"]
    of = planned(load_run(write_run(tmp_path, named)))
    assert (of.split.held_out, of.datasets["regularization"].split.held_out) == ((), ())
    apart = {"held_out": str(folder / "data")}
    assert len(planned(loaded_run(tmp_path, objectives=[FLOW, others(folder)], data=apart)).datasets["regularization"].split.held_out) == 1


def test_what_the_run_holds_out_is_not_trained_on_in_another_dataset_either(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=6)
    sound_set(tmp_path / "others", count=12)  # the same and others
    of = planned(run_of(tmp_path, FLOW, others(tmp_path), data={"held_out": 2}))
    there = of.datasets["regularization"]
    assert there.split.held_out == of.split.held_out
    assert len(there.split.train) == 10
    assert {name for portions in there.order.shapes for each in portions for name in each.names} == set(there.split.train)
    for name in of.split.held_out:
        put_sound(tmp_path / "held_out", int(name.removeprefix("sound")))
    with pytest.raises(DataError, match="the run holds out all samples of this dataset") as error:
        planned(run_of(tmp_path, FLOW, {"type": "regularization", "dataset": str(tmp_path / "held_out")}, data={"held_out": 2}))
    assert error.value.problems[0].where.endswith("objectives[1].dataset")


def test_the_losses_of_all_objectives_are_measured_on_held_out_clips_beside_the_runs_own(folder: Path) -> None:
    named = [FLOW, {"type": "flow_matching", "error": "l1"}, {"type": "preservation", "prompt": "own"}, others(folder)]
    loaded = run_of(folder, *named, data={"held_out": 4}, optimization={"steps": 3, "batch_size": 4, "learning_rate": 1e-2})
    of, loop = planned(loaded), loop_of(loaded)
    data = {OWN: Data(loop.samples, loop.order, loop.seed), **loop.datasets}
    held_out = held_out_of(of, data, loop.samples, of.split.held_out)
    assert held_out is not None
    before = held_out.measure(loop.engine, loop.backbone)
    alone = attrs.evolve(held_out, uses={}, further={}).measure(loop.engine, loop.backbone)
    assert {name: value for name, value in before.items() if name in alone} == alone, "the validation loss is what it is without them"
    measured = {name.split("/")[1] for name in before if name.startswith("held_out/")}
    assert measured == {"own_context", "flow_matching_2", "preservation", "regularization"}, "that of the first would be told twice"
    assert not any("ratio" in name for name in before)
    key = "audio/sigma_0.60"
    assert before[f"held_out/preservation/{key}"] == 0.0, "an untrained LoRA answers as the base does"
    assert before["held_out/regularization/clips"] == 1
    there = attrs.evolve(held_out.further["regularization"], uses={}, further={}).measure(loop.engine, loop.backbone)
    assert before[f"held_out/regularization/{key}"] == pytest.approx(there[f"held_out/own_context/{key}"])
    assert 0 < before[f"held_out/flow_matching_2/{key}"] < before[f"held_out/own_context/{key}"] ** 0.5 + 1e-6, (
        "the mean is below the root of the mean of squares"
    )
    list(loop.steps(3))
    assert held_out.measure(loop.engine, loop.backbone)[f"held_out/preservation/{key}"] > 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in loop.engine.parameters.values())


def test_its_loss_falls_below_that_of_a_run_in_which_it_has_no_weight(tmp_path: Path) -> None:
    for number in range(8):
        put_sound(tmp_path / "data", 3 * number)
        put_sound(tmp_path / "others", 3 * number + 1)  # of another pitch
    losses = []
    for objectives in ([FLOW, others(tmp_path, weight=1e-9)], [FLOW, others(tmp_path)]):
        faster = {"optimization": {"steps": 15, "batch_size": 4, "learning_rate": 5e-3}, "lora": {"rank": 8, "target_modules": "auto"}}
        loop = loop_of(run_of(tmp_path, *objectives, **faster))
        losses.append([each["loss/regularization/audio"] for _, each in loop.steps(15)])
    without, held = (sum(each[-5:]) for each in losses)
    assert losses[0][0] == losses[1][0]
    assert held < 0.98 * without


def test_a_dataset_that_does_not_fit_the_run_is_refused(folder: Path, tmp_path: Path) -> None:
    put_sound(tmp_path / "others", 1)
    (tmp_path / "others" / "audio_masks" / "sound01.safetensors").unlink()
    found = draft(run_of(folder, FLOW, others(tmp_path))).checked()
    with pytest.raises(DataError, match="audio_masks"):
        with_planned(plan(found), {"regularization": (tmp_path / "others", None)})


def test_an_interrupted_run_ends_where_one_that_was_not_interrupted_ends(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    (tmp_path / "data").symlink_to(folder / "data")
    results = {}
    for name, stops in (("once", {}), ("twice", {"plugins": ["stopper.py"], "trackers": {"stopper": {"at": 2}}})):
        (tmp_path / name).mkdir()
        keys = {
            "output_dir": str(tmp_path / name / "out"),
            "data": {"held_out": 2},
            "validation": {"inference_steps": 2, "skip_initial_validation": True},
        }
        loaded = loaded_run(tmp_path, objectives=[FLOW, others(folder, probability=0.75)], **keys, **stops)
        outcome = run(loaded, processes=Processes())
        if stops:
            assert (outcome.finished, outcome.step) == (False, 2)
            outcome = run(loaded, processes=Processes())
        assert outcome.finished
        results[name] = load_file(outcome.weights)
        status = json.loads((outcome.output_dir / "run.json").read_text())
        assert status["data"]["datasets"]["regularization"]["train"] == 8
    assert all(torch.equal(tensor, results["twice"][name]) for name, tensor in results["once"].items())


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_same_of_several_captions(tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    results = {}
    for name in ("once", "twice", "of one caption"):
        for number in range(8):
            put_sound(tmp_path / name / "data", number)
            words = [torch.randn(3, 128, generator=torch.Generator().manual_seed(number + 100 * each)) for each in range(3)]
            features = of_captions([{"video": each, "audio": each} for each in (words[:1] if name == "of one caption" else words)])
            told = {"shape": (4,), "fingerprint": f"{number} of {name}", "encoder": text_encoder("tiny").fingerprint}
            put(tmp_path / name / "data", "conditions", f"sound{number:02d}", features, **told)
        stops = {"plugins": ["../stopper.py"], "trackers": {"stopper": {"at": 2}}} if name == "twice" else {}
        validation = {"inference_steps": 2, "skip_initial_validation": True}
        loaded = loaded_run(tmp_path / name, data={"held_out": 2}, validation=validation, optimization={"steps": 6}, **stops)
        outcome = run(loaded, processes=Processes())
        assert outcome.finished == (not stops)
        results[name] = load_file((run(loaded, processes=Processes()) if stops else outcome).weights)
    assert all(torch.equal(tensor, results["twice"][name]) for name, tensor in results["once"].items())
    assert not all(torch.equal(tensor, results["of one caption"][name]) for name, tensor in results["once"].items())


def test_its_raw_media_are_encoded_on_first_use_as_those_of_the_run_are_and_checked_before(tmp_path: Path) -> None:
    for name, count in (("data", 2), ("others", 3)):
        for number in range(count):
            sound_file(tmp_path / name / f"{number}.wav", seconds=1.0)
            (tmp_path / name / f"{number}.txt").write_text("a tone")
    loaded = loaded_run(
        tmp_path,
        objectives=[FLOW, others(tmp_path)],
        data={"preprocessed_data_root": str(tmp_path / "encoded"), "dataset": str(tmp_path / "data"), "held_out": 0},
        training_strategy={"name": "flexible", "audio": {"is_generated": True, "latents_dir": "audio_latents"}},
        optimization={"steps": 1, "batch_size": 2},
        validation={"skip_initial_validation": True},
    )
    ahead = check_run(loaded)
    assert ahead.plan is None, "something is still to be encoded"
    assert [note for note in ahead.notes if "regularization" in note] == [
        f"Samples of the objective regularization: 3, not encoded yet; the first run encodes {tmp_path / 'others'}.",
        "If all samples have the same shape, the objective regularization trains on each of 3 samples 0.5 times; "
        "1 of 2 micro-batches is not full: 1.5 of 2 on average.",
    ]
    assert run(loaded, processes=Processes()).finished
    checked = check_run(loaded_of_unfinished(loaded, tmp_path))
    assert checked.plan is not None
    assert [note for note in checked.notes if "regularization" in note] == [
        "Samples of the objective regularization: 3 to train on, 0 held out.",
        "The objective regularization trains on each of 3 samples 0.5 times; 1 of 2 micro-batches is not full: 1.5 of 2 on average.",
    ]
    (tmp_path / "others" / "0.wav").unlink()
    (tmp_path / "others" / "1.wav").write_bytes(b"no sound")
    with pytest.raises(LtxError, match=r"1\.wav"):
        check_run(loaded_of_unfinished(loaded, tmp_path))


def loaded_of_unfinished(loaded: LoadedRun, folder: Path) -> LoadedRun:
    """The same run in a folder that it has not been in."""
    path = folder / "again.toml"
    path.write_text(loaded.path.read_text().replace(str(folder / "out"), str(folder / "out2")))
    return load_run(path)

"""Micro-batches of tokens: how many samples they hold, what a step learns from each, and that a resumed run goes on exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.training_runs import STOPPER, put_sound, tables, write_run
from ltxcore.cli.check import summary
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.encoded.batches import shape_of
from ltxcore.engines.process import Processes
from ltxcore.engines.single import single_engine
from ltxcore.errors import LtxError
from ltxcore.planner.costs import cost, told
from ltxcore.runs.checks import check_run
from ltxcore.runs.data_sets import plan_of, sets_of
from ltxcore.runs.read_run import read_run
from ltxcore.runs.run_plan import RunPlan, draft
from ltxcore.train.dealing import OWN, data_of
from ltxcore.train.loop import Loop
from ltxcore.train.start_run import batch, run
from ltxcore.train.trained_model import load_model
from ltxcore.train.validation_loss import held_out_of

CPU = torch.device("cpu")
STEPS = {4: 9, 8: 5, 20: 2}
"""How many sounds there are of each length in latent steps, each of which is a token."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens")
    lengths = [steps for steps, count in STEPS.items() for _ in range(count)]
    for number, steps in enumerate(lengths):
        put_sound(path / "data", number, steps=steps, given=2)
    for number in range(40, 46):
        put_sound(path / "more", number, steps=8, given=2)
    return path


def run_of(folder: Path, data: dict[str, Any] | None = None, **changed: Any) -> LoadedRun:
    """Room for 16 tokens: 4 short sounds, 2 longer ones, and not for one of the longest."""
    named = tables(folder / "data", folder / "out", **{key: each for key, each in changed.items() if key != "optimization"})
    del named["optimization"]["batch_size"]
    named["optimization"] |= {"tokens_per_batch": 16, **changed.get("optimization", {})}
    named["data"] |= {"held_out": 0, **(data or {})}
    if "sets" in named["data"]:
        del named["data"]["preprocessed_data_root"]
    return load_run(write_run(folder, named))


def planned(loaded: LoadedRun) -> RunPlan:
    found = draft(loaded).checked()
    return plan_of(found, [(each.root, None) for each in sets_of(found)])


def test_a_micro_batch_holds_as_many_samples_of_a_shape_as_have_the_tokens(folder: Path) -> None:
    plan = planned(run_of(folder))
    assert (plan.order.counts, plan.order.sizes, plan.order.per_epoch) == ((9, 5, 2), (4, 2, 0), 3 + 3 + 2)
    first = [plan.order.micro_batch(number) for number in range(plan.order.per_epoch)]
    assert sorted(name for each in first for name in each.names) == list(plan.manifest.samples)
    tokens = [sum(dict(shape_of(plan.manifest, name))["audio"][1] for name in each.names) for each in first]
    assert sorted(tokens) == [4, 8, 16, 16, 16, 16, 20, 20]


def test_appended_tokens_count(folder: Path) -> None:
    reference = {"type": "reference", "latents_dir": "audio_latents", "probability": 0.5}
    audio = {"is_generated": True, "latents_dir": "audio_latents", "conditions": [reference]}
    assert planned(run_of(folder, training_strategy={"name": "flexible", "audio": audio})).order.sizes == (2, 1, 0)


def gradients(loaded: LoadedRun) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Of the first step, before they are clipped, and its metrics."""
    of, config = planned(loaded), loaded.config
    samples = data_of(of)[OWN].samples
    model = load_model(of, samples, CPU)
    engine = single_engine(model.backbone, model.parameters, config.optimization, precision="no", device=CPU)
    engine.max_grad_norm = 0.0
    kept = dict[str, torch.Tensor]()
    engine.optimizer.register_step_pre_hook(lambda *_: kept.update({name: p.grad.clone() for name, p in engine.parameters.items()}))
    accumulation = config.optimization.gradient_accumulation_steps
    ((_, metrics),) = Loop(engine, model.backbone, of.outline.strategy, samples, of.order, config.seed, accumulation, 0).steps(1)
    return kept, metrics


def test_all_samples_of_a_step_weigh_the_same_however_many_share_a_micro_batch(folder: Path) -> None:
    """A step that is a whole pass, in micro-batches of one to four samples, and in micro-batches of one sample each."""
    kept, metrics = gradients(run_of(folder, optimization={"gradient_accumulation_steps": 8}))
    one = gradients(run_of(folder, optimization={"tokens_per_batch": 1, "gradient_accumulation_steps": 16}))
    for name, tensor in one[0].items():
        torch.testing.assert_close(kept[name], tensor, rtol=1e-4, atol=1e-8)
    for name in ("loss", "loss/audio"):
        assert metrics[name] == pytest.approx(one[1][name], rel=1e-5)


def test_processes_deal_what_one_deals(folder: Path) -> None:
    data = data_of(planned(run_of(folder)))[OWN]
    for index in range(6):
        alone = data.step(index, accumulation=4, rank=0, world_size=1)
        assert sum(each.weight * len(each.micro_batch.names) for each in alone) > 0
        for processes in (2, 4):
            ranks = [data.step(index, 4 // processes, rank, processes) for rank in range(processes)]
            dealt = [ranks[number % processes][number // processes] for number in range(4)]
            assert [(each.micro_batch, each.weight, each.draws) for each in alone] == [
                (each.micro_batch, each.weight, each.draws) for each in dealt
            ]


def test_an_interrupted_run_ends_where_one_that_was_not_interrupted_ends(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    results = {}
    sets = [{"preprocessed_data_root": str(folder / name), "repeats": repeats} for name, repeats in (("data", 1), ("more", 2))]
    for name, stops in (("once", {}), ("twice", {"plugins": ["stopper.py"], "trackers": {"stopper": {"at": 2}}})):
        keys = {"output_dir": str(tmp_path / name), "validation": {"inference_steps": 2, "skip_initial_validation": True}, **stops}
        loaded = run_of(tmp_path, {"sets": sets, "held_out": 2}, **keys)
        outcome = run(loaded, processes=Processes())
        if stops:
            assert (outcome.finished, outcome.step) == (False, 2)
            outcome = run(loaded, processes=Processes())
        assert outcome.finished
        results[name] = load_file(outcome.weights)
    assert all(torch.equal(tensor, results["twice"][name]) for name, tensor in results["once"].items())
    assert read_run(tmp_path / "once").micro_batch == "up to 16 tokens"
    metrics = [json.loads(line) for line in (tmp_path / "once" / "metrics.jsonl").read_text().splitlines()]
    assert {key for each in metrics for key in each if key.startswith("loss/audio/set_")} == {"loss/audio/set_data", "loss/audio/set_more"}
    again = load_run(tmp_path / "once" / "run.toml").config.optimization
    assert (again.batch_size, again.tokens_per_batch) == (None, 16), "the run file of the output folder is that of the run"


def test_held_out_clips_are_measured_in_as_many_at_once_as_have_the_tokens(folder: Path) -> None:
    plan = planned(run_of(folder, {"held_out": 10}))
    data = data_of(plan)
    held_out = held_out_of(plan, data, data[OWN].samples, plan.split.held_out)
    assert held_out is not None
    most = {4: 4, 8: 2, 20: 1}
    for group in held_out._groups():
        (steps,) = {dict(shape_of(plan.manifest, name))["audio"][1] for name in group}
        # One clip that is left over joins the others, so that it can be given another clip's context.
        assert len(group) <= most[steps] + 1


def test_the_check_the_plan_and_the_run_say_how_full_micro_batches_are(folder: Path) -> None:
    loaded = run_of(folder, optimization={"steps": 8})
    words = "each of 16 samples once"
    holds = "a micro-batch of up to 16 tokens holds 1 to 4 of one shape, 2 on average"
    said = f"{words}; {holds}; samples with more tokens, each in a micro-batch of its own: 2"
    assert f"The run trains on {said}." in check_run(loaded).notes
    assert dict(summary(loaded))["steps"] == "8, micro-batches of up to 16 tokens"
    found = cost(loaded, processes=1, memory=2**40)
    rows = dict(next(told(found))[1])
    assert rows["trains on"] == said
    assert rows["micro-batch"].startswith("1 of 16 encoded samples, the largest such as sound14"), "20 tokens are the most"
    more = cost(run_of(folder, optimization={"tokens_per_batch": 32}), processes=1, memory=2**40)
    assert dict(next(told(more))[1])["micro-batch"].startswith("8 of 16 encoded samples, the largest such as sound00"), "8 times 4 tokens"
    assert batch(planned(loaded), Processes()) == "2 samples on average (micro-batches of up to 16 tokens)"


def test_a_number_of_samples_beside_a_number_of_tokens_is_refused(folder: Path) -> None:
    with pytest.raises(LtxError, match=r"optimization\.tokens_per_batch: is set, but batch_size is set too\n    Remove one of the two"):
        run_of(folder, optimization={"batch_size": 2})

"""What a step learns from its objectives: their gradients add up, each with its weight, whatever else there is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from helpers.training_runs import STEPS, loaded_run, put, sound_set
from ltxcore.codecs.source import Codecs
from ltxcore.config.load import LoadedRun
from ltxcore.engines.process import Processes
from ltxcore.engines.single import SingleEngine, single_engine
from ltxcore.errors import DataError, PluginError
from ltxcore.models.base_alone import like_base
from ltxcore.objective_types import Pass
from ltxcore.protocols import ModelInput
from ltxcore.runs.prompts import prompts_of_run
from ltxcore.runs.run_plan import draft, plan
from ltxcore.train.dealing import draws_of
from ltxcore.train.feed import Samples, prepared, sent
from ltxcore.train.learning import predicted_in
from ltxcore.train.loop import Loop
from ltxcore.train.prompts import load_prompts
from ltxcore.train.trained_model import load_model

CPU = torch.device("cpu")
FLOW = {"type": "flow_matching"}
L1 = {"type": "flow_matching", "error": "l1", "weight": 0.5}
REGION = {"type": "weighted_region", "audio_region_dir": "regions", "rest": 0.25}

PLUGIN = '''
"""Objectives that learn from two passes, and from nothing."""
import attrs
from ltxcore.api import hookimpl
from ltxcore.api.objectives import Pass

@attrs.frozen
class Same:
    """Predict in one pass what is predicted in another, in which nothing is learned: as both are alike, only dropout differs."""

    passes = (Pass("model"), Pass("still", gradient=False))

    def loss(self, predicted, prepared):
        assert not any(each.requires_grad for each in predicted["still"].values())
        return {name: (predicted["model"][name] - predicted["still"][name]).square().mean(dim=(1, 2)) for name in predicted["model"]}

@attrs.frozen
class Nothing:
    """Learn video alone."""

    passes = (Pass("model"),)

    def loss(self, predicted, prepared):
        return {name: each.mean(dim=(1, 2)) for name, each in predicted["model"].items() if name == "video"}

@attrs.frozen
class Lagging:
    """Predict what the average of the weights predicts, which is asked for last."""

    passes = (Pass("model"), Pass("average", weights="ema", gradient=False))

    def loss(self, predicted, prepared):
        return {name: (each - predicted["average"][name]).square().mean(dim=(1, 2)) for name, each in predicted["model"].items()}

@hookimpl
def ltx_objectives():
    return {"same": Same, "nothing": Nothing, "lagging": Lagging}
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("learning")
    sound_set(path / "data", count=11)
    for number in range(11):
        region = (torch.arange(STEPS) >= 6).float()
        put(path / "data", "regions", f"sound{number:02d}", {"mask": region}, fingerprint=str(number), origin=f"sound{number:02d}.wav")
    (path / "two.py").write_text(PLUGIN)
    return path


def run_of(folder: Path, *objectives: Any, **changed: Any) -> LoadedRun:
    local = {"plugins": ["two.py"]} if any(each["type"] in ("same", "nothing", "lagging") for each in objectives) else {}
    return loaded_run(folder, data={"held_out": 0}, objectives=list(objectives), **local, **changed)


def loop_of(loaded: LoadedRun) -> Loop:
    planned, config = plan(draft(loaded).checked()), loaded.config
    samples = Samples(planned.outline.root, planned.outline.strategy.sources(), planned.manifest)
    model = load_model(planned, samples, CPU)
    engine = single_engine(model.backbone, model.parameters, config.optimization, precision="no", device=CPU, ema=config.ema)
    accumulation = config.optimization.gradient_accumulation_steps
    samples.texts = load_prompts(planned, prompts_of_run(config), Codecs.of(config.model), Processes())
    strategy, order = planned.outline.strategy, planned.order
    return Loop(engine, model.backbone, strategy, samples, order, config.seed, accumulation, 0, config.objectives)


def trained(loaded: LoadedRun, steps: int = 3) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    loop = loop_of(loaded)
    metrics = [each for _, each in loop.steps(steps)]
    return {name: parameter.detach() for name, parameter in loop.engine.parameters.items()}, metrics


def gradients(loaded: LoadedRun) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The gradients of the first step, before they are clipped, and its metrics."""
    loop, kept = loop_of(loaded), dict[str, Tensor]()
    loop.engine.max_grad_norm = 0.0
    loop.engine.optimizer.register_step_pre_hook(
        lambda *_: kept.update({name: p.grad.clone() for name, p in loop.engine.parameters.items()})
    )
    ((_, metrics),) = loop.steps(1)
    return kept, metrics


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")


def test_naming_the_default_changes_no_bit(folder: Path) -> None:
    weights, metrics = trained(run_of(folder))
    same, named = trained(run_of(folder, FLOW))
    assert all(torch.equal(weights[name], tensor) for name, tensor in same.items())
    for before, after in zip(metrics, named, strict=True):
        own = {name: value for name, value in after.items() if not name.startswith("loss/flow_matching")}
        timed = {"step_seconds", "tokens_per_second", "peak_memory_gib"}
        assert {name: value for name, value in own.items() if name not in timed} == {
            name: value for name, value in before.items() if name not in timed
        }
        assert after["loss/flow_matching"] == after["loss"]
        assert after["loss/flow_matching/audio"] == after["loss/audio"]


def test_the_gradient_of_a_step_is_the_weighted_sum_of_those_of_its_objectives(folder: Path) -> None:
    many = {"optimization": {"gradient_accumulation_steps": 2, "batch_size": 3, "learning_rate": 1e-3}}
    each = [gradients(run_of(folder, {**one, "weight": 1.0}, **many)) for one in (FLOW, L1, REGION)]
    both, metrics = gradients(run_of(folder, FLOW, {**L1, "weight": 0.25}, {**REGION, "weight": {"audio": 3.0}}, **many))
    assert_close(both, {name: tensor + 0.25 * each[1][0][name] + 3.0 * each[2][0][name] for name, tensor in each[0][0].items()})
    parts = [metrics[f"loss/{name}"] for name in ("flow_matching", "flow_matching_2", "weighted_region")]
    assert parts == pytest.approx([each[0][1]["loss"], 0.25 * each[1][1]["loss"], 3.0 * each[2][1]["loss"]])
    assert metrics["loss"] == pytest.approx(sum(parts))
    assert metrics["loss/weighted_region/audio"] == pytest.approx(each[2][1]["loss"])
    assert metrics["loss/audio"] == pytest.approx(each[0][1]["loss/audio"]), "the strategy's own loss is told whatever is learned"


def test_gradient_checkpointing_changes_nothing_in_what_two_objectives_learn(folder: Path) -> None:
    plain, _ = trained(run_of(folder, FLOW, REGION))
    checkpointed = run_of(folder, FLOW, REGION, optimization={"enable_gradient_checkpointing": True})
    assert_close(plain, trained(checkpointed)[0])


def test_an_objective_that_is_not_drawn_takes_no_part_in_a_step(folder: Path) -> None:
    run = run_of(folder, FLOW, {**L1, "probability": 0.5})
    _, metrics = trained(run, 8)
    learned = ["loss/flow_matching_2" in each for each in metrics]
    assert 0 < sum(learned) < 8
    for each, is_learned in zip(metrics, learned, strict=True):
        assert each["loss"] == pytest.approx(each["loss/flow_matching"] + (each["loss/flow_matching_2"] if is_learned else 0.0))
    again = [step for step, _ in enumerate(metrics) if learned[step]]
    _, resumed = trained_from(run, 4, 8)
    assert [step for step in again if step >= 4] == [4 + step for step, each in enumerate(resumed) if "loss/flow_matching_2" in each]


def trained_from(loaded: LoadedRun, first: int, last: int) -> tuple[Loop, list[dict[str, float]]]:
    loop = loop_of(loaded)
    return loop, [each for _, each in loop.steps(last, first)]


def test_a_pass_without_a_gradient_gives_none(folder: Path) -> None:
    dropped = {"lora": {"rank": 2, "target_modules": ["audio_attn1.to_q", "audio_attn1.to_v"], "dropout": 0.5}}
    both, metrics = gradients(run_of(folder, FLOW, {"type": "same"}, **dropped))
    alone, _ = gradients(run_of(folder, FLOW, **dropped))
    assert metrics["loss/same"] == 0.0, "a LoRA that has learned nothing yet predicts the same with and without dropout"
    assert_close(both, alone)


def inputs_of(loop: Loop, number: int = 0) -> dict[str, ModelInput]:
    micro_batch = loop.order.micro_batch(number)
    made = prepared(loop.strategy, loop.backbone, loop.samples.load(micro_batch.names), draws_of(loop.seed, micro_batch), CPU)
    return sent(made, CPU)


def test_without_its_adapters_a_model_answers_as_its_base_does_and_has_them_again_afterwards(folder: Path) -> None:
    loop = loop_of(run_of(folder, FLOW))
    inputs = inputs_of(loop)
    with loop.engine.evaluating():
        base = loop.engine.forward(inputs)["audio"]
    list(loop.steps(3))
    with loop.engine.evaluating():
        trained = loop.engine.forward(inputs)["audio"]
        with like_base(loop.backbone):
            alone = loop.engine.forward(inputs)["audio"]
        assert torch.equal(loop.engine.forward(inputs)["audio"], trained)
    assert torch.equal(alone, base)
    assert not torch.equal(trained, base)


def test_a_prompt_takes_the_place_of_the_captions_of_all_samples_and_changes_nothing_else(folder: Path) -> None:
    loop = loop_of(run_of(folder, FLOW, {"type": "preservation", "prompt": "a low tone"}))
    inputs = inputs_of(loop)
    seen = loop._prompts.instead(inputs, "a low tone")["audio"]
    assert seen.context.shape[0] == inputs["audio"].context.shape[0]
    assert torch.equal(seen.context[0], seen.context[-1])
    assert not torch.equal(seen.context[0, -1], inputs["audio"].context[0, -1])
    for name in ("tokens", "timesteps", "positions", "velocity", "loss_mask"):
        assert torch.equal(getattr(seen, name), getattr(inputs["audio"], name))


def test_what_is_preserved_costs_nothing_until_something_is_learned_and_then_holds_it_back(folder: Path) -> None:
    faster = {"optimization": {"steps": 30, "batch_size": 4, "learning_rate": 5e-3}}
    _, metrics = trained(run_of(folder, FLOW, {"type": "preservation", "prompt": "a low tone", "weight": 10.0}, **faster), 30)
    assert metrics[0]["loss/preservation"] == 0.0
    assert 0 < metrics[-1]["loss/preservation"] < metrics[-1]["loss/flow_matching"]
    alone = [
        each["loss/preservation"]
        for each in trained(run_of(folder, FLOW, {"type": "preservation", "prompt": "a low tone", "weight": 1e-9}, **faster), 30)[1]
    ]
    held = [each["loss/preservation"] / 10 for each in metrics]
    assert sum(held[-5:]) < 0.3 * sum(alone[-5:]) / 1e-9


def test_a_slider_alone_is_learned_and_the_flow_matching_loss_is_told_beside_it(folder: Path) -> None:
    slider = {"type": "slider", "towards": "a high tone", "away_from": "a low tone"}
    _, metrics = trained(run_of(folder, slider, optimization={"steps": 30, "batch_size": 4, "learning_rate": 5e-3}), 30)
    assert metrics[-1]["loss/slider"] < 0.8 * metrics[0]["loss/slider"]
    assert all("loss/audio" in each for each in metrics)
    prompted = trained(run_of(folder, {**slider, "prompt": "a tone"}), 1)[1]
    assert "loss/audio" not in prompted[0], "no pass sees the samples as they are"


def test_a_guided_pass_leads_the_answer_to_the_caption_away_from_that_to_the_empty_caption(folder: Path) -> None:
    loop = loop_of(run_of(folder, FLOW, {"type": "distill"}))
    list(loop.steps(2))
    inputs = inputs_of(loop)
    with loop.engine.evaluating(), like_base(loop.backbone):
        text = loop.engine.forward(inputs)["audio"]
        empty = loop.engine.forward(loop._prompts.instead(inputs, ""))["audio"]
    assert not torch.equal(text, empty)
    for guidance, scale in ((3.0, 3.0), ({"audio": 2.0}, 2.0), ({"video": 3.0}, 1.0)):
        teacher = Pass("teacher", adapters=False, gradient=False, guidance=guidance)
        found = predicted_in(loop.engine, loop._prompts, teacher, inputs)["audio"]
        torch.testing.assert_close(found, empty + scale * (text - empty))
    frozen = {"audio": attrs.evolve(inputs["audio"], is_generated=False)}
    alone = predicted_in(loop.engine, loop._prompts, attrs.evolve(teacher, guidance=3.0), frozen)["audio"]
    assert torch.equal(alone, text), "what is not generated is not guided"


def test_a_pass_with_the_average_has_no_dropout_and_leaves_the_weights_as_they_are(folder: Path) -> None:
    dropped = {"lora": {"rank": 2, "target_modules": "auto", "dropout": 0.5}, "ema": {"decay": 0.9}}
    loop = loop_of(run_of(folder, FLOW, **dropped))
    list(loop.steps(4))
    inputs, engine = inputs_of(loop), loop.engine
    before = {name: parameter.detach().clone() for name, parameter in engine.parameters.items()}
    teacher = Pass("teacher", weights="ema", gradient=False)
    found = predicted_in(engine, loop._prompts, teacher, inputs)["audio"]
    with engine.evaluating(), engine.averaged():
        assert torch.equal(engine.forward(inputs)["audio"], found)
        assert torch.equal(predicted_in(engine, loop._prompts, teacher, inputs)["audio"], found), "where the average is measured, too"
    with engine.evaluating():
        assert not torch.equal(engine.forward(inputs)["audio"], found)
    assert all(torch.equal(parameter, before[name]) for name, parameter in engine.parameters.items())


def test_the_average_is_asked_before_anything_that_is_differentiated(folder: Path) -> None:
    _, metrics = trained(run_of(folder, FLOW, {"type": "lagging", "weight": 0.5}, ema={"decay": 0.9}), 3)
    assert metrics[-1]["loss/lagging"] > 0


def test_a_model_learns_in_one_pass_what_its_base_predicts_with_guidance(folder: Path) -> None:
    distill = {"type": "distill", "guidance": 3.0}
    faster = {"optimization": {"steps": 25, "batch_size": 4, "learning_rate": 5e-3}, "lora": {"rank": 8, "target_modules": "auto"}}
    _, metrics = trained(run_of(folder, distill, **faster), 25)
    losses = [each["loss/distill"] for each in metrics]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert all("loss/audio" in each for each in metrics), "its own pass sees the samples as they are"
    taught = run_of(folder, {**distill, "teacher": "ema"}, ema={"decay": 0.9}, **faster)
    average = [each["loss/distill"] for each in trained(taught, 4)[1]]
    assert average[0] == pytest.approx(losses[0]), "an average that has learned nothing yet predicts what the base does"
    assert average[3] != pytest.approx(losses[3], rel=1e-3), "and then follows the model"


def test_an_objective_without_a_loss_in_this_run_is_told(folder: Path) -> None:
    with pytest.raises(PluginError, match='the objective "nothing" has no loss in a run of audio'):
        trained(run_of(folder, FLOW, {"type": "nothing"}), 1)


def test_a_loss_of_any_objective_that_is_not_finite_stops_the_run_before_anything_is_updated(folder: Path) -> None:
    loop = loop_of(run_of(folder, FLOW, {**REGION, "weight": 1e5}))
    object.__setattr__(loop.objectives[1], "weight", math.inf)
    before = {name: parameter.detach().clone() for name, parameter in loop.engine.parameters.items()}
    with pytest.raises(DataError, match=r"the loss is not finite \(NaN or Inf\) at step 1, samples"):
        list(loop.steps(1))
    assert all(torch.equal(parameter, before[name]) for name, parameter in loop.engine.parameters.items())


def test_whether_memory_suffices_is_tried_with_every_objective(folder: Path) -> None:
    loop = loop_of(run_of(folder, FLOW, {**L1, "probability": 1e-9}))
    engine = Asked(**{field.name: getattr(loop.engine, field.name) for field in attrs.fields(SingleEngine) if field.init})
    attrs.evolve(loop, engine=engine).attempt(loop.order.micro_batch(0))
    assert engine.asked == [False, True]
    assert all(parameter.grad is None for parameter in engine.parameters.values())


@attrs.define(eq=False)
class Asked(SingleEngine):
    """Notes each backward, and whether it is the last of its micro-batch."""

    asked: list[bool] = attrs.field(factory=list)

    def backward(self, loss: Tensor, last: bool = True) -> None:
        self.asked.append(last)
        SingleEngine.backward(self, loss, last)


def own_losses(loop: Loop, region: bool) -> float:
    """The mean error of what is predicted in the region, or outside of it, on all samples."""
    found = list(_errors(loop, region))
    return sum(found) / len(found)


def _errors(loop: Loop, region: bool) -> Iterator[float]:
    for number in range(4):
        micro_batch = loop.order.micro_batch(number)
        batch = loop.samples.load(micro_batch.names)
        inputs = sent(prepared(loop.strategy, loop.backbone, batch, draws_of(loop.seed, micro_batch), CPU), CPU)
        with loop.engine.evaluating():
            error = (loop.engine.forward(inputs)["audio"] - inputs["audio"].velocity).square().mean(dim=-1)
        inside = (batch.masks["objectives.weighted_region.audio_region"] > 0.5) == region
        yield float(error[inside & inputs["audio"].loss_mask].mean())


@pytest.mark.slow
def test_a_weighted_region_is_learned_first(folder: Path) -> None:
    longer = {"optimization": {"steps": 60, "batch_size": 4, "learning_rate": 5e-3}, "lora": {"rank": 8, "target_modules": "auto"}}
    loop = loop_of(run_of(folder, {**REGION, "rest": 0.02}, **longer))
    before = [own_losses(loop, region) for region in (True, False)]
    list(loop.steps(60))
    inside, outside = (after / first for after, first in zip([own_losses(loop, region) for region in (True, False)], before, strict=True))
    assert inside < 0.9 * outside

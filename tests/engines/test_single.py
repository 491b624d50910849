"""The engine of one process: ten recorded steps, accumulation, clipping, precision, gradients that are not finite, and exact resume."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from helpers.golden_draws import Recorded, batch_of, strategy_of
from helpers.golden_io import Case, load_case
from helpers.golden_models import load_golden
from helpers.optimizers import optimization, schedule
from ltxcore.config.run_file import OptimizationTable
from ltxcore.engines.single import SingleEngine, single_engine
from ltxcore.errors import CheckpointError
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters
from ltxcore.models.parameter_names import to_diffusers
from ltxcore.protocols import ModelInput
from ltxcore.runs import checkpoint

CPU = torch.device("cpu")
AUDIO = frozenset({"audio"})
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]


def table(**keys: object) -> OptimizationTable:
    return optimization(**{"learning_rate": 1e-3, "steps": 10, "scheduler_type": "constant", "max_grad_norm": 0.0, **keys})


def tiny(dropout: float = 0.0) -> LTXBackbone:
    backbone = load_backbone("tiny-untrained", AUDIO, dtype=torch.float32, seed=1)
    add_lora(backbone, rank=4, alpha=4, dropout=dropout, target_modules=["to_q", "to_v"])
    return backbone


def engine_of(backbone: LTXBackbone, precision: str = "no", **keys: object) -> SingleEngine:
    return single_engine(backbone, lora_parameters(backbone), table(**keys), precision=precision, device=CPU)


def inputs(seed: int, size: int = 2) -> dict[str, ModelInput]:
    generator = torch.Generator().manual_seed(seed)
    sigma = torch.rand(size, generator=generator)
    positions = torch.stack([torch.arange(5.0), torch.arange(1.0, 6.0)], dim=-1).expand(size, 1, 5, 2) * 0.04
    return {
        "audio": ModelInput(
            tokens=torch.randn(size, 5, 128, generator=generator),
            sigma=sigma,
            timesteps=sigma[:, None].expand(size, 5),
            positions=positions,
            context=torch.randn(size, 3, 128, generator=generator),
            velocity=torch.randn(size, 5, 128, generator=generator),
        )
    }


def loss_of(engine: SingleEngine, given: dict[str, ModelInput]) -> Tensor:
    return (engine.forward(given)["audio"] - given["audio"].velocity).square().mean()


def gradients(engine: SingleEngine) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in engine.parameters.items() if parameter.grad is not None}


def weights(engine: SingleEngine) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in engine.parameters.items()}


def one_step(engine: SingleEngine, seed: int) -> float:
    for number in range(engine.accumulation):
        engine.backward(loss_of(engine, inputs(seed + 100 * number)))
    return engine.step()


def name_of(recorded: str) -> str:
    module, _, rest = recorded.removeprefix("diffusion_model.").rpartition(".lora_")
    return f"transformer.{to_diffusers(module)}.lora_{rest.replace('.weight', '.default.weight')}"


def recorded_lora(case: Case, prefix: str = "") -> dict[str, Tensor]:
    return {name_of(key.removeprefix(prefix)): value for key, value in case.outputs.items() if key.startswith(prefix + "diffusion_model.")}


def test_ten_adamw_steps_of_a_lora_agree_with_the_recording(tmp_path: Path) -> None:
    case, batches, start = (
        load_case("07_trajectory", "plain"),
        load_case("07_trajectory", "batches"),
        recorded_lora(load_case("06_model", "lora.weights")),
    )
    backbone = load_golden("B", tmp_path)
    add_lora(backbone, rank=4, alpha=8, dropout=0.0, target_modules=TARGETS)
    engine = engine_of(backbone)
    with torch.no_grad():
        for name, parameter in engine.parameters.items():
            parameter.copy_(start[name])
    strategy = strategy_of(case.config)
    losses, norms = [], []
    for step in range(10):
        prefix = f"step{step:02d}."
        given = attrs_of(batches, prefix)
        draws = {
            "video.noise": given.inputs["video.noise"],
            "audio.noise": given.inputs["audio.noise"],
        }
        sigmas = {name: given.inputs[f"{name}.sigma"] for name in ("video", "audio")}
        fixed = attrs.evolve(strategy, setting=attrs.evolve(strategy.setting, sigma_sampler=RecordedSigma(sigmas)))
        batch = batch_of(given, fixed)
        prepared = fixed.prepare(batch, Recorded(draws, len(batch.names)))
        loss = sum(fixed.loss(engine.forward(prepared), prepared).values()).mean()
        engine.backward(loss)
        losses.append(float(loss.detach()))
        norms.append(engine.step())
    assert losses == pytest.approx(case.scalars["losses"], rel=case.tolerance["rtol"], abs=case.tolerance["atol"])
    assert norms == pytest.approx(case.scalars["grad_norms_before_clip"], rel=1e-4)
    final = recorded_lora(case, "final/")
    moved = torch.cat([(parameter.detach() - start[name]).flatten() for name, parameter in engine.parameters.items()])
    expected = torch.cat([(final[name] - start[name]).flatten() for name in engine.parameters])
    assert torch.nn.functional.cosine_similarity(moved, expected, dim=0) > 0.99999


@attrs.frozen
class RecordedSigma:
    sigmas: dict[str, Tensor]

    def sample(self, draws: object, key: str, tokens: int) -> Tensor:
        return self.sigmas[key.partition(".")[0]]


def attrs_of(case: Case, prefix: str) -> Case:
    found = {key.removeprefix(prefix): value for key, value in case.inputs.items() if key.startswith(prefix)}
    return Case(case.group, case.id, case.title, case.config, found, {}, {}, {}, [], case.tolerance, case.origin)


def test_accumulated_gradients_are_the_mean_over_micro_batches() -> None:
    engine = engine_of(tiny(), gradient_accumulation_steps=3)
    alone = []
    for seed in range(3):
        loss_of(engine, inputs(seed)).backward()
        alone.append(gradients(engine))
        engine.optimizer.zero_grad()
    for seed in range(3):
        engine.backward(loss_of(engine, inputs(seed)))
    for name, found in gradients(engine).items():
        torch.testing.assert_close(found, sum(one[name] for one in alone) / 3, rtol=1e-5, atol=1e-9)


def test_a_step_tells_the_norm_before_clipping_and_clips_to_the_limit() -> None:
    engine = engine_of(tiny(), max_grad_norm=1e-3)
    engine.backward(loss_of(engine, inputs(0)))
    before = gradients(engine)
    norm = torch.cat([gradient.flatten() for gradient in before.values()]).norm()
    kept: dict[str, Tensor] = {}
    engine.optimizer.register_step_pre_hook(lambda *_: kept.update(gradients(engine)))
    assert engine.step() == pytest.approx(float(norm), rel=1e-5)
    assert float(norm) > 1e-3
    for name, gradient in kept.items():
        torch.testing.assert_close(gradient, before[name] * 1e-3 / norm, rtol=1e-4, atol=1e-12)


def test_without_a_limit_gradients_are_not_clipped() -> None:
    engine = engine_of(tiny(), max_grad_norm=0.0)
    engine.backward(loss_of(engine, inputs(0)))
    before = gradients(engine)
    kept: dict[str, Tensor] = {}
    engine.optimizer.register_step_pre_hook(lambda *_: kept.update(gradients(engine)))
    engine.step()
    assert all(torch.equal(gradient, before[name]) for name, gradient in kept.items())
    assert gradients(engine) == {}


def test_a_gradient_that_is_not_finite_updates_nothing_and_stays_to_be_looked_at() -> None:
    engine = engine_of(tiny(), scheduler_type="linear", max_grad_norm=1.0)
    before, rate = weights(engine), engine.learning_rates
    engine.backward(loss_of(engine, inputs(0)) * float("inf"))
    assert not torch.isfinite(torch.tensor(engine.step()))
    assert engine.learning_rates == rate
    assert gradients(engine)
    assert all(torch.equal(found, before[name]) for name, found in weights(engine).items())


def test_a_parameter_that_no_loss_reached_is_updated_as_with_a_gradient_of_zero() -> None:
    missing, zeros = engine_of(tiny()), engine_of(tiny())
    for engine in (missing, zeros):
        one_step(engine, 0)
    before = weights(missing)
    for engine in (missing, zeros):
        engine.backward(next(iter(engine.parameters.values())).square().sum())
    assert len(gradients(missing)) == 1
    for parameter in zeros.parameters.values():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    assert missing.step() == zeros.step()
    for name, found in weights(missing).items():
        assert torch.equal(found, weights(zeros)[name])
        assert not torch.equal(found, before[name]), "momentum and weight decay go on"


def test_the_schedule_advances_once_a_step_whatever_the_accumulation() -> None:
    engine = engine_of(tiny(), scheduler_type="linear", gradient_accumulation_steps=4)
    rates = []
    for seed in range(3):
        rates.append(engine.learning_rates)
        one_step(engine, seed)
    assert [rate[""] for rate in rates] == pytest.approx([1e-3 * (1 - 0.09 * step) for step in range(3)])


def test_bf16_computes_in_half_precision_and_trains_float32_weights() -> None:
    whole, half = engine_of(tiny()), engine_of(tiny(), precision="bf16")
    given = inputs(0)
    with torch.no_grad():
        exact, rounded = whole.forward(given)["audio"], half.forward(given)["audio"]
    assert rounded.dtype == torch.float32
    assert 0 < float((exact - rounded).abs().max()) < 0.05 * float(exact.abs().max())
    one_step(half, 0)
    assert {parameter.dtype for parameter in half.parameters.values()} == {torch.float32}


def test_evaluating_switches_dropout_and_gradients_off_and_puts_them_back() -> None:
    backbone = tiny(dropout=0.5)
    engine = engine_of(backbone)
    backbone.train()
    one_step(engine, 0)
    with engine.evaluating():
        first, second = engine.forward(inputs(0))["audio"], engine.forward(inputs(0))["audio"]
        assert torch.equal(first, second)
        assert not first.requires_grad
    assert backbone.training
    assert engine.forward(inputs(0))["audio"].requires_grad


GROUPS = {"groups": [{"name": "late", "blocks": "2-3", "learning_rate": 1e-4, "weight_decay": 0.1}], "lora_plus_ratio": 4.0}


KINDS = ["constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "step"]


@pytest.mark.parametrize(("kind", "keys"), [*((kind, {}) for kind in KINDS), ("cosine", {**GROUPS, "warmup_steps": 4})])
def test_an_engine_that_goes_on_from_a_saved_state_takes_the_same_steps_to_the_last_bit(kind: str, keys: dict[str, Any]) -> None:
    keys = {"scheduler_type": kind, "gradient_accumulation_steps": 2, **keys}
    whole = engine_of(tiny(), **keys)
    norms = [one_step(whole, seed) for seed in range(6)]
    first = engine_of(tiny(), **keys)
    for seed in range(3):
        one_step(first, seed)
    tensors, values = first.state()
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    second = engine_of(tiny(), **keys)
    second.restore(saved, values)
    assert [one_step(second, seed) for seed in range(3, 6)] == norms[3:]
    assert all(torch.equal(found, weights(whole)[name]) for name, found in weights(second).items())
    assert second.learning_rates == whole.learning_rates


class Estimating(torch.optim.Optimizer):
    """Gradient descent that finds its step size by itself, as Prodigy does: a number and a tensor of its group, and state of other shapes than its parameters'."""

    def __init__(self, parameters: Iterable[Any]) -> None:
        super().__init__(parameters, {"lr": 1.0, "d": 1e-6, "range": (0.0, 1.0), "count": torch.zeros(()), "name": "estimating"})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["d"] *= 1.5
            group["range"] = (group["range"][0] + group["d"], 1.0)
            group["count"] = group["count"] + 1
            for parameter in group["params"]:
                state = self.state[parameter]
                state["seen"] = torch.cat([state.get("seen", torch.zeros(0)), parameter.grad.norm()[None]])
                state["steps"] = state.get("steps", 0) + 1
                parameter.sub_(parameter.grad * group["lr"] * group["d"] * group["count"] * (1 + group["range"][0]) * state["seen"].mean())


def estimating(steps: Iterable[int]) -> SingleEngine:
    engine = engine_of(tiny(), scheduler_type="linear")
    optimizer = Estimating(engine.parameters.values())
    engine = attrs.evolve(engine, optimizer=optimizer, scheduler=schedule(optimizer, "linear", {}, 6))
    for seed in steps:
        one_step(engine, seed)
    return engine


@pytest.mark.parametrize("is_changed", [False, True])
def test_what_an_optimizer_finds_out_by_itself_is_gone_on_with_also_under_another_schedule(is_changed: bool, tmp_path: Path) -> None:
    whole = estimating(range(6))
    first = estimating(range(3))
    tensors, values = first.state()
    assert values["groups"] == [{"d": 1e-6 * 1.5 * 1.5 * 1.5, "range": first.optimizer.param_groups[0]["range"]}]
    saved = checkpoint.save(tmp_path, 3, {"lora.safetensors": lambda path: path.touch()}, (tensors, values))
    tensors, values = checkpoint.load_state(saved)
    kept = {key: value for key, value in values.items() if key not in ("scheduler", "learning_rates")}
    second = estimating(())
    second.restore(tensors, {**kept, "steps": 3} if is_changed else values)
    for seed in range(3, 6):
        one_step(second, seed)
    assert second.optimizer.param_groups[0]["range"] == whole.optimizer.param_groups[0]["range"]
    assert all(torch.equal(found, weights(whole)[name]) for name, found in weights(second).items())


def test_the_groups_of_an_engine_learn_at_their_own_rates() -> None:
    one, grouped = engine_of(tiny()), engine_of(tiny(), groups=[{"name": "late", "blocks": "2-3", "learning_rate": 1e-4}])
    assert grouped.learning_rates == {"": 1e-3, "late": 1e-4}
    before = weights(one)
    for engine in (one, grouped):
        one_step(engine, 0)
    for name, found in weights(grouped).items():
        late = "transformer_blocks.2." in name or "transformer_blocks.3." in name
        moved = (found - before[name]) * (10 if late else 1)
        torch.testing.assert_close(moved, weights(one)[name] - before[name], rtol=2e-3, atol=1e-7)


def test_what_one_group_found_out_by_itself_is_taken_over_by_the_groups_of_another_run_file() -> None:
    first = estimating(range(3))
    tensors, values = first.state()
    engine = engine_of(tiny(), scheduler_type="linear")
    halves = list(engine.parameters.values())
    optimizer = Estimating([{"params": halves[::2]}, {"params": halves[1::2]}])
    second = attrs.evolve(engine, optimizer=optimizer, scheduler=schedule(optimizer, "linear", {}, 6))
    kept = {key: value for key, value in values.items() if key not in ("scheduler", "learning_rates")}
    second.restore(tensors, {**kept, "steps": 3})
    assert [group["d"] for group in optimizer.param_groups] == [first.optimizer.param_groups[0]["d"]] * 2
    assert [int(group["count"]) for group in optimizer.param_groups] == [3, 3]


def test_a_state_of_0_1_0_has_no_groups_and_is_gone_on_with() -> None:
    first, second = engine_of(tiny()), engine_of(tiny())
    one_step(first, 0)
    tensors, values = first.state()
    del values["groups"]
    second.restore(tensors, values)
    assert one_step(second, 1) == one_step(first, 1)
    assert all(torch.equal(found, weights(first)[name]) for name, found in weights(second).items())


def test_a_state_without_moments_keeps_parameters_and_schedule() -> None:
    engine = engine_of(tiny(), scheduler_type="linear")
    one_step(engine, 0)
    tensors, values = engine.state(moments=False)
    assert {name.partition("/")[0] for name in tensors} == {"parameter"}
    other = engine_of(tiny(), scheduler_type="linear")
    other.restore(tensors, values)
    assert other.learning_rates == engine.learning_rates
    assert all(torch.equal(found, weights(engine)[name]) for name, found in weights(other).items())


def test_a_state_of_another_model_is_refused_and_names_the_parameters() -> None:
    engine = engine_of(tiny())
    tensors, values = engine.state()
    name = next(iter(engine.parameters))
    tensors["parameter/stranger"] = tensors.pop(f"parameter/{name}")
    with pytest.raises(CheckpointError) as error:
        engine.restore(tensors, values)
    assert str(error.value) == (
        f"the saved parameters are not those of this run: stranger, {name}\n    Resume with the run file that the checkpoint was saved with."
    )


def test_losses_are_read_with_the_norm_before_anything_is_updated() -> None:
    engine, plain = engine_of(tiny()), engine_of(tiny())
    told: list[tuple[list[float], bool]] = []
    before = weights(engine)

    def agreed(values: list[float], is_sound: bool) -> bool:
        told.append((values, is_sound))
        assert all(torch.equal(found, before[name]) for name, found in weights(engine).items())
        return len(told) > 1

    losses = []
    for each in (engine, plain):
        losses.append(loss_of(each, inputs(0)))
        each.backward(losses[-1])
    engine.step(losses[0].reshape(1), agreed)
    assert all(torch.equal(found, before[name]) for name, found in weights(engine).items()), "it was not agreed to"
    assert engine.step(losses[0].reshape(1), agreed) == plain.step()
    assert told == [([losses[0].item()], True)] * 2
    assert all(torch.equal(found, weights(plain)[name]) for name, found in weights(engine).items())

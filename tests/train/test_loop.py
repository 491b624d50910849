"""The loop: the same draws whatever the process, weights of uneven micro-batches, dropout, and what is not finite."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from helpers.training_runs import loaded_run, put, sound_set
from ltxcore.codecs.load_codecs import text_encoder
from ltxcore.config.load import LoadedRun
from ltxcore.encoded.batches import MicroBatch
from ltxcore.encoded.micro_batch import as_taken, padded_text
from ltxcore.encoded.sample_names import files_in
from ltxcore.encoded.shards import pack
from ltxcore.encoded.stored import of_captions
from ltxcore.engines.single import SingleEngine, single_engine
from ltxcore.errors import DataError
from ltxcore.flow.loss import total_loss
from ltxcore.protocols import Batch, Draws, ModelInput, Strategy
from ltxcore.runs.run_plan import RunPlan, draft, plan
from ltxcore.train.dealing import OWN, draws_of
from ltxcore.train.feed import Samples
from ltxcore.train.loop import Loop
from ltxcore.train.trained_model import load_model

CPU = torch.device("cpu")


def loop_of(loaded: LoadedRun) -> Loop:
    planned: RunPlan = plan(draft(loaded).checked())
    config = loaded.config
    samples = Samples(planned.outline.root, planned.outline.strategy.sources(), planned.manifest)
    model = load_model(planned, samples, CPU)
    engine = single_engine(model.backbone, model.parameters, config.optimization, precision="no", device=CPU)
    accumulation, workers = config.optimization.gradient_accumulation_steps, config.data.num_dataloader_workers
    return Loop(engine, model.backbone, planned.outline.strategy, samples, planned.order, config.seed, accumulation, workers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loop")
    sound_set(path / "data", count=11)
    return path


def losses(loop: Loop, total: int = 4) -> list[float]:
    return [metrics["loss"] for _, metrics in loop.steps(total)]


def test_each_step_has_its_number_and_all_of_its_metrics(folder: Path) -> None:
    found = list(loop_of(loaded_run(folder, data={"held_out": 0})).steps(3))
    assert [step for step, _ in found] == [1, 2, 3]
    always = {"loss", "loss/audio", "uncounted/audio", "loss/audio/audio.cond0.mask/applied"}
    always |= {"learning_rate", "grad_norm", "step_seconds", "tokens_per_second", "peak_memory_gib"}
    for _, metrics in found:
        assert always <= metrics.keys()
        assert {name for name in metrics.keys() - always if not name.startswith("loss/audio/sigma_")} == set()
        assert metrics["loss"] == pytest.approx(metrics["loss/audio"])


def test_a_run_takes_the_same_steps_again_however_many_threads_read(folder: Path) -> None:
    first = losses(loop_of(loaded_run(folder, data={"held_out": 0})))
    again = losses(loop_of(loaded_run(folder, data={"held_out": 0, "num_dataloader_workers": 3})))
    other = losses(loop_of(loaded_run(folder, data={"held_out": 0}, seed=43)))
    assert first == again
    assert first != other


def test_the_loss_of_a_step_is_the_mean_over_its_samples_and_so_is_its_gradient(folder: Path) -> None:
    """Eleven samples in micro-batches of 8 and 3: their mean, not the mean of two means."""
    loop = loop_of(
        loaded_run(folder, data={"held_out": 0}, optimization={"batch_size": 8, "gradient_accumulation_steps": 2, "max_grad_norm": 0.0})
    )
    kept: dict[str, torch.Tensor] = {}
    loop.engine.optimizer.register_step_pre_hook(
        lambda *_: kept.update({name: p.grad.clone() for name, p in loop.engine.parameters.items()})
    )
    whole = loop_of(loaded_run(folder, data={"held_out": 0}, optimization={"batch_size": 11, "max_grad_norm": 0.0}))
    expected: dict[str, torch.Tensor] = {}
    whole.engine.optimizer.register_step_pre_hook(
        lambda *_: expected.update({name: p.grad.clone() for name, p in whole.engine.parameters.items()})
    )
    (found,), (wanted,) = losses(loop, 1), losses(whole, 1)
    assert found == pytest.approx(wanted, rel=1e-5)
    for name, gradient in kept.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7)


@attrs.define(eq=False)
class OneOfTwo(SingleEngine):
    """The engine of one of two processes, as far as dealing goes."""

    number: int = 0

    @property
    def rank(self) -> int:
        return self.number

    @property
    def world_size(self) -> int:
        return 2


def dealt(loop: Loop, first: int = 0, total: int = 3) -> list[MicroBatch]:
    return [dealt[OWN].micro_batch for dealt in loop._dealt(first, total)]


def test_two_processes_take_the_micro_batches_that_one_takes_with_twice_the_accumulation(folder: Path) -> None:
    alone = dealt(loop_of(loaded_run(folder, data={"held_out": 0}, optimization={"gradient_accumulation_steps": 2})))
    loop = loop_of(loaded_run(folder, data={"held_out": 0}))
    fields = {field.name: getattr(loop.engine, field.name) for field in attrs.fields(SingleEngine) if field.init}
    halves = [dealt(attrs.evolve(loop, engine=OneOfTwo(**fields, number=number))) for number in range(2)]
    assert [batch for pair in zip(*halves, strict=True) for batch in pair] == alone


@attrs.define(eq=False)
class BesideOneThatFails(OneOfTwo):
    """The other process could not read its samples."""

    def gather(self, value: object) -> list[object]:
        return [value, True]


def test_a_micro_batch_that_another_process_could_not_read_is_not_tried(folder: Path) -> None:
    loop = loop_of(loaded_run(folder, data={"held_out": 0}))
    fields = {field.name: getattr(loop.engine, field.name) for field in attrs.fields(SingleEngine) if field.init}
    with pytest.raises(DataError, match="another process could not read the micro-batch"):
        attrs.evolve(loop, engine=BesideOneThatFails(**fields)).attempt(loop.order.micro_batch(0))
    loop.attempt(loop.order.micro_batch(0))
    assert all(parameter.grad is None for parameter in loop.engine.parameters.values())


def test_a_run_that_goes_on_takes_the_micro_batches_that_come_next(folder: Path) -> None:
    loop = loop_of(loaded_run(folder, data={"held_out": 0}, optimization={"gradient_accumulation_steps": 2}))
    assert dealt(loop, 2, 5) == dealt(loop, 0, 5)[4:]


def test_the_captions_of_micro_batches_are_those_that_their_draws_choose(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=3)
    for number in range(3):
        words = [torch.full((2, 128), float(each)) for each in range(4)]
        told = {"shape": (4,), "fingerprint": "four", "encoder": text_encoder("tiny").fingerprint}
        put(tmp_path / "data", "conditions", f"sound{number:02d}", of_captions([{"video": each, "audio": each} for each in words]), **told)
    loop = loop_of(loaded_run(tmp_path, data={"held_out": 0}, optimization={"batch_size": 3}))
    for parts in loop._dealt(0, 4):
        dealt = parts[OWN]
        wanted = (4 * dealt.draws.uniform("caption.u")).floor()
        assert padded_text(dealt.load(loop.strategy)).features["audio"][:, -1, 0].tolist() == wanted.tolist()


def test_dropout_is_the_same_in_every_run_and_leaves_the_global_generator_alone(folder: Path) -> None:
    run = loaded_run(folder, data={"held_out": 0}, lora={"dropout": 0.5}, optimization={"learning_rate": 0.1})
    torch.manual_seed(1)
    first = losses(loop_of(run))
    after = torch.rand(1)
    torch.manual_seed(2)
    assert losses(loop_of(run)) == first
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    assert losses(loop_of(loaded_run(folder, data={"held_out": 0}, optimization={"learning_rate": 0.1}))) != first


def sigmas_of(loop: Loop, step: int) -> str:
    inputs = loop.strategy.prepare(
        as_taken(loop.samples.load(loop.order.micro_batch(step).names)), draws_of(loop.seed, loop.order.micro_batch(step))
    )
    return ", ".join(f"{sigma:.3f}" for sigma in inputs["audio"].sigma.tolist())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_samples_sigmas_and_module(folder: Path) -> None:
    loop = loop_of(loaded_run(folder, data={"held_out": 0}))
    name = "transformer.transformer_blocks.2.audio_attn1.to_v.lora_A.default"
    steps = loop.steps(4)
    next(steps)
    with torch.no_grad():
        loop.engine.parameters[f"{name}.weight"].fill_(float("nan"))
    with pytest.raises(DataError) as error:
        next(steps)
    assert str(error.value) == (
        f"the loss is not finite (NaN or Inf) at step 2, samples {', '.join(loop.order.micro_batch(1).names)}, "
        f"sigmas audio {sigmas_of(loop, 1)}, first in {name}\n"
        "    Nothing was updated in this step. Check these samples, lower optimization.learning_rate, or lower optimization.max_grad_norm."
    )


def test_a_file_whose_values_were_damaged_after_listing_is_named_where_its_loss_is_not_finite(folder: Path, tmp_path: Path) -> None:
    loop = loop_of(loaded_run(shutil.copytree(folder, tmp_path / "run"), data={"held_out": 0}))
    wrong = loop.order.micro_batch(1).names[0]
    path = loop.samples.root / "audio_latents" / f"{wrong}.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")
    with pytest.raises(DataError) as error:
        list(loop.steps(2))
    first, damaged = error.value.problems
    assert first.what.startswith(f"the loss is not finite (NaN or Inf) at step 2, samples {', '.join(loop.order.micro_batch(1).names)}, ")
    assert (damaged.where, damaged.what) == (str(path), "is damaged: its content differs from what was written")


@attrs.frozen(eq=False)
class Spoiled:
    """The strategy of a run whose loss of a sample is not finite, and without a gradient, so that only the loss itself tells."""

    inner: Strategy
    at: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def prepare(self, batch: Batch, draws: Draws) -> Mapping[str, ModelInput]:
        marked = {"spoiled": torch.tensor([name == self.at for name in batch.names])}
        return {name: attrs.evolve(given, applied=marked) for name, given in self.inner.prepare(batch, draws).items()}

    def loss(self, predicted: Mapping[str, torch.Tensor], prepared: Mapping[str, ModelInput]) -> Mapping[str, torch.Tensor]:
        added = torch.zeros(prepared["audio"].sigma.shape).masked_fill(prepared["audio"].applied["spoiled"], float("nan"))
        return {name: each + added for name, each in self.inner.loss(predicted, prepared).items()}


def test_a_run_whose_set_is_put_into_shards_goes_on_with_the_same_steps(folder: Path, tmp_path: Path) -> None:
    expected = losses(loop_of(loaded_run(folder, data={"held_out": 0})))
    copy = shutil.copytree(folder, tmp_path / "run")
    loop = loop_of(loaded_run(copy, data={"held_out": 0}))
    steps = loop.steps(4)
    found = [next(steps)[1]["loss"]]
    for path in (each for each in loop.samples.root.iterdir() if each.is_dir()):
        pack(path, [(file.path.relative_to(path).as_posix(), file.bytes) for file in files_in(path).values()], 20_000)
    found += [metrics["loss"] for _, metrics in steps]
    assert found == expected
    assert losses(loop_of(loaded_run(copy, data={"held_out": 0}))) == expected
    assert [path.name[:6] for path in loop.samples.root.rglob("*.safetensors") if not path.name.startswith("shard-")] == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_of_a_step_of_several_micro_batches_the_one_whose_loss_is_not_finite_is_named_and_nothing_is_updated(
    folder: Path, number: int
) -> None:
    loop = loop_of(loaded_run(folder, data={"held_out": 0}, optimization={"batch_size": 3, "gradient_accumulation_steps": 3}))
    before = {key: parameter.detach().clone() for key, parameter in loop.engine.parameters.items()}
    wrong = loop.order.micro_batch(number).names
    with pytest.raises(DataError, match=f"the loss is not finite .+ at step 1, samples {', '.join(wrong)}, sigmas audio"):
        list(attrs.evolve(loop, strategy=Spoiled(loop.strategy, wrong[-1])).steps(1))
    assert all(torch.equal(parameter, before[key]) for key, parameter in loop.engine.parameters.items())


def test_a_gradient_that_is_not_finite_stops_the_run_and_changes_nothing(folder: Path) -> None:
    loop = loop_of(loaded_run(folder, data={"held_out": 0}))
    name = "transformer.transformer_blocks.1.audio_attn1.to_v.lora_B.default.weight"
    loop.engine.parameters[name].register_hook(lambda gradient: gradient * float("inf"))
    before = {key: parameter.detach().clone() for key, parameter in loop.engine.parameters.items()}
    with pytest.raises(DataError) as error:
        list(loop.steps(4))
    assert str(error.value) == (
        f"the gradient is not finite (NaN or Inf) at step 1, samples {', '.join(loop.order.micro_batch(0).names)}, "
        f"sigmas audio {sigmas_of(loop, 0)}, first in {name}\n"
        "    Nothing was updated in this step. Check these samples, lower optimization.learning_rate, or lower optimization.max_grad_norm."
    )
    assert all(torch.equal(parameter, before[key]) for key, parameter in loop.engine.parameters.items())


def test_the_total_is_the_mean_over_samples_of_the_sum_over_modalities() -> None:
    assert float(total_loss({"video": torch.tensor([1.0, 2.0]), "audio": torch.tensor([3.0, 5.0])})) == 5.5


def test_a_full_run_trains_only_what_its_loss_reaches(folder: Path) -> None:
    loop = loop_of(loaded_run(folder, data={"held_out": 0}, model={"training_mode": "full"}, optimization={"weight_decay": 0.5}))
    all_of = dict(loop.backbone.named_parameters())
    idle = all_of.keys() - loop.engine.parameters.keys()
    before = {name: parameter.detach().clone() for name, parameter in all_of.items()}
    list(loop.steps(2))
    changed = {name for name, parameter in all_of.items() if not torch.equal(parameter, before[name])}
    assert changed <= loop.engine.parameters.keys()
    assert {"transformer.audio_proj_in.weight", "transformer.audio_proj_out.weight"} <= changed
    assert all("audio" in name for name in loop.engine.parameters)
    assert idle == {name for name, parameter in all_of.items() if not parameter.requires_grad}


def test_what_the_model_sees_is_on_its_device_in_float32(folder: Path) -> None:
    loop = loop_of(loaded_run(folder, data={"held_out": 0}))
    seen: list[ModelInput] = []
    loop.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[1]))
    list(loop.steps(1))
    assert {seen[0].tokens.dtype, seen[0].sigma.dtype, seen[0].timesteps.dtype, seen[0].positions.dtype} == {torch.float32}

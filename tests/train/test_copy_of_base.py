"""A frozen copy of the base in full fine-tuning: it predicts what the base predicts, whatever is trained, and a run with it resumes exactly."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.training_runs import STOPPER, loaded_run, sound_set, tables, write_run
from helpers.untrained import write_untrained
from ltxcore.codecs.source import Codecs
from ltxcore.config.load import load_run
from ltxcore.engines.process import Processes
from ltxcore.models.base_alone import like_base
from ltxcore.models.load_base import load_backbone
from ltxcore.models.tiny_model import TINY
from ltxcore.protocols import Engine
from ltxcore.runs.engine import build_engine
from ltxcore.runs.prompts import prompts_of_run
from ltxcore.runs.run_plan import draft, plan
from ltxcore.train.dealing import draws_of
from ltxcore.train.feed import Samples, prepared, sent
from ltxcore.train.loop import Loop
from ltxcore.train.outcome import Outcome
from ltxcore.train.prompts import load_prompts
from ltxcore.train.start_run import run
from ltxcore.train.trained_model import load_model

CPU = torch.device("cpu")
FULL = {"model_path": "tiny-untrained", "training_mode": "full", "base": "copy"}
OPTIMIZATION = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3}
DISTILL: dict[str, Any] = {"type": "distill", "guidance": 2.0}
ROUNDED = {"mixed_precision_mode": "bf16", "stochastic_rounding": True, "step_in_backward": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("copy")
    sound_set(path / "data", 8)
    return path


def parts(folder: Path, **changed: Any) -> tuple[Loop, Any]:
    """The loop of a run, and the inputs of its first micro-batch."""
    loaded = loaded_run(folder, **{"data": {"held_out": 0}, "model": FULL, "objectives": [DISTILL], **changed})
    planned, config = plan(draft(loaded).checked()), loaded.config
    strategy, order = planned.outline.strategy, planned.order
    samples = Samples(planned.outline.root, strategy.sources(), planned.manifest)
    model = load_model(planned, samples, CPU)
    engine: Engine = build_engine(config, model.backbone, model.parameters, Processes(), CPU)
    samples.texts = load_prompts(planned, prompts_of_run(config), Codecs.of(config.model), Processes())
    loop = Loop(engine, model.backbone, strategy, samples, order, config.seed, 1, 0, config.objectives)
    first = order.micro_batch(0)
    return loop, sent(prepared(strategy, model.backbone, samples.load(first.names), draws_of(loop.seed, first), CPU), CPU)


@pytest.mark.parametrize(
    "acceleration",
    [{"mixed_precision_mode": "no"}, {"mixed_precision_mode": "bf16", "offload_blocks": 2}, ROUNDED],
    ids=["float32", "autocast, two blocks in host memory", "bfloat16 weights, updated in the backward pass"],
)
def test_after_training_the_copy_predicts_what_the_base_predicts_bit_for_bit(folder: Path, acceleration: dict[str, Any]) -> None:
    loop, inputs = parts(folder, acceleration=acceleration)
    is_float32 = acceleration["mixed_precision_mode"] == "no"
    base = load_backbone("tiny-untrained", frozenset({"audio"}), dtype=torch.float32 if is_float32 else torch.bfloat16, seed=loop.seed)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=not is_float32):
        expected = base(None, inputs["audio"])["audio"]
    names = set(dict(loop.backbone.named_parameters()))
    list(loop.steps(3))
    with loop.engine.evaluating():
        trained = loop.engine.forward(inputs)["audio"]
        with like_base(loop.backbone):
            assert torch.equal(loop.engine.forward(inputs)["audio"], expected)
        assert torch.equal(loop.engine.forward(inputs)["audio"], trained)
    assert not torch.allclose(trained, expected, rtol=0.01), "the model itself has learned"
    assert names == set(dict(base.named_parameters())), "the copy adds no parameter that would be saved"


def test_the_copy_is_the_base_even_if_the_weights_begin_elsewhere(folder: Path, tmp_path: Path) -> None:
    write_untrained(tmp_path / "model.safetensors", TINY, torch.float32)
    loop, inputs = parts(folder, model={**FULL, "load_checkpoint": str(tmp_path / "model.safetensors")})
    base = load_backbone("tiny-untrained", frozenset({"audio"}), dtype=torch.float32, seed=loop.seed)
    with loop.engine.evaluating():
        expected = base(None, inputs["audio"])["audio"]
        assert not torch.equal(loop.engine.forward(inputs)["audio"], expected)
        with like_base(loop.backbone):
            assert torch.equal(loop.engine.forward(inputs)["audio"], expected)


def run_file(folder: Path, where: Path, **changed: Any) -> Path:
    where.mkdir()
    objectives = [{"type": "flow_matching"}, {"type": "preservation", "weight": 5.0}]
    given = {"model": FULL, "optimization": OPTIMIZATION, "objectives": objectives, "data": {"held_out": 0}, **changed}
    return write_run(where, tables(folder / "data", where / "out", **given))


def losses(outcome: Outcome) -> list[float]:
    return [line["loss"] for line in map(json.loads, outcome.metrics.read_text().splitlines()) if "loss" in line]


def test_an_interrupted_run_with_a_copy_resumes_to_the_last_bit(folder: Path, tmp_path: Path) -> None:
    whole = run(load_run(run_file(folder, tmp_path / "whole")))
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 2}}}
    interrupted = run_file(folder, tmp_path / "parts", **stopper)
    assert run(load_run(interrupted)).step == 2
    outcome = run(load_run(interrupted))
    assert losses(outcome) == losses(whole)
    assert filecmp.cmp(outcome.weights, whole.weights, shallow=False)


def test_updates_in_the_backward_pass_change_no_number_of_a_run_with_a_copy(folder: Path) -> None:
    found = []
    for inside in (False, True):
        acceleration = {"mixed_precision_mode": "no", "step_in_backward": inside}
        loop, _ = parts(folder, acceleration=acceleration, optimization={**OPTIMIZATION, "max_grad_norm": 0.0})
        found.append(([metrics["loss"] for _, metrics in loop.steps(3)], loop.engine.parameters))
    (losses_after, after), (losses_inside, inside_of) = found
    assert losses_inside == losses_after
    assert all(torch.equal(parameter, after[name]) for name, parameter in inside_of.items())

"""What follows from the trace of a few blocks, beside a run of all blocks with the settings themselves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.sampling import sampled
from ltxcore.config.load import load_run
from ltxcore.models.base import base_of
from ltxcore.models.lora import lora_parameters
from ltxcore.planner import activations
from ltxcore.planner.activations import Choice, Tracer, activations_of
from ltxcore.planner.estimate import Estimator, _choice
from ltxcore.planner.hollow import Hollow
from ltxcore.planner.largest_batch import all_samples, inputs_of, sets_here, shapes_of
from ltxcore.planner.trace import fill, hollow
from ltxcore.protocols import ModelInput
from ltxcore.runs.run_plan import draft
from planner.test_estimate import FULL, LORA, PICTURE, SOUND, run_file
from planner.test_estimate import data as data  # the fixture

CASES = list(itertools.product((LORA, FULL), (PICTURE, SOUND), ("no", "bf16"), (False, True), (1, 3)))


def whole(tracer: Tracer, choice: Choice, inputs: dict[str, ModelInput], batch_size: int) -> tuple[int, int]:
    """Return what is kept for the backward and the most bytes, in a model of all blocks, under `choice` itself."""
    backbone = tracer.sketched(choice.plain, inputs, range(tracer.base.num_layers)).backbone
    backbone.transformer.gradient_checkpointing = choice.checkpointing
    adapters = set(lora_parameters(backbone)) if choice.lora is not None else set()
    known = {name: each.to("cpu") for name, each in inputs.items()}
    with Hollow() as mode:
        given = {name: hollow(each, batch_size) for name, each in known.items()}
        fill(backbone, lambda name: choice.adapter_dtype if name in adapters else choice.dtype)
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda each: setattr(each, "grad", None))
        tensors = [each for one in given.values() for each in (*attrs.asdict(one, recurse=False).values(), *(one.shared or ()))]
        mode.ignore([*backbone.parameters(), *backbone.buffers(), *(each for each in tensors if hasattr(each, "meta"))])
        loss = activations._loss(backbone, choice.plain, tracer.strategy, given)
        saved = mode.live
        loss.backward()
        return saved, mode.peak


@pytest.mark.parametrize(("mode", "strategy", "precision", "checkpointing", "batch_size"), sampled(CASES, 4))
def test_three_blocks_tell_what_all_blocks_hold(
    mode: dict[str, Any], strategy: dict[str, Any], precision: str, checkpointing: bool, batch_size: int, data: Path, tmp_path: Path
) -> None:
    loaded = load_run(run_file(tmp_path, data, mode, strategy, acceleration={"mixed_precision_mode": precision}))
    base = base_of(loaded.config.model.model_path)
    found = draft(loaded, 1, writes=False, base=base).checked()
    shapes = shapes_of(found, base, encoded=all_samples(sets_here(found)))
    tracer, inputs = Estimator(found, base, shapes)._tracer, inputs_of(found, base, shapes, 1)
    choice = attrs.evolve(_choice(loaded.config, found.modalities, False), checkpointing=checkpointing)
    saved, peak = whole(tracer, choice, inputs, batch_size)
    said = activations_of(tracer.traced(choice, inputs, batch_size), choice)
    assert said.saved == saved
    # Where all weights are trained in bf16, they have copies, whose gradients wait in another order.
    is_exact = mode is LORA or precision == "no"
    assert said.peak == pytest.approx(peak, rel=0.002 if is_exact else 0.09)


def test_a_model_that_was_run_before_is_traced_as_a_new_one_is(data: Path, tmp_path: Path) -> None:
    ways = [{"mixed_precision_mode": "no"}, {"mixed_precision_mode": "bf16"}, {"chunked_feed_forward": 2}, {}]
    configs = [load_run(run_file(tmp_path, data, LORA, SOUND, acceleration=each)).config for each in ways]
    loaded = load_run(run_file(tmp_path, data, LORA, SOUND))
    base = base_of(loaded.config.model.model_path)
    found = draft(loaded, 1, writes=False, base=base).checked()
    shapes = shapes_of(found, base, encoded=all_samples(sets_here(found)))
    inputs = inputs_of(found, base, shapes, 1)
    tracer = Estimator(found, base, shapes)._tracer
    for number, config in enumerate(configs):
        choice = _choice(config, found.modalities, False)
        again = tracer.traced(choice, inputs, number + 1)
        assert again == Estimator(found, base, shapes)._tracer.traced(choice, inputs, number + 1)
    assert len(tracer._sketches) == 1

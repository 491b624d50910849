"""What is said of generating samples, beside live storages while the real sampler and engine generate one on a model of 30M parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from ltxcore.config.load import load_run
from ltxcore.engines.process import Processes
from ltxcore.models.base import base_of
from ltxcore.planner.advice import remedies
from ltxcore.planner.cost_in_json import machine
from ltxcore.planner.costs import cost, told
from ltxcore.planner.estimate import Estimator
from ltxcore.planner.largest_batch import all_samples, sets_here, shapes_of, text_length
from ltxcore.planner.live import LiveBytes
from ltxcore.protocols import Text
from ltxcore.runs.engine import build_engine
from ltxcore.runs.run_plan import Outline, draft, plan
from ltxcore.sample.encode_inputs import Encoded
from ltxcore.sample.sampler import Sampler
from ltxcore.train.feed import Samples
from ltxcore.train.trained_model import load_model
from planner.large import large_run, write_large
from planner.measured import alive

CPU = torch.device("cpu")
LORA = {"rank": 16, "alpha": 16, "target_modules": ["to_k", "to_q", "to_v", "to_out.0"]}
SAMPLES: dict[str, Any] = {"video_dims": [512, 256, 33], "video_cfg_scale": 3.0, "audio_cfg_scale": 3.0, "samples": [{"prompt": "a disc"}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generating")
    write_large(path)
    return path


def outlined(folder: Path, name: str, **tables: Any) -> tuple[Outline, Estimator]:
    loaded = load_run(large_run(folder, name, **{"validation": SAMPLES, **tables}))
    base = base_of(loaded.config.model.model_path)
    found = draft(loaded, 1, writes=False, base=base).checked()
    return found, Estimator(found, base, shapes_of(found, base, encoded=all_samples(sets_here(found))))


def held(found: Outline) -> int:
    """The most bytes, besides weights and the optimizer, while a sample is really generated."""
    planned, (sample,) = plan(found), found.samples
    model = load_model(planned, Samples(found.root, found.strategy.sources(), planned.manifest), CPU)
    engine: Any = build_engine(found.config, model.backbone, model.parameters, Processes(), CPU)
    canvas = attrs.evolve(sample.canvas, request=attrs.evolve(sample.canvas.request, steps=2))
    live = LiveBytes(each for each in alive() if each.untyped_storage().nbytes())
    texts = [_text(found), _text(found)]
    live.count(each for text in texts for each in (*text.features.values(), text.mask))  # on a GPU, these are copied there
    encoded = Encoded(canvas, *texts)
    with engine.evaluating(), live:
        Sampler(model.backbone, engine.forward, CPU).generate(encoded)
    return live.peak


def _text(found: Outline) -> Text:
    length = text_length(found.base)
    return Text({name: torch.randn(1, length, width) for name, width in found.base.context_widths.items()}, torch.ones(1, length))


RUNS: dict[str, dict[str, Any]] = {
    "lora": {"model": {"training_mode": "lora"}, "lora": LORA, "acceleration": {"mixed_precision_mode": "bf16"}},
    "lora in float32": {"model": {"training_mode": "lora"}, "lora": LORA, "acceleration": {"mixed_precision_mode": "no"}},
    "quantized": {
        "model": {"training_mode": "lora"},
        "lora": LORA,
        "acceleration": {"mixed_precision_mode": "bf16", "quantization": "int8"},
    },
    "full": {"acceleration": {"mixed_precision_mode": "bf16"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_generating_a_sample_takes_what_is_said(name: str, folder: Path) -> None:
    found, estimator = outlined(folder, name.replace(" ", "_"), **RUNS[name])
    assert estimator.generating(found.config) == pytest.approx(held(found), rel=0.1)


@pytest.mark.slow
def test_each_pass_of_guidance_adds_its_prediction_and_a_larger_sample_takes_more(folder: Path) -> None:
    plain = {"video_dims": SAMPLES["video_dims"], "video_cfg_scale": 1.0, "audio_cfg_scale": 1.0, "samples": SAMPLES["samples"]}
    (_, without), (found, led) = outlined(folder, "plain", **RUNS["lora"], validation=plain), outlined(folder, "led", **RUNS["lora"])
    texts = 4 * text_length(found.base) * sum(found.base.context_widths.values())
    assert led.generating(found.config) > without.generating(found.config) + texts
    _, small = outlined(folder, "small", **RUNS["lora"], validation={**SAMPLES, "video_dims": [256, 256, 33]})
    assert small.generating(found.config) < led.generating(found.config)


@pytest.mark.slow
def test_where_generating_takes_most_it_is_said_and_room_is_advised(folder: Path) -> None:
    dims = {**SAMPLES, "video_dims": [2048, 2048, 121]}
    found, estimator = outlined(folder, "most", acceleration={"mixed_precision_mode": "bf16"}, validation=dims)
    need = estimator.need(found.config, 1)
    assert need.device == need.drawing == need.states.weights + need.states.optimizer + need.generating
    assert need.moment == "as samples are generated"
    room = attrs.evolve(found.config, acceleration=attrs.evolve(found.config.acceleration, offload_optimizer_during_validation=True))
    smaller = estimator.need(room, 1)
    assert smaller.drawing == need.drawing - need.states.optimizer
    said = [remedy.said for remedy in remedies(estimator, found.config, 1, smaller.with_margin)]
    assert ("acceleration.offload_optimizer_during_validation = true",) in said


@pytest.mark.slow
def test_the_report_has_a_row_for_it_only_if_a_run_has_samples(folder: Path) -> None:
    found, estimator = outlined(folder, "said", **RUNS["lora"])
    stated = cost(found.loaded, 1, 80 * 2**30)
    assert "generation of samples" in dict(row for _, rows in told(stated) for row in rows)
    assert machine(stated)["gpu"]["generating"] == estimator.generating(found.config)
    none, _ = outlined(folder, "none", **RUNS["lora"], validation={"skip_initial_validation": True})
    assert "generation of samples" not in dict(row for _, rows in told(cost(none.loaded, 1, 80 * 2**30)) for row in rows)

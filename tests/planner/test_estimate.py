"""What a run on one process is said to need, beside what it holds: the real engine, on the tiny model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from helpers.sampling import drawn, sampled
from helpers.training_runs import put, put_sound, write_run
from ltxcore.config.load import load_run
from ltxcore.engines.process import Processes
from ltxcore.models.base import base_of
from ltxcore.planner.costs import GIB
from ltxcore.planner.estimate import Estimator, Need
from ltxcore.planner.largest_batch import all_samples, sets_here, shapes_of
from ltxcore.runs.engine import build_engine
from ltxcore.runs.run_plan import Outline, draft, plan
from ltxcore.train.feed import Samples
from ltxcore.train.loop import Loop
from ltxcore.train.start_run import need_at_start, said_at_start
from ltxcore.train.trained_model import load_model
from planner.measured import Activations, Measured, bytes_of

CPU = torch.device("cpu")
BATCH = 3
LORA = {
    "model": {"model_path": "tiny-untrained", "training_mode": "lora"},
    "lora": {"rank": 4, "target_modules": ["to_k", "to_out.0", "audio_ff.net.2"]},
}
FULL = {"model": {"model_path": "tiny-untrained", "training_mode": "full"}}
SOUND = {"audio": {"is_generated": True, "latents_dir": "audio_latents", "conditions": [{"type": "mask", "mask_dir": "audio_masks"}]}}
PICTURE = {
    "video": {"is_generated": True, "latents_dir": "latents", "conditions": [{"type": "reference", "latents_dir": "reference_latents"}]},
    "audio": {"is_generated": False, "latents_dir": "audio_latents"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cost") / "data"
    for number in range(BATCH):
        name = put_sound(root, number, steps=40)
        latents = torch.randn(128, 3, 4, 4, generator=torch.Generator().manual_seed(number))
        for folder, values in (("latents", latents), ("reference_latents", latents[:, :, ::2, ::2].contiguous())):
            put(root, folder, name, {"latents": values}, rate=16.0, fingerprint=name, origin=f"{name}.wav")
    return root


def run_file(folder: Path, data: Path, mode: dict[str, Any], strategy: dict[str, Any], **tables: Any) -> Path:
    run: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        **mode,
        "training_strategy": {"name": "flexible", **strategy},
        "optimization": {"steps": 2, "batch_size": BATCH},
        "acceleration": {"mixed_precision_mode": "bf16"},
        "data": {"preprocessed_data_root": str(data), "held_out": 0, "num_dataloader_workers": 0},
    }
    for name, keys in tables.items():
        run[name] = {**run.get(name, {}), **keys}
    return write_run(folder, run)


def predicted(path: Path, processes: int = 1) -> tuple[Outline, Need]:
    loaded = load_run(path)
    base = base_of(loaded.config.model.model_path)
    found = draft(loaded, processes, writes=False, base=base).checked()
    return found, Estimator(found, base, shapes_of(found, base, encoded=all_samples(sets_here(found)))).need(loaded.config, processes)


def measured(found: Outline) -> Measured:
    """Two steps of the real engine."""
    config = found.loaded.config
    planned = plan(found)
    samples = Samples(found.root, found.strategy.sources(), planned.manifest)
    model = load_model(planned, samples, CPU)
    engine: Any = build_engine(config, model.backbone, model.parameters, Processes(), CPU)
    said, activations = Measured(), Activations()

    def states() -> list[torch.Tensor]:
        kept = [value for state in engine.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        return [*model.backbone.parameters(), *model.backbone.buffers(), *kept]

    class Watching:
        """The engine, looked at where a backward begins and where one has ended."""

        begun = False

        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def forward(self, *args: Any) -> Any:
            if not self.begun:  # an objective may have several forwards before its backward
                activations.begin()
            self.begun = True
            return engine.forward(*args)

        def backward(self, loss: torch.Tensor, last: bool = True) -> None:
            said.saved = max(said.saved, activations.end(states()))
            self.begun = False
            engine.backward(loss, last)

        def step(self, *args: Any) -> float:
            said.gradients = max(said.gradients, bytes_of(p.grad for p in model.backbone.parameters() if p.grad is not None))
            return float(engine.step(*args))

    loop = Loop(Watching(), model.backbone, found.strategy, samples, planned.order, config.seed, 1, 0, config.objectives)
    for _ in loop.steps(2):
        pass
    said.weights = bytes_of([*model.backbone.parameters(), *model.backbone.buffers()])
    said.optimizer = bytes_of(value for state in engine.optimizer.state.values() for value in state.values() if value.numel() > 1)
    said.average = bytes_of(() if engine.average is None else engine.average.tensors.values())
    return said


QUICK = [(LORA, PICTURE, True), (FULL, SOUND, False)]
REST = [
    (mode, strategy, again)
    for mode in (LORA, FULL)
    for strategy in (SOUND, PICTURE)
    for again in (False, True)
    if (mode, strategy, again) not in QUICK
]


@pytest.mark.parametrize(
    ("mode", "strategy", "checkpointing"),
    sampled([*QUICK, *REST], 0, lambda case: {QUICK.index(case)} if case in QUICK else (), in_ci=drawn(REST, 2)),
    ids=lambda value: "checkpointed" if value is True else "" if value is False else "+".join(value),
)
def test_one_process_holds_what_is_said(
    mode: dict[str, Any], strategy: dict[str, Any], checkpointing: bool, data: Path, tmp_path: Path
) -> None:
    path = run_file(tmp_path, data, mode, strategy, optimization={"enable_gradient_checkpointing": checkpointing})
    found, need = predicted(path)
    held = measured(found)
    assert held.weights == need.states.weights
    assert held.gradients == need.states.gradients
    assert held.optimizer == need.states.optimizer
    # Beside them the run holds velocities that no loss reads, and the states of random generators of blocks that are computed again.
    generators = checkpointing * found.base.num_layers * torch.get_rng_state().nbytes
    assert held.saved - generators == pytest.approx(need.activations.saved, rel=0.05)


def test_what_waits_in_host_memory_for_the_backward_is_counted_there(data: Path, tmp_path: Path) -> None:
    def run(away: bool) -> tuple[Outline, Need]:
        acceleration = {"offload_activations": away}
        path = run_file(tmp_path, data, LORA, SOUND, optimization={"enable_gradient_checkpointing": True}, acceleration=acceleration)
        return predicted(path)

    _, here = run(away=False)
    found, need = run(away=True)
    assert need.activations.host > 0
    assert need.activations.saved + need.activations.host == here.activations.saved
    assert need.activations.peak < here.activations.peak
    assert need.host - here.host == need.activations.host
    held = measured(found).saved  # on a CPU, all memory is the host's; beside it, the states of random generators, which weigh more here
    assert held == pytest.approx(need.activations.saved + need.activations.host, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_tokens_that_devices_divide_among_them_take_a_share_of_the_activations_and_are_exchanged(
    checkpointing: bool, data: Path, tmp_path: Path
) -> None:
    """The bytes of docs/explanation/arithmetic.md, for every attention of a sound of 40 steps, in the forward, its repetition and the backward."""

    def run(size: int) -> Need:
        optimization = {"enable_gradient_checkpointing": checkpointing, "gradient_accumulation_steps": 3}
        engine = {"name": "zero", "stage": 2, "sequence_parallel": size}
        return predicted(run_file(tmp_path, data, FULL, SOUND, optimization=optimization, engine=engine), processes=4)[1]

    whole, half, quarter = (run(size) for size in (1, 2, 4))
    assert whole.exchanged == 0
    assert whole.states == half.states == quarter.states
    assert half.activations.peak < 0.65 * whole.activations.peak
    assert quarter.activations.peak < 0.65 * half.activations.peak
    for size, need in ((2, half), (4, quarter)):
        blocks, width, channels, number = 4, 128, 128, 2
        attention = BATCH * 4 * 40 // size * width * number * (size - 1) // size
        velocities = BATCH * 40 // size * channels * number * (size - 1)
        assert need.exchanged == 3 * (blocks * (3 if checkpointing else 2) * attention + velocities)


def test_what_selective_checkpointing_keeps_is_counted(data: Path, tmp_path: Path) -> None:
    def run(budget: float | None) -> tuple[Outline, Need]:
        acceleration = {} if budget is None else {"activation_budget_gb": budget}
        path = run_file(tmp_path, data, LORA, PICTURE, optimization={"enable_gradient_checkpointing": True}, acceleration=acceleration)
        return predicted(path)

    _, without = run(None)
    _, everything = run(1.0)
    most = everything.activations.saved - without.activations.saved
    assert 0 < most < 2**30
    found, need = run(most / 2 / 2**30)
    assert need.activations.saved == without.activations.saved + most // 2
    assert without.activations.peak < need.activations.peak <= everything.activations.peak
    assert measured(found).saved == pytest.approx(need.activations.saved, rel=0.05)


@pytest.mark.slow
def test_feed_forward_in_chunks_needs_less_at_the_peak(data: Path, tmp_path: Path) -> None:
    (_, without), (found, need) = (
        predicted(run_file(tmp_path, data, LORA, PICTURE, acceleration={"chunked_feed_forward": chunks})) for chunks in (1, 4)
    )
    assert need.activations.peak < without.activations.peak
    # Beside what is said, the run holds small tensors of each chunk, among them a state of the random generator, which weigh more here.
    assert measured(found).saved == pytest.approx(need.activations.saved, rel=0.1)


@pytest.mark.slow
def test_what_attention_with_strengths_holds_is_counted(data: Path, tmp_path: Path) -> None:
    video = PICTURE["video"]
    weighted = {**PICTURE, "video": {**video, "conditions": [{**video["conditions"][0], "strength": 0.5}]}}
    found, need = predicted(run_file(tmp_path, data, LORA, weighted))
    _, plain = predicted(run_file(tmp_path, data, LORA, PICTURE))
    assert need.activations.saved > 1.05 * plain.activations.saved
    assert measured(found).saved == pytest.approx(need.activations.saved, rel=0.05)


def test_the_average_of_the_weights_is_counted_where_it_is_held_and_in_what_is_saved(data: Path, tmp_path: Path) -> None:
    (_, without), (_, beside), (_, away) = (
        predicted(run_file(tmp_path, data, LORA, SOUND, ema=ema)) for ema in ({}, {"decay": 0.9}, {"decay": 0.9, "device": "cpu"})
    )
    found, _ = predicted(run_file(tmp_path, data, LORA, SOUND, ema={"decay": 0.9}))
    held = measured(found).average
    assert held == 4 * without.parameters.trained
    assert (beside.states.average, away.states.average, without.states.average) == (held, 0, 0)
    assert (beside.device - without.device, away.device - without.device) == (held, 0)
    assert (beside.host - without.host, away.host - without.host) == (0, held)
    assert (beside.exported, beside.checkpoint) == (2 * without.exported, without.checkpoint + without.exported + held)


def test_the_frozen_copy_of_the_base_is_counted_where_it_is_held_and_not_in_what_is_saved(data: Path, tmp_path: Path) -> None:
    path = run_file(tmp_path, data, FULL, SOUND, model={"base": "copy"}, acceleration={"offload_blocks": 4})
    path.write_text(f"objectives = [{{ type = 'preservation', prompt = 'own' }}]\n{path.read_text()}")
    found = draft(load_run(path), 1, writes=False).checked()
    estimator, config = Estimator(found, found.base, shapes_of(found, found.base, encoded=all_samples(sets_here(found)))), found.config
    near = attrs.evolve(config, acceleration=attrs.evolve(config.acceleration, offload_blocks=0))
    none = attrs.evolve(near, model=attrs.evolve(config.model, base=None))
    away, beside, without = (estimator.without_activations(each, 1) for each in (config, near, none))
    planned = plan(found)
    copy: Any = load_model(planned, Samples(found.root, found.strategy.sources(), planned.manifest), CPU).backbone.copy_of_base
    held = bytes_of(copy.backbone.parameters())
    assert held == beside.states.copy == 2 * without.parameters.loaded
    assert (beside.device - without.device, beside.host - without.host) == (held, 0)
    assert (beside.exported, beside.checkpoint) == (without.exported, without.checkpoint)
    blocks = away.host - without.host
    assert beside.states.weights == away.states.weights, "no block that is trained is in host memory"
    assert 0.8 * held < blocks < held
    assert away.device - without.device == held - blocks + 3 * blocks // 4


TWICE = '''
"""An objective that learns from two forwards at once."""
import attrs
from ltxcore.api import hookimpl
from ltxcore.api.objectives import Pass

@attrs.frozen
class Twice:
    """Predict the same twice."""

    passes = (Pass("one"), Pass("two"), Pass("still", gradient=False))

    def loss(self, predicted, prepared):
        return {name: ((each + predicted["two"][name]) / 2).square().mean(dim=(1, 2)) for name, each in predicted["one"].items()}

@hookimpl
def ltx_objectives():
    return {"twice": Twice}
'''


def test_an_objective_holds_all_of_its_forwards_and_none_of_another_objective(data: Path, tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(TWICE)
    path = run_file(tmp_path, data, LORA, SOUND)
    _, alone = predicted(path)
    path.write_text(f"plugins = ['twice.py']\nobjectives = [{{ type = 'flow_matching' }}, {{ type = 'twice' }}]\n{path.read_text()}")
    found, need = predicted(path)
    assert (need.passes.forwards, need.passes.backwards) == (4, 3)
    assert need.activations.saved == 2 * alone.activations.saved
    assert need.activations.peak == alone.activations.peak + alone.activations.saved
    assert measured(found).saved == pytest.approx(need.activations.saved, rel=0.05)


@pytest.mark.parametrize("kind", ["dora", "lokr", "loha", "pissa"])
def test_adapters_of_every_type_hold_what_is_said(kind: str, data: Path, tmp_path: Path) -> None:
    more = {} if kind == "pissa" else {"quantization": "int8"}
    found, need = predicted(run_file(tmp_path, data, LORA, SOUND, lora={"type": kind}, acceleration=more))
    held = measured(found)
    assert held.weights == need.states.weights
    assert held.gradients == need.states.gradients
    assert held.optimizer == need.states.optimizer
    assert held.saved == pytest.approx(need.activations.saved, rel=0.05)


MIXED = """
from collections.abc import Mapping
from typing import ClassVar
import attrs
from ltxcore.api import hookimpl
from ltxcore.api.adapters import AdapterShape

@attrs.frozen
class Mixed:
    file_names: ClassVar[Mapping[str, str]] = {"mix": "mix"}
    takes_dropout = False

    def wrap(self, linear, settings):
        import torch

        class Layer(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = linear
                self.mix = torch.nn.Parameter(torch.zeros(settings.rank, device=linear.weight.device))
                numbers = torch.randn(linear.out_features, settings.rank, generator=torch.Generator().manual_seed(0))
                self.register_buffer("frozen", numbers.to(linear.weight.device), persistent=False)
                self.register_buffer("rounded", numbers.to(linear.weight.device, torch.bfloat16), persistent=False)

            def forward(self, x):
                return self.linear(x) + (self.frozen @ self.mix).to(x.dtype)

        return Layer()

    def tensors(self, layer):
        return {"mix": layer.mix}

    def shapes(self, outputs, inputs, settings):
        return {"mix": (settings.rank,)}

    def start(self, layer, linear, generator):
        layer.mix.zero_()

    def weight(self, layer, base):
        return base

    def measure(self, shapes):
        return AdapterShape(None, None, shapes["mix"][0]) if "mix" in shapes else None

@hookimpl
def ltx_adapters():
    return {"mixed": Mixed}
"""


def test_numbers_that_an_adapter_keeps_outside_its_file_are_counted(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mixed.py").write_text(MIXED)
    path = run_file(tmp_path, data, LORA, SOUND, lora={"type": "mixed"})
    path.write_text(f"plugins = ['mixed.py']\n{path.read_text()}")
    found, need = predicted(path)
    assert measured(found).weights == need.states.weights


@pytest.mark.parametrize("in_backward", [False, True])
def test_full_fine_tuning_in_bfloat16_holds_what_is_said(in_backward: bool, data: Path, tmp_path: Path) -> None:
    keys = {"stochastic_rounding": True, "step_in_backward": in_backward}
    found, need = predicted(run_file(tmp_path, data, FULL, SOUND, acceleration=keys))
    held = measured(found)
    assert held.weights == need.states.weights
    assert held.optimizer == need.states.optimizer == 2 * need.parameters.trained * 2
    assert held.saved == pytest.approx(need.activations.saved, rel=0.05)
    largest = max(each.numbers for each in need.parameters.weights if each.is_trained)
    if in_backward:
        assert held.gradients == 0  # after the backward pass
        assert need.states.gradients == largest * (2 + 6 * 4)
    else:
        assert held.gradients == need.states.gradients
        assert need.states.step == need.states.gradients + largest * 6 * 4


def test_a_run_says_at_its_start_what_it_needs_and_warns_where_that_is_too_much(data: Path, tmp_path: Path) -> None:
    path = run_file(tmp_path, data, LORA, SOUND | {"audio": {"is_generated": True, "latents_dir": "audio_latents"}})
    planned = plan(draft(load_run(path), 1, writes=False).checked())
    assert said_at_start(planned, need_at_start(planned, 1), 80 * GIB) == "needs about 1.0 GiB of the 80.0 GiB of each GPU"
    assert said_at_start(planned, need_at_start(planned, 1), GIB) == (
        "WARNING: needs about 1.0 GiB of the 1.0 GiB of each GPU, and may run out of memory. "
        f"To see what would make it fit: ltx plan {path} --gpus 1"
    )


def test_groups_of_rank_are_counted_module_by_module(data: Path, tmp_path: Path) -> None:
    groups = [{"modules": ["to_k"], "blocks": "1-2", "rank": 8}, {"modules": ["audio_ff"], "rank": 1}]
    lora = {**LORA, "lora": {**LORA["lora"], "groups": groups}}
    found, need = predicted(run_file(tmp_path, data, lora, SOUND))

    def rank(name: str) -> int:
        block = int(name.split(".")[1])
        return 8 if name.endswith("to_k") and block in (1, 2) else 1 if "audio_ff" in name else 4

    shapes = found.base.described(found.modalities).blueprint.shapes
    targets = [name for name in shapes if re.search(r"\.audio_(attn.\.(to_k|to_out\.0)|ff\.net\.2)\.weight$", name)]
    assert need.parameters.trained == sum(rank(name.removesuffix(".weight")) * sum(shapes[name]) for name in targets)

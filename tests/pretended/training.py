"""Checks of training: the parts of a run, on the pretended device and on the CPU, in the same process and on the same samples."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten

from helpers.device_record import QUEUE, READ, RECORD, UP
from helpers.heard import heard
from helpers.refusing import Refusing
from ltxcore.config.load import load_run
from ltxcore.engines.process import Processes
from ltxcore.errors import OutOfMemory
from ltxcore.model_input import READ_LATER
from ltxcore.models import elementwise
from ltxcore.protocols import ModelInput
from ltxcore.runs import checkpoint
from ltxcore.runs.engine import build_engine
from ltxcore.runs.first_encoding import encoded
from ltxcore.runs.run_plan import RunPlan, draft, plan
from ltxcore.train.conditioning_swap import CONTEXTS
from ltxcore.train.feed import Samples
from ltxcore.train.loop import Loop
from ltxcore.train.out_of_memory import Advice, try_largest
from ltxcore.train.start_run import run
from ltxcore.train.trained_model import TrainedModel, load_model
from ltxcore.train.validation_loss import HeldOut
from pretended.tensors import OnDevice

STEPS = 3
"""Steps that are compared; another is made after the state was restored."""


@attrs.frozen(eq=False)
class Parts:
    """A run up to its first step."""

    plan: RunPlan
    samples: Samples
    model: TrainedModel
    engine: Any
    loop: Loop


@contextmanager
def norm_of_a_gpu() -> Iterator[None]:
    """Within it the CPU takes the RMS norm that a GPU takes, which is PyTorch's own; that of the CPU differs from it in the last bits."""

    def apply(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], weight, eps)

    with patch.object(elementwise._RmsNorm, "apply", apply):
        yield


def parts_of(run_file: str, settings: Sequence[str], device: str) -> Parts:
    loaded = load_run(Path(run_file), settings)
    processes = Processes()
    found = draft(loaded, 1, allow_changes=True).checked()
    config = found.loaded.config
    root, only = encoded(found, config.data.dataset, config.data.preprocessed_data_root, processes)
    planned = plan(attrs.evolve(found, root=root), only)
    samples = Samples(root, found.strategy.sources(), planned.manifest)
    there = torch.device(device)
    model = load_model(planned, samples, there)
    engine = build_engine(config, model.backbone, model.parameters, processes, there)
    loop = Loop(
        engine=engine,
        backbone=model.backbone,
        strategy=found.strategy,
        samples=samples,
        order=planned.order,
        seed=config.seed,
        accumulation=config.optimization.gradient_accumulation_steps,
        workers=0,
    )
    return Parts(planned, samples, model, engine, loop)


def chain(run_file: str, settings: Sequence[str], device: str) -> dict[str, Any]:
    """Train, measure what is held out, save, restore into a new engine and train on; and where the program waited for the device meanwhile."""
    RECORD.clear()
    parts = parts_of(run_file, settings, device)
    loaded = RECORD.of(UP)
    losses, norms, waits = [], [], {}
    RECORD.clear()
    QUEUE.clear()
    for _, metrics in parts.loop.steps(STEPS):
        losses.append(metrics["loss"])
        norms.append(metrics["grad_norm"])
        waits = {READ: RECORD.of(READ), UP: RECORD.of(UP)}
        RECORD.clear()
    outcome = {"losses": losses, "norms": norms, "weights": digest(parts.model.parameters), "step": waits, "loading": loaded}
    outcome["held"] = QUEUE.most
    with parts.engine.making_room():
        RECORD.clear()
        outcome["held_out"], outcome["forwards"] = _held_out(parts)
        outcome["forward"] = {READ: RECORD.of(READ), UP: RECORD.of(UP)}
    RECORD.clear()
    with tempfile.TemporaryDirectory() as folder:
        _save(parts, Path(folder))
        again = parts_of(run_file, settings, device)
        again.engine.restore(*checkpoint.load_state(checkpoint.found(Path(folder))[-1]))
    outcome["restored"] = digest(again.model.parameters) == outcome["weights"]
    outcome["state"] = sorted({str(value.device) for each in again.engine.optimizer.state.values() for value in _tensors(each)})
    outcome["after"] = [[metrics["loss"] for _, metrics in each.loop.steps(STEPS + 1, STEPS)] for each in (parts, again)]
    return outcome


def both(run_file: str, settings: Sequence[str]) -> dict[str, Any]:
    """`chain` on the CPU and on the device, by the same kernels: the device has one attention and one RMS norm."""
    with sdpa_kernel(SDPBackend.MATH), norm_of_a_gpu():
        return {device: chain(run_file, settings, device) for device in ("cpu", "cuda:0")}


def tried(run_file: str, settings: Sequence[str]) -> dict[str, Any]:
    """The step before training on the device: what it is told of where memory runs out in it, and that all is the same afterwards."""
    steps, weights = [], []
    for tries in (False, True):
        parts = parts_of(run_file, settings, "cuda:0")
        advice = Advice(parts.plan, 0, 1, torch.device("cuda:0"))
        if tries:
            with heard() as said:
                try_largest(parts.loop, advice, 0)
        steps.append([(metrics["loss"], metrics["grad_norm"]) for _, metrics in parts.loop.steps(2)])
        weights.append(digest(parts.model.parameters))
    told = ""
    try:
        with Refusing("attempt", "backward"):
            try_largest(parts.loop, advice, 0)
    except OutOfMemory as error:
        told = f"{type(error).__name__}: {error}"
    return {"steps": steps, "weights": weights, "told": told, "said": said.getvalue()}


def read_ahead(run_file: str, settings: Sequence[str]) -> dict[str, Any]:
    """What is copied to the device for three steps, and which threads put it into pinned memory; and the same of what only others than the model read."""
    parts = parts_of(run_file, settings, "cuda:0")
    loop = attrs.evolve(parts.loop, workers=2)
    given: list[ModelInput] = []
    parts.model.backbone.register_forward_pre_hook(lambda _, inputs: given.extend(each for each in inputs if each is not None))
    RECORD.clear()
    list(loop.steps(STEPS))
    found = {
        "threads": sorted({name.rpartition("_")[0] for name in RECORD.pinned_by}),
        "pinned": sum(RECORD.pinned),
        "waits": RECORD.of(UP),
    }
    fields = [field for field in attrs.fields(ModelInput) if field.name not in {*READ_LATER, "context", "context_mask"}]
    found["read"] = sum(_bytes([getattr(each, field.name) for field in fields]) + _words(each) for each in given)
    RECORD.clear()
    found["later"] = sum(_bytes([each.clean, each.noise, each.denoise_mask]) for each in given)
    return found | {"later pinned": sum(RECORD.pinned), "later by": sorted(set(RECORD.pinned_by))}


def _words(given: ModelInput) -> int:
    """The bytes of the text features in float32, without the padding, which is made on the device."""
    words = given.context.shape[:2].numel() if given.context_mask is None else int(given.context_mask.sum())
    return 4 * words * given.context.shape[2]


def _bytes(values: Any) -> int:
    return sum(each.numel() * each.element_size() for each in tree_flatten(values)[0] if isinstance(each, Tensor))


def whole(run_file: str, settings: Sequence[str]) -> dict[str, Any]:
    """A run from its raw clips to its samples."""
    outcome = run(load_run(Path(run_file), settings))
    return {
        "finished": outcome.finished,
        "weights": outcome.weights is not None and outcome.weights.exists(),
        "drawn": [clip.path.exists() for clip in outcome.generations],
        "after": {key: value for key, value in outcome.after.items() if "sigma" in key},
    }


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Of all bits of some tensors."""
    found = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        inner = tensor.detach()
        found.update((inner.inner if isinstance(inner, OnDevice) else inner).contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _held_out(parts: Parts) -> tuple[dict[str, float], int]:
    """Validation loss in every context, and how many passes through the model they took."""
    passes: list[None] = []
    counting = parts.model.backbone.register_forward_pre_hook(lambda *_: passes.append(None))
    outline, config = parts.plan.outline, parts.plan.outline.loaded.config
    names = parts.plan.split.held_out[:2] or parts.plan.split.train[:2]
    measured = HeldOut.of(outline.build, outline.setting, names, parts.samples, config.optimization.batch_size, config.seed)
    found = measured.measure(parts.engine, parts.model.backbone, *CONTEXTS)
    counting.remove()
    return found, len(passes)


def _save(parts: Parts, folder: Path) -> None:
    name = parts.plan.outline.folder.weights(parts.plan.outline.loaded.config.model.training_mode).name
    checkpoint.save(folder, STEPS, {name: lambda path: parts.model.save(path, {}, parts.engine)}, parts.engine.state())


def _tensors(state: Mapping[str, Any]) -> list[Tensor]:
    return [value for value in state.values() if isinstance(value, Tensor)]

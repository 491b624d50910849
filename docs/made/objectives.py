"""The table of docs/how-to/objectives.md, from runs on the tiny world: `python docs/made/objectives.py` makes them, in about three minutes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.source import Codecs
from ltxcore.config.load import load_run
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.config.render import document
from ltxcore.encode.preprocess import preprocess
from ltxcore.engines.process import Processes
from ltxcore.engines.single import single_engine
from ltxcore.models.base_alone import like_base
from ltxcore.new.tiny_world import write_world
from ltxcore.objective_types import Pass
from ltxcore.protocols import ModelInput
from ltxcore.runs.objective_datasets import objective_datasets, with_planned
from ltxcore.runs.prompts import prompts_of_run
from ltxcore.runs.run_plan import draft, plan
from ltxcore.train.dealing import OWN, data_of, draws_of
from ltxcore.train.feed import prepared, sent
from ltxcore.train.learning import predicted_in
from ltxcore.train.loop import Loop
from ltxcore.train.prompts import load_prompts
from ltxcore.train.trained_model import load_model
from pages import DOCS, _table, between

PAGE = DOCS / "how-to" / "objectives.md"
BEGIN, END = "<!-- made by docs/made/objectives.py -->", "<!-- end -->"
CPU = torch.device("cpu")
CLIPS, STEPS = 32, 120
GUIDANCE = 4.0
FLOW = {"type": "flow_matching"}
DISCS = "a disc sways slowly; a tone follows it up and down"
RED = "a red disc sways slowly; a warm tone follows it up and down"
BLUE = "a blue disc sways slowly; a thin tone follows it up and down"
REGION = "objectives.weighted_region.video_region"


@attrs.frozen(eq=False)
class Sets:
    """Clips that a LoRA is trained on, squares; clips of what only the base has learned, discs; and more discs."""

    squares: Path
    discs: Path
    more_discs: Path


@attrs.frozen
class Row:
    """What is said of an objective, and the two numbers that show it."""

    objective: str
    measured: str
    without: float
    with_it: float


def sets(folder: Path) -> Sets:
    made = {}
    for name, split in (("squares", "train"), ("discs", "base_held_out"), ("more_discs", "base")):
        dataset = write_world(folder / name, split, CLIPS, 0, frozenset({"video_masks"}), f"{name}.jsonl")
        made[name] = preprocess(dataset, folder / f"{name}.encoded", PreprocessingTable(), Codecs("tiny"), progress=False).root
    return Sets(**made)


def trained(root: Path, folder: Path, objectives: Sequence[Mapping[str, Any]], steps: int = STEPS) -> Loop:
    """Train a LoRA for clips with sound."""
    run = {
        "output_dir": str(folder / "out"),
        "model": {"model_path": "tiny"},
        "lora": {"rank": 16, "target_modules": "auto"},
        "training_strategy": {
            "name": "flexible",
            "video": {"is_generated": True, "latents_dir": "latents"},
            "audio": {"is_generated": True, "latents_dir": "audio_latents"},
        },
        "objectives": list(objectives),
        "optimization": {"steps": max(steps, 1), "batch_size": 8, "learning_rate": 2e-3, "scheduler_type": "constant"},
        "acceleration": {"mixed_precision_mode": "no"},
        "data": {"preprocessed_data_root": str(root), "held_out": 0, "num_dataloader_workers": 0},
    }
    path = folder / "run.toml"
    path.write_text(document(run))
    config = load_run(path).config
    found = draft(load_run(path), 1).checked()
    planned = with_planned(plan(found), {each.label: (each.outline.root, None) for each in objective_datasets(found)})
    data = data_of(planned)
    samples = data.pop(OWN).samples
    model = load_model(planned, samples, CPU)
    engine = single_engine(model.backbone, model.parameters, config.optimization, precision="no", device=CPU)
    samples.texts = load_prompts(planned, prompts_of_run(config), Codecs.of(config.model), Processes())
    strategy, order, seed = planned.outline.strategy, planned.order, config.seed
    loop = Loop(engine, model.backbone, strategy, samples, order, seed, 1, 0, config.objectives, datasets=data)
    for _ in loop.steps(steps):
        pass
    return loop


def batches(loop: Loop, others: Loop | None = None) -> Iterator[tuple[dict[str, ModelInput], Mapping[str, Tensor]]]:
    """Yield the inputs of all clips of a loop, with its masks, and noise that is the same for every model."""
    data = others or loop
    for number in range(data.order.per_epoch):
        micro_batch = data.order.micro_batch(number)
        batch = data.samples.load(micro_batch.names)
        yield sent(prepared(data.strategy, loop.backbone, batch, draws_of(data.seed, micro_batch), CPU), CPU), batch.masks


def errors(loop: Loop, given: Mapping[str, ModelInput]) -> dict[str, Tensor]:
    """Return the squared error of each token by modality, `[B, T]`."""
    return {name: (found - given[name].velocity).square().mean(dim=-1) for name, found in loop.engine.forward(given).items()}


def loss_of(loop: Loop, others: Loop) -> float:
    """Return the error on other clips, of picture and sound together."""
    with loop.engine.evaluating():
        return sum(float(each.mean()) for given, _ in batches(loop, others) for each in errors(loop, given).values())


def by_region(loop: Loop, masked: Loop) -> tuple[float, float]:
    """Return the mean error in the region, and in the rest."""
    inside, outside = [], []
    with loop.engine.evaluating():
        for given, masks in batches(loop, masked):
            found, region = errors(loop, given)["video"], masks[REGION].flatten(1) > 0.5
            inside.append(found[region].mean())
            outside.append(found[~region].mean())
    return float(torch.stack(inside).mean()), float(torch.stack(outside).mean())


@contextmanager
def strength(loop: Loop, factor: float) -> Iterator[None]:
    """Return a context in which the LoRA has another strength."""
    ends = [parameter for name, parameter in loop.engine.parameters.items() if "lora_B" in name]
    before = [parameter.detach().clone() for parameter in ends]
    with torch.no_grad():
        for parameter in ends:
            parameter.mul_(factor)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(ends, before, strict=True):
                parameter.copy_(value)


def moved(loop: Loop, others: Loop, factor: float) -> float:
    """Return how far the LoRA moves what is predicted, as a multiple of the difference between the two prompts."""
    along = size = 0.0
    with loop.engine.evaluating():
        for given, _ in batches(loop, others):
            with like_base(loop.backbone):
                base = loop.engine.forward(given)
                red, blue = (loop.engine.forward(loop._prompts.instead(given, prompt)) for prompt in (RED, BLUE))
            with strength(loop, factor):
                found = loop.engine.forward(given)
            for name, answer in found.items():
                direction = red[name] - blue[name]
                along += float(((answer - base[name]) * direction).sum())
                size += float(direction.square().sum())
    return along / size


def rows(folder: Path) -> Iterator[Row]:
    of = sets(folder)
    others = trained(of.discs, folder, [FLOW], 0)
    before = loss_of(others, others)
    preserved = {"type": "preservation", "prompt": DISCS, "weight": 20.0}
    regularized = {"type": "regularization", "dataset": str(of.more_discs)}
    without, *held = (
        loss_of(trained(of.squares, folder, objectives), others) / before - 1
        for objectives in ([FLOW], [FLOW, preserved], [FLOW, regularized])
    )
    for objective, rise in zip((preserved, regularized), held, strict=True):
        yield Row(objective["type"], "how far the loss on discs rises while squares are learned", without, rise)
    region = {"type": "weighted_region", "video_region_dir": "video_masks", "rest": 0.02}
    masked = trained(of.squares, folder, [region], 0)
    first, falls = by_region(masked, masked), []
    for objective in (FLOW, region):
        after = by_region(trained(of.squares, folder, [objective], STEPS // 2), masked)
        falls.append((1 - after[0] / first[0]) / (1 - after[1] / first[1]))
    yield Row("weighted_region", "how far the loss falls in the region, against the rest", *falls)
    slider = trained(of.discs, folder, [{"type": "slider", "towards": RED, "away_from": BLUE}])
    for factor in (1.0, -1.0):
        yield Row("slider", f"how far clips move towards the prompt, at strength {factor:g}", 0.0, moved(slider, slider, factor))
    yield from distilled(of.discs, folder)


def distilled(clips: Path, folder: Path) -> Iterator[Row]:
    loop = trained(clips, folder, [{"type": "distill", "guidance": GUIDANCE}])
    teacher, base = (Pass("", adapters=False, gradient=False, guidance=scale) for scale in (GUIDANCE, 1.0))
    away = {each: from_teacher(loop, teacher, each) for each in (base, Pass("", gradient=False))}
    without, with_it = (value / away[base] for value in away.values())
    yield Row("distill", f"how far the answer in one pass is from the base's with a guidance of {GUIDANCE:g}", without, with_it)


def from_teacher(loop: Loop, teacher: Pass, model: Pass) -> float:
    """Return the squared distance between the answers of two passes, of picture and sound together."""
    found = 0.0
    with loop.engine.evaluating():
        for given, _ in batches(loop):
            wanted, answer = (predicted_in(loop.engine, loop._prompts, each, given) for each in (teacher, model))
            found += sum(float((answer[name] - wanted[name]).square().mean()) for name in given)
    return found


def table(found: Sequence[Row]) -> str:
    cells = [(f"`{row.objective}`", row.measured, _told(row, row.without), _told(row, row.with_it)) for row in found]
    return _table(["objective", "measured", "without it", "with it"], cells)


def _told(row: Row, value: float) -> str:
    return f"{value:.1%}" if row.objective in ("preservation", "regularization", "distill") else f"{value:.2f}"


def main() -> None:
    torch.set_num_threads(1)  # as runs of so small a model do
    with tempfile.TemporaryDirectory() as folder:
        found = list(rows(Path(folder)))
    PAGE.write_text(between(PAGE.read_text(), BEGIN, END, table(found)))


if __name__ == "__main__":
    sys.exit(main())

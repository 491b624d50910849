"""`ltx check`: what can be found wrong with a run without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from ltxcore.conditions import ConditionUse

if TYPE_CHECKING:
    from ltxcore.config.load import LoadedRun


@click.command()
@click.argument("run_file", type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
def check(run_file: Path, settings: tuple[str, ...]) -> None:
    """Check a run file without running it.

    Every mistake that can be found without opening a sample is printed in one go; where the data are encoded already, they are checked from their manifests.
    """
    from ltxcore.config.load import load_run

    loaded = load_run(run_file, settings)
    samples, notes = _check_data(loaded)
    click.echo(f"{run_file} is in order.")
    for name, value in [*summary(loaded), ("samples", samples)]:
        click.echo(f"  {name:<11} {value}")
    for note in notes:
        click.echo(f"The unfinished run in {loaded.config.output_dir} {note}.")


def _check_data(loaded: LoadedRun) -> tuple[str, tuple[str, ...]]:
    """How many samples there are, and what an unfinished run keeps; raises what `ltx run` would find wrong with them before it starts."""
    from ltxcore.train.plan import check_run

    plan = check_run(loaded)
    if plan is None:
        return f"not encoded yet; the first run encodes {loaded.config.data.dataset}", ()
    return f"{len(plan.split.train)} to train on, {len(plan.split.held_out)} held out", plan.outline.notes


def summary(loaded: LoadedRun) -> list[tuple[str, str]]:
    """What the run is, in a few lines: mode, modalities, conditions, steps."""
    config = loaded.config
    mode = f"LoRA of rank {config.lora.rank}" if config.model.training_mode == "lora" else "full fine-tuning"
    optimization = config.optimization
    batch = f"batch size {optimization.batch_size}"
    if optimization.gradient_accumulation_steps > 1:
        batch += f", {optimization.gradient_accumulation_steps} accumulated"
    lines = [("mode", f"{mode} on {config.model.model_path}"), ("strategy", config.strategy_name)]
    lines += modality_lines(config.training_strategy)
    return [*lines, ("steps", f"{optimization.steps}, {batch}")]


def modality_lines(strategy: Any) -> list[tuple[str, str]]:
    """For each modality of a strategy: generated or frozen, and its conditions."""
    lines = []
    for field in attrs.fields(type(strategy)):
        table = getattr(strategy, field.name)
        if hasattr(table, "is_generated"):
            uses = [_use(use) for use in getattr(table, "conditions", []) if isinstance(use, ConditionUse)]
            lines.append((field.name, ", ".join(["generated" if table.is_generated else "frozen", *uses])))
    return lines


def _use(use: ConditionUse) -> str:
    return use.type if use.probability == 1 else f"{use.type} (probability {use.probability:g})"

"""`ltx run`, which trains as a run file describes, and prints where the results are."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltxcore.api.commands import FilePath
from ltxcore.cli.added import command_of
from ltxcore.registry import Registry

if TYPE_CHECKING:
    from ltxcore.config.load import LoadedRun
    from ltxcore.train.outcome import Outcome

STOPPED = 130
"""The exit status of a run that was asked to stop: the usual status after an interrupt."""


@click.command()
@click.argument("run_file", type=FilePath())
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
@click.option("--allow-changes", is_flag=True, help="Resume an unfinished run although the run file has changed.")
@click.option("--take-over", is_flag=True, help="Take the run's folders over from another process, which then stops.")
@click.pass_context
def run(ctx: click.Context, run_file: Path, settings: tuple[str, ...], allow_changes: bool, take_over: bool) -> None:
    """Train as a run file describes.

    Raw media are encoded on first use. Everything is checked before anything is written to the run's output_dir. If output_dir holds an
    unfinished run, the run resumes from where it was saved; a finished run is never overwritten. If you interrupt a run once, it finishes
    its step and saves.
    """
    from ltxcore.config.load import load_run
    from ltxcore.engines.process import Processes, disconnect

    processes = Processes.meet()
    if processes.world_size > 1:
        ctx.call_on_close(disconnect)
    loaded = processes.together(lambda: load_run(run_file, settings))
    from rich.console import Console

    from ltxcore.train.held_out_table import held_out_table
    from ltxcore.train.start_run import run as train

    outcome = train(loaded, processes=processes, allow_changes=allow_changes, take_over=take_over)
    if processes.rank == 0:
        if outcome.finished and outcome.before:
            Console().print(held_out_table(outcome.before, outcome.after))
        for line in told(outcome, loaded):
            click.echo(line)
    processes.leave()
    if not outcome.finished:
        ctx.exit(STOPPED)
    if processes.rank == 0 and loaded.config.hub.push_to_hub:
        click.echo(f"Uploaded to {_published(loaded.registry, outcome.output_dir)}")


def _published(registry: Registry, output_dir: Path) -> str:
    """Upload a finished run with the plugin command for uploads, and return the address that the command prints."""
    command = command_of(registry.get("command", "publish"))
    with redirect_stdout(io.StringIO()) as printed:
        command.main([str(output_dir)], prog_name="ltx publish", standalone_mode=False)
    return printed.getvalue().strip()


def told(outcome: Outcome, loaded: LoadedRun) -> list[str]:
    """Return lines that tell the user where the results of a run are and what to do with them."""
    from ltxcore.runs.read_run import read_run, sample_command
    from ltxcore.runs.run_folder import goes_on

    if not outcome.finished:
        stopped = f"Stopped after step {outcome.step}."
        return [f"{stopped} Resume with:", f"  {outcome.resume}"] if outcome.resume else [stopped, f"  {goes_on(loaded.config)}"]
    early = f", since {outcome.ended}" if outcome.ended else ""
    lines = [f"Done, {outcome.step} step{'s' * (outcome.step != 1)}{early}. In {outcome.output_dir}:"]
    if outcome.weights is not None:
        lines.append(f"  {outcome.weights.name:<20} the {'LoRA' if outcome.weights.name.startswith('lora') else 'model'}")
    if outcome.averaged is not None:
        lines.append(f"  {outcome.averaged.name:<20} the same, with the moving average of the weights")
    if outcome.best is not None:
        lines.append(f"  {outcome.best.relative_to(outcome.output_dir)}  the one with the lowest validation loss")
    lines.append(f"  {outcome.metrics.name:<20} all metrics of the run, one JSON object per line")
    if (outcome.output_dir / "report.html").exists():
        lines.append(f"  {'report.html':<20} the report: did it learn, curves, samples, how to use it")
    lines.append(f"  {'run.toml':<20} the run file, with every value spelled out")
    if outcome.generations:
        first = outcome.generations[0]
        whose = "held-out clips" if outcome.before else "clips"
        drawn = (
            "the samples of the run file, step by step"
            if first.original is None
            else f"{whose} generated before and after training, beside their originals"
        )
        lines.append(f"  {first.path.parent.name + '/':<20} {drawn}")
        lines.append(f"{'Listen' if first.path.suffix == '.wav' else 'Play'} and compare:")
        lines += [f"  {path}" for path in (first.before, first.path, first.original) if path is not None]
    record = read_run(outcome.output_dir)
    if record.weights is not None:
        command = sample_command(record, record.weights, loaded.registry)
        files = " (replace the words in capitals with your own files)" if "--condition" in command else ""
        lines += [f"Generate with the trained weights{files}:", f"  {command}"]
    return lines

"""Show that full fine-tuning in bfloat16 with stochastic rounding learns as float32 weights do, where rounding to nearest does not.

    python examples/measure_rounding.py        # five seeds: about half an hour on two free cores

All weights of the tiny base are trained on the 120 clips of `examples/media`, sound from text, at a learning rate that is small beside the weights, as those of
large models are. The losses are those of the run itself at noise level 0.9, on its held-out clips.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import torch

from ltxcore.config.load import load_run
from ltxcore.engines import tensor_updates
from ltxcore.train.conditioning_swap import OWN
from ltxcore.train.start_run import run

EXAMPLES = Path(__file__).parent
KEY = f"held_out/{OWN}/audio/sigma_0.90"
WAYS = {
    "float32 weights": ("acceleration.stochastic_rounding=false",),
    "bfloat16, rounded stochastically": ("acceleration.stochastic_rounding=true",),
    "bfloat16, rounded to nearest": ("acceleration.stochastic_rounding=true",),
}


@contextmanager
def rounding(way: str) -> Iterator[None]:
    """Within it weights are rounded as the way says; to nearest is what ltx does not offer, and is put in its place here."""
    kept = tensor_updates.round_stochastically
    if way.endswith("nearest"):
        tensor_updates.round_stochastically = lambda value, _: value.to(torch.bfloat16)
    try:
        yield
    finally:
        tensor_updates.round_stochastically = kept


def measured(way: str, seed: int, learning_rate: float, steps: int, folder: Path) -> tuple[float, float]:
    """Return the validation loss before and after a run."""
    settings = [
        "model.training_mode=full",
        "acceleration.mixed_precision_mode=bf16",
        f"optimization.learning_rate={learning_rate}",
        f"optimization.steps={steps}",
        f"seed={seed}",
        "validation.samples=[]",
        f"output_dir={folder / way.replace(' ', '_') / str(seed)}",
        *WAYS[way],
    ]
    with rounding(way):
        outcome = run(load_run(EXAMPLES / "t2a.toml", settings))
    return outcome.before[KEY], outcome.after[KEY]


@click.command()
@click.option("--seeds", default=5, help="Runs of each way.")
@click.option("--steps", default=100, help="Optimizer steps of a run.")
@click.option("--learning-rate", default=3e-5, help="Learning rate of AdamW.")
def main(seeds: int, steps: int, learning_rate: float) -> None:
    """Print a table of the validation losses."""
    with tempfile.TemporaryDirectory() as folder:
        print(
            f"{seeds} seeds, {steps} steps, learning rate {learning_rate:g}\n\n| weights | before | after | least | most |\n|---|---|---|---|---|"
        )
        for way in WAYS:
            pairs = [measured(way, seed, learning_rate, steps, Path(folder)) for seed in range(1, seeds + 1)]
            before, after = zip(*pairs, strict=True)
            print(f"| {way} | {statistics.mean(before):.4f} | {statistics.mean(after):.4f} | {min(after):.4f} | {max(after):.4f} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Measure the seconds of a step and the peak of memory in eight settings, beside what `ltx plan` says, on the GPU of this machine.

    python examples/measure_gpu.py --gpu 4090 --model-path /models/ltx-2.3-22b-dev.safetensors
    python examples/measure_gpu.py --blocks 8      # LTX-2.3's shapes with random values: 8 of its 48 blocks, in a temporary file
    python examples/measure_gpu.py                 # the tiny model, to try the script

Each setting is an ordinary `ltx run` in a process of its own: a LoRA of rank 32 on random latents and text features, so no clips are needed. A setting that
this machine cannot run has the reason in its row. The table is printed as Markdown; please send it to us.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click
import torch
from torch import Tensor

from ltxcore.devices import gpus
from ltxcore.encode.buckets import Bucket, parse_buckets
from ltxcore.encoded.manifest import append_entry
from ltxcore.encoded.store import write_sample
from ltxcore.errors import LtxError
from ltxcore.models.base import base_of, released
from ltxcore.models.blueprint import blueprint_of_config
from ltxcore.models.connectors import PREFIXES, build_connector, connector_arguments
from ltxcore.models.connectors import to_original as connector_name
from ltxcore.models.parameter_names import CHECKPOINT_PREFIXES, to_original
from ltxcore.models.transformer_settings import Config
from ltxcore.planner.seconds import GPUS
from ltxcore.protocols import Entry
from ltxcore.runs.fits import text_widths, token_width
from ltxcore.safetensors_files import Stored, write_tensors

MODEL = "ltx-2.3-22b"
SCALE = (8, 32, 32)
"""The frames, rows and columns of pixels in a latent of the released models; the tiny model is given latents of the same shape."""

FRAMES_PER_SECOND, LATENTS_PER_SECOND, BINS = 24, 25, 16
CLIPS, WORDS = 2, 1024
UNTIMED = 2
"""The number of steps at the beginning that are not timed, since the allocator and the compiler are still at work in them."""

RUN_FILE = """\
[model]
model_path = {model}

[lora]
rank = 32
target_modules = ["to_k", "to_q", "to_v", "to_out.0"]

[training_strategy]
name = "flexible"
video = {{ is_generated = true, latents_dir = "latents" }}
audio = {{ is_generated = true, latents_dir = "audio_latents" }}

[optimization]
steps = {steps}
batch_size = 1
learning_rate = 1e-4

[acceleration]
mixed_precision_mode = "{precision}"

[data]
preprocessed_data_root = "set"
"""

CHECKPOINTING = {"optimization.enable_gradient_checkpointing": "true"}


@attrs.frozen
class Setting:
    """A row of the table: its name, and the keys that are added to the run file."""

    said: str
    keys: Mapping[str, str]

    @property
    def options(self) -> list[str]:
        """The options of `ltx run` and `ltx plan` that add the keys."""
        return [word for key, value in self.keys.items() for word in ("--set", f"{key}={value}")]


@attrs.frozen
class Measured:
    """What a run took. Memory is in GiB: of the GPU, or of the process if there is no GPU."""

    seconds: float
    memory: float


def settings(blocks: int) -> tuple[Setting, ...]:
    """Return the settings for a model with a number of blocks."""
    int8 = {"acceleration.quantization": "int8"}
    inputs = {"acceleration.offload_activations": "true"}
    return (
        Setting("no gradient checkpointing", {}),
        Setting("gradient checkpointing", CHECKPOINTING),
        Setting("checkpointing, compiled", {**CHECKPOINTING, "acceleration.compile": "true"}),
        Setting("checkpointing, activation offload", {**CHECKPOINTING, **inputs}),
        Setting("checkpointing, int8", {**CHECKPOINTING, **int8}),
        Setting("checkpointing, nf4", {**CHECKPOINTING, "acceleration.quantization": "nf4"}),
        Setting("checkpointing, half of the blocks swapped", {**CHECKPOINTING, "acceleration.offload_blocks": str(blocks // 2)}),
        Setting(
            "checkpointing, int8, two thirds swapped, activation offload, adamw8bit",
            {
                **CHECKPOINTING,
                **int8,
                **inputs,
                "acceleration.offload_blocks": str(2 * blocks // 3),
                "optimization.optimizer_type": "adamw8bit",
            },
        ),
    )


def write_model(path: Path, config: Config) -> None:
    """Write a checkpoint in the layout of the released models, with connectors and random values, for a configuration in official names."""
    own = {to_original(name): shape for name, shape in blueprint_of_config(config, str(path)).shapes.items()}
    for modality, prefix in PREFIXES.items():
        connector = build_connector(connector_arguments(config, modality, str(path)))
        own |= {prefix + connector_name(name): tuple(tensor.shape) for name, tensor in connector.state_dict().items()}
    tensors = {CHECKPOINT_PREFIXES[0] + name: Stored(torch.bfloat16, shape, partial(_random, shape)) for name, shape in own.items()}
    write_tensors(path, tensors, {"config": json.dumps({"transformer": config})})


def _random(shape: tuple[int, ...]) -> Tensor:
    return (0.02 * torch.randn(shape)).bfloat16()


def write_set(root: Path, model: str, bucket: Bucket) -> None:
    """Write an encoded set of random clips of one size, with sound and text."""
    latents = (bucket.frames - 1) // SCALE[0] + 1, bucket.height // SCALE[1], bucket.width // SCALE[2]
    steps = round(LATENTS_PER_SECOND * bucket.frames / FRAMES_PER_SECOND)
    shapes = {
        "latents": (token_width(model, "video"), *latents),
        "audio_latents": (token_width(model, "audio") // BINS, steps, BINS),
    }
    draws = torch.Generator().manual_seed(0)
    for clip in range(CLIPS):
        name = f"clip_{clip}"
        for folder, shape in shapes.items():
            entry = Entry((), rate=float(FRAMES_PER_SECOND) if folder == "latents" else None)
            _add(root, folder, name, {"latents": torch.randn(shape, generator=draws)}, entry)
        words = {modality: torch.randn(WORDS, width, generator=draws) for modality, width in text_widths(model).items()}
        _add(root, "conditions", name, words, Entry((WORDS,)))


def _add(root: Path, folder: str, name: str, tensors: Mapping[str, Tensor], entry: Entry) -> None:
    stored = {key: tensor.bfloat16() for key, tensor in tensors.items()}
    append_entry(root, folder, name, write_sample(root, folder, name, stored, entry))


def measured(run_file: Path, setting: Setting) -> Measured | str:
    """Return what a run takes, or the reason why it does not end."""
    out = Path(tempfile.mkdtemp(dir=run_file.parent))
    ended = _ltx("run", str(run_file), *setting.options, "--set", f"output_dir={json.dumps(str(out / 'run'))}")
    if ended.returncode:
        said = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
        return next((line for line in said if line.startswith("Error")), said[-1] if said else f"exit status {ended.returncode}")
    steps = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [step for step in steps if "step_seconds" in step]
    return Measured(statistics.median(step["step_seconds"] for step in steps[UNTIMED:]), max(step["peak_memory_gib"] for step in steps))


def planned(run_file: Path, setting: Setting, gpu: str | None) -> Mapping[str, Any]:
    """Return what `ltx plan` says of a run on one GPU, as it is printed for programs; nothing if it refuses the run."""
    named = [] if gpu is None else ["--gpu", gpu]
    said = _ltx("plan", str(run_file), *setting.options, *named, "--gpus", "1", "--json").stdout
    found: Mapping[str, Any] = json.loads(said) if said.strip() else {}
    return found


def _ltx(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ltxcore", *words], capture_output=True, text=True, check=False)


def table(rows: Mapping[str, tuple[Measured | str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the lines of the table, from the settings' names to what was measured and planned."""
    yield "| setting | seconds a step | planned | GiB at the peak | planned | difference |"
    yield "|---|---|---|---|---|---|"
    for said, (found, plan) in rows.items():
        peak = plan["gpu_peak"] / 2**30 if plan else None
        seconds, memory = ("", "") if peak is None else (f"{plan['seconds']['step']:.3f}", f"{peak:.2f}")
        if isinstance(found, str):
            yield f"| {said} | {found.replace('|', '/')} | {seconds} | | {memory} | |"
        else:
            difference = "" if peak is None else f"{peak / found.memory - 1:+.0%}"
            yield f"| {said} | {found.seconds:.3f} | {seconds} | {found.memory:.2f} | {memory} | {difference} |"


def heading(model: str, bucket: Bucket, blocks: int) -> str:
    """Return the lines that say what was measured, and where."""
    device = torch.cuda.get_device_name(0) if gpus() else f"the CPU ({platform.machine()}): memory is that of the whole process"
    return f"{model}, {blocks} blocks, clips of {bucket} with sound, on {device}, with PyTorch {torch.__version__}.\n"


@click.command(help=__doc__)
@click.option("--model-path", default="tiny", show_default=True, help="The model, as in `[model] model_path`.")
@click.option("--blocks", type=click.IntRange(3), help="Measure a model of LTX-2.3's shapes with so many blocks of random values instead.")
@click.option("--bucket", default="768x512x49", show_default=True, help="Width, height and frames of the clips.")
@click.option(
    "--steps", type=click.IntRange(UNTIMED + 1), default=8, show_default=True, help=f"Steps of each run; {UNTIMED} are not timed."
)
@click.option("--gpu", type=click.Choice(sorted(GPUS)), help="The GPU whose step `ltx plan` predicts, for the column of planned seconds.")
@click.option("--only", multiple=True, help="Measure only the settings with this text in their names; may be repeated.")
def main(model_path: str, blocks: int | None, bucket: str, steps: int, gpu: str | None, only: tuple[str, ...]) -> None:
    sizes, problems = parse_buckets(bucket, SCALE, "--bucket")
    if problems or len(sizes) != 1:
        raise click.UsageError("\n".join(map(str, problems)) or f"--bucket takes one size, not {len(sizes)}.")
    (size,) = sizes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if blocks is not None:
            model_path = str(folder / "random.safetensors")
            write_model(Path(model_path), {**released(MODEL).transformer, "num_layers": blocks})
        try:
            layers = base_of(model_path).num_layers
        except LtxError as error:
            raise click.ClickException(str(error)) from error
        chosen = [setting for setting in settings(layers) if not only or any(text in setting.said for text in only)]
        if not chosen:
            raise click.UsageError(
                f"No setting has {' or '.join(only)} in its name; there are: {'; '.join(each.said for each in settings(layers))}."
            )
        write_set(folder / "set", model_path, size)
        run_file = folder / "run.toml"
        precision = "no" if model_path == "tiny" else "bf16"
        run_file.write_text(RUN_FILE.format(model=json.dumps(model_path), steps=steps, precision=precision))
        rows: dict[str, tuple[Measured | str, Mapping[str, Any]]] = {}
        for setting in chosen:
            click.echo(f"measuring: {setting.said}", err=True)
            rows[setting.said] = measured(run_file, setting), planned(run_file, setting, gpu)
    click.echo(heading(MODEL if blocks is not None else Path(model_path).name, size, layers))
    for line in table(rows):
        click.echo(line)


if __name__ == "__main__":
    main()

"""The commands `ltx lora ...`, which make a LoRA from other LoRAs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
import click

from ltxcore.api.commands import FilePath, FiniteRange, columns, listed, plugin_option

if TYPE_CHECKING:
    from ltxcore.api.loras import Approximated

F = TypeVar("F", bound=Callable[..., Any])

DTYPES = ("bfloat16", "float16", "float32")


@click.group()
def lora() -> None:
    """Make LoRAs from others, and measure them."""


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds several options to a command, in this order."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_output = click.option("-o", "--output", required=True, type=FilePath(), metavar="FILE", help="The file to write.")
_overwrite = click.option("--overwrite", is_flag=True, help="Write FILE even if it exists.")
_of_rank = _options(
    click.option("--rank", required=True, type=click.IntRange(min=1), help="Largest rank of a module."),
    click.option(
        "--max-error",
        type=FiniteRange(0, 1, min_open=True, max_open=True),
        metavar="SHARE",
        help="Lower the rank of each module as long as at most this share of its change is lost, such as 0.05; by default all ranks are equal.",
    ),
)
_base = click.option(
    "--model", metavar="MODEL", help='The base model that LORA was trained on ("tiny", a file or a folder), if its type needs it.'
)


def _dtype(default: str) -> Callable[[F], F]:
    return click.option("--dtype", type=click.Choice(DTYPES), help=f"dtype of the LoRA; by default {default}.")


@lora.command()
@click.argument("loras", nargs=-1, required=True, metavar="LORA[:STRENGTH]...")
@_output
@click.option("--model", metavar="MODEL", help='The model to merge into ("tiny", a file or a folder); by default one LoRA is written.')
@click.option(
    "--max-shard-size",
    type=FiniteRange(0, min_open=True),
    metavar="GIB",
    help="Largest size of a file of the model; a larger model is written in parts.",
)
@click.option(
    "--layout",
    type=click.Choice(("original", "diffusers")),
    help="Layout of the model: one file of everything that MODEL's file contains, or a folder of the transformer alone for diffusers.  [default: original]",
)
@_dtype("that of the first LORA")
@_overwrite
@plugin_option("types of adapters")
def merge(
    loras: tuple[str, ...],
    output: Path,
    model: str | None,
    layout: Literal["original", "diffusers"] | None,
    max_shard_size: float | None,
    dtype: str | None,
    overwrite: bool,
    plugins: tuple[Path, ...],
) -> None:
    """Merge LoRAs, each with a strength (1 by default), into one LoRA or, with --model, into the model.

    One LoRA is the exact sum of the others, and its rank is the sum of their ranks, which `ltx lora resize` lowers; all must be plain
    LoRAs, or all full differences. Into a model, LoRAs of every type can be merged. The model keeps its dtype, so that small changes are
    rounded; a quantized model is refused.
    """
    from ltxcore.api.loras import Strength, adapter_types_with, merge_into_model, merge_loras

    parsed = [Strength.parse(each) for each in loras]
    types = adapter_types_with(plugins)
    if model is None:
        for option, value in (("--max-shard-size", max_shard_size), ("--layout", layout)):
            if value is not None:
                raise click.UsageError(f"{option} is for --model.")
        done = merge_loras(parsed, output, dtype=_torch_dtype(dtype), overwrite=overwrite, types=types)
        click.echo(f"{done.path}: one LoRA of {len(parsed)}, with {done.modules} modules of rank {listed(map(str, done.ranks))}")
        return
    if dtype is not None:
        raise click.UsageError("--dtype is for LoRAs; a model keeps its dtype.")
    largest = None if max_shard_size is None else int(max_shard_size * 2**30)
    done = merge_into_model(parsed, output, model, layout=layout or "original", largest=largest, overwrite=overwrite, types=types)
    click.echo(f"{done.path}: {done.modules} modules changed, a weight by at most {done.largest:.3g}")


@lora.command()
@click.argument("tuned", metavar="TUNED")
@click.option("--model", required=True, metavar="MODEL", help='The base model that TUNED was made from ("tiny", a file or a folder).')
@_output
@_of_rank
@_dtype("bfloat16")
@_overwrite
def extract(tuned: str, model: str, output: Path, rank: int, max_error: float | None, dtype: str | None, overwrite: bool) -> None:
    """Write the difference between the fine-tuned model TUNED and its base as a LoRA, and print how much of it is lost."""
    from ltxcore.api.loras import extract_lora

    options = {} if dtype is None else {"dtype": _torch_dtype(dtype)}
    _tell(extract_lora(tuned, model, output, rank=rank, error=max_error, overwrite=overwrite, **options))


@lora.command()
@click.argument("file", type=FilePath(), metavar="LORA")
@_output
@_of_rank
@_base
@_dtype("that of LORA")
@_overwrite
@plugin_option("types of adapters")
def resize(
    file: Path,
    output: Path,
    rank: int,
    max_error: float | None,
    model: str | None,
    dtype: str | None,
    overwrite: bool,
    plugins: tuple[Path, ...],
) -> None:
    """Write the plain LoRA of a lower rank that is closest to LORA, and print how much is lost. LORA can be of any type."""
    from ltxcore.api.loras import adapter_types_with, resize_lora

    types = adapter_types_with(plugins)
    done = resize_lora(file, output, rank=rank, error=max_error, model=model, dtype=_torch_dtype(dtype), overwrite=overwrite, types=types)
    _tell(done)


@lora.command()
@click.argument("file", type=FilePath(), metavar="LORA")
@_base
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@plugin_option("types of adapters")
def info(file: Path, model: str | None, as_json: bool, plugins: tuple[Path, ...]) -> None:
    """Measure how much LORA changes, for each kind of module; `ltx model LORA` says what is in the file.

    The size of a change is the root of the sum of its squared numbers, and the rank in use is the mean rank that keeps all but a tenth of
    it. With --model, the size is also a share of the size of the model's own matrices.
    """
    from ltxcore.api.loras import adapter_types_with, measure_lora

    found = measure_lora(file, model, adapter_types_with(plugins))
    if as_json:
        click.echo(json.dumps({kind: attrs.asdict(each) for kind, each in found.items()}, indent=2))
        return
    rows: list[tuple[object, ...]] = [("MODULES", "", "RANK", "IN USE", "SIZE", *["SHARE"] * (model is not None))]
    for kind, each in found.items():
        share = ["" if each.share is None else f"{each.share:.3%}"] * (model is not None)
        rows.append((kind, each.modules, each.rank, f"{each.effective:.1f}", f"{each.size:.4g}", *share))
    click.echo(columns(rows))


def _torch_dtype(name: str | None) -> Any:
    import torch

    return None if name is None else getattr(torch, name)


def _tell(done: Approximated) -> None:
    """Print what a LoRA has and what it lacks."""
    click.echo(f"{done.path}: {sum(done.ranks.values())} modules of rank {_ranks(done.ranks)}")
    module, error = done.worst
    click.echo(f"  {done.error:.3%} of the change is lost; most in {module}, where it is {error:.3%}")
    if done.unchanged:
        click.echo(f"  modules without a change, which are left out: {done.unchanged}")
    if done.others:
        names = listed(done.others)
        click.echo(f"  no LoRA can hold the differences of other parameters ({len(done.others)}): {names}")


def _ranks(found: Mapping[int, int]) -> str:
    return str(next(iter(found))) if len(found) == 1 else f"{min(found)} to {max(found)}"


@lora.command()
@click.argument("files", nargs=-1, required=True, type=FilePath(), metavar="LORA LORA...")
@_output
@click.option(
    "--decay",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Share of the average that is kept when the next LORA is added, so that later LoRAs count more; by default all LoRAs count equally.",
)
@_overwrite
@plugin_option("types of adapters")
def average(files: tuple[Path, ...], output: Path, decay: float | None, overwrite: bool, plugins: tuple[Path, ...]) -> None:
    """Average checkpoints of one run, tensor by tensor; their adapters can be of any type except PiSSA.

    The checkpoints must have the same tensors, of the same shapes, and the same metadata, apart from the step. Checkpoints that are kept
    with keep_last_n are such files: checkpoints/step_*/lora.safetensors.
    """
    from ltxplugins.tools.lora.average import average as write

    done = write(files, output, decay=decay, overwrite=overwrite, plugins=plugins)
    click.echo(f"{done.path}: the average of {done.count} LoRAs of {done.modules} modules")

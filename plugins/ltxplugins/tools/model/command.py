"""The command `ltx model`, which shows what is in a checkpoint or a LoRA."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click

from ltxcore.api.commands import FilePath, columns, plugin_option
from ltxcore.api.models import Inventory, LoraInventory, inspect_model

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3", "F8_E5M2": "float8_e5m2"}
"""The full names of the dtypes of safetensors."""

STREAMS = {"video": "video", "audio": "audio", "cross": "between video and audio"}
_LONGEST = 300


@click.command()
@click.argument("file", type=FilePath())
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@plugin_option("types of adapters")
def model(file: Path, as_json: bool, plugins: tuple[Path, ...]) -> None:
    """Describe FILE: a checkpoint, a folder in the diffusers layout, a LoRA, or "tiny".

    Only headers are read, so a 40 GB checkpoint takes no longer than a LoRA. An incomplete file is refused.
    """
    found = inspect_model(file, plugins)
    click.echo(json.dumps(_machine(found), indent=2) if as_json else "\n".join(_text(found)))


def _machine(found: Inventory | LoraInventory) -> dict[str, Any]:
    """Return the description of a file for `--json`: all of its fields, and the kind of the file."""
    kind = "lora" if isinstance(found, LoraInventory) else "model"
    return {"kind": kind, **attrs.asdict(found, value_serializer=lambda _, __, value: str(value) if isinstance(value, Path) else value)}


def _text(found: Inventory | LoraInventory) -> Iterator[str]:
    """Yield the description of a file as lines for people."""
    yield str(found.path)
    lines = list(_lora_lines(found) if isinstance(found, LoraInventory) else _model_lines(found))
    yield from (f"  {line}" for line in columns(lines).splitlines())
    if isinstance(found, Inventory):
        yield ""
        yield from columns(_part_rows(found)).splitlines()
    if found.metadata:
        yield ""
        yield "Metadata"
        yield from (f"  {line}" for line in columns([(key, _short(value)) for key, value in sorted(found.metadata.items())]).splitlines())


def _model_lines(found: Inventory) -> Iterator[tuple[str, str]]:
    yield "generation", _spoken(found.generation) + (f" (version {found.version})" if found.version else "")
    yield "layout", found.layout
    if found.quantization:
        yield "quantization", found.quantization
    if use := _use(found):
        yield "use", use
    if found.num_layers:
        yield "blocks", str(found.num_layers)
    if found.video_scale is not None:
        frames, rows, width = found.video_scale
        yield "video latent", f"a cell covers {frames} frames of {width} x {rows} pixels"
    if found.num_layers:
        yield "audio latent", "a step covers 4 mel frames, 25 steps a second"
        yield "text encoder", found.text_encoder


def _use(found: Inventory) -> str:
    """Return what a run file can use a file for; "" if it has no part that a run reads."""
    if found.unread:
        return f"none: weights are stored as {', '.join(found.unread)}, which is not read; use a bf16, fp8 or GGUF file"
    if not found.key:
        return ""
    return found.key + (f", beside {', '.join(found.lacks)}" if found.lacks else "")


def _part_rows(found: Inventory) -> list[tuple[str, str, str, str]]:
    rows = [("PART", "PARAMETERS", "SIZE", "DTYPE")]
    rows += [(part.name, f"{part.parameters:,}", _size(part.size), _dtypes(part.dtypes)) for part in found.parts]
    count, size = sum(part.parameters for part in found.parts), sum(part.size for part in found.parts)
    return [*rows, ("all", f"{count:,}", _size(size), "")]


def _lora_lines(found: LoraInventory) -> Iterator[tuple[str, str]]:
    yield "kind", found.title
    yield "base", _spoken(found.generation)
    yield "layout", found.layout + (", with an alpha for each module" if found.has_alpha else "")
    yield "rank", ", ".join(str(rank) if len(found.ranks) == 1 else f"{rank} ({count} modules)" for rank, count in found.ranks.items())
    yield (
        "modules",
        f"{found.modules}: "
        + ", ".join(f"{found.streams[stream]} {spoken}" for stream, spoken in STREAMS.items() if stream in found.streams),
    )
    yield "targets", ", ".join(f"{target} x {count}" if count > 1 else target for target, count in found.targets.items())
    yield "parameters", f"{found.parameters:,}, {_size(found.size)}, {_dtypes(dict.fromkeys(found.dtypes, 1))}"


def _spoken(generation: str) -> str:
    return f"LTX-{generation}" if generation[:1].isdigit() else f"the {generation} model" if generation else "not said"


def _size(size: int) -> str:
    unit, of = next(((unit, of) for unit, of in (("GB", 1e9), ("MB", 1e6)) if size >= of), ("kB", 1e3))
    return f"{size / of:.1f} {unit}"


def _dtypes(found: Mapping[str, int]) -> str:
    return ", ".join(DTYPES.get(name, name.lower()) for name in sorted(found, key=lambda name: -found[name]))


def _short(value: str) -> str:
    value = " ".join(value.split())
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}... ({len(value)} characters)"

"""How fast encoded samples are loaded, against how fast ltx-trainer reads its own.

    python tests/encoded/benchmark.py --samples 60

writes the same samples in both layouts: latents of 121 frames of 768 x 512 pixels, five seconds of sound, and a caption of 150 words, as LTX-2.3 has them. Our
side loads micro-batches as a run does: it reads, checks, joins and hands over what the device is given. ltx-trainer's layout, as `docs/explanation/model-files.md`
tells it, pads captions to 1,024 positions in `.pt` files, which its dataset reads with `torch.load`; its loader stacks them. Latents are bfloat16 on both
sides; `--float32` stores ours as the VAEs give them. Both sides take turns in one
process, in one thread, and the seconds of the processor count, so that whatever else the machine does slows both. Files are in the system's cache.

A third side only reads the bytes of our files into memory that is there already, without looking at them. No loader that copies a file can be faster. As
ltx-trainer's files are four times as large, and reading them is mostly copying too, this is about how many times as fast a loader can be at all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ltxcore.encoded.manifest import append_entry, read_manifest
from ltxcore.encoded.store import write_sample
from ltxcore.protocols import Entry, Source
from ltxcore.train.feed import Samples

GOAL = 5.0
LENGTH = 1024
SOURCES = {
    "text": Source("conditions", "text"),
    "video": Source("latents", "latents", "video"),
    "audio": Source("audio_latents", "latents", "audio"),
}
SHAPES = {"video": (128, 16, 16, 24), "audio": (8, 126, 16)}
WIDTHS = {"video": 4096, "audio": 2048}


def make(folder: Path, name: str, seed: int, words: int, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a sample in both layouts; ours has latents of this dtype."""
    draws = torch.Generator().manual_seed(seed)
    latents = {each: torch.randn(shape, generator=draws).bfloat16() for each, shape in SHAPES.items()}
    text = {each: torch.randn(words, width, generator=draws).bfloat16() for each, width in WIDTHS.items()}
    told = {"fingerprint": f"{seed:064}", "origin": f"clips/{name}.mp4"}
    files: Sequence[tuple[str, Mapping[str, Tensor], Entry]] = [
        ("latents", {"latents": latents["video"].to(dtype)}, Entry((), rate=24.0, **told)),
        ("audio_latents", {"latents": latents["audio"].to(dtype)}, Entry((), **told)),
        ("conditions", text, Entry((LENGTH,), **told)),
    ]
    for kind, tensors, entry in files:
        append_entry(folder / "ours", kind, name, write_sample(folder / "ours", kind, name, tensors, entry))
    padded = {f"{each}_prompt_embeds": torch.nn.functional.pad(own, (0, 0, LENGTH - words, 0)) for each, own in text.items()}
    theirs: Mapping[str, Mapping[str, Any]] = {
        "latents": {"latents": latents["video"], "num_frames": 16, "height": 16, "width": 24, "fps": 24.0},
        "audio_latents": {"latents": latents["audio"], "num_time_steps": 126, "frequency_bins": 16, "duration": 5.04},
        "conditions": {**padded, "prompt_attention_mask": torch.arange(LENGTH) >= LENGTH - words},
    }
    for kind, content in theirs.items():
        path = folder / "theirs" / kind / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)


def read(folder: Path, name: str) -> dict[str, Any]:
    """Read a sample of ltx-trainer's as its dataset does."""
    return {
        source.folder: torch.load(folder / source.folder / f"{name}.pt", map_location="cpu", weights_only=True)
        for source in SOURCES.values()
    }


def copied(folder: Path, names: Sequence[str], data: memoryview) -> None:
    """Read the bytes of our files into memory, one after the other."""
    place = 0
    for name in names:
        for source in SOURCES.values():
            with (folder / source.folder / f"{name}.safetensors").open("rb", buffering=0) as file:
                place += file.readinto(data[place:]) or 0


def seconds(run: Callable[[Any], object], items: Iterable[Any]) -> float:
    """Return the seconds of the processor that something takes for all items, one after the other. The results are dropped at once."""
    began = time.process_time()
    for item in items:
        run(item)
    return time.process_time() - began


def measure(
    count: int = 60, *, words: int = 150, batch_size: int = 1, turns: int = 9, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Any]:
    """Return the report: samples per second of the processor of each side, and how many times as fast as the other ours is.

    Args:
        count: the number of samples.
        words: the number of positions of each caption.
        batch_size: the number of samples that are joined.
        dtype: the dtype of our latents.
        turns: how often each side reads all samples; the median counts.
    """
    names = [f"clips/{number:06}" for number in range(count)]
    groups = [names[first : first + batch_size] for first in range(0, count, batch_size)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root)
            for seed, name in enumerate(names):
                make(folder, name, seed, words, dtype)
            samples = Samples(folder / "ours", SOURCES, read_manifest(folder / "ours", SOURCES), limit=0)
            largest = sum(
                max(each.stat().st_size for each in (folder / "ours" / source.folder).rglob("*.*")) for source in SOURCES.values()
            )
            data = memoryview(bytearray(batch_size * largest))
            sides: Mapping[str, tuple[Callable[[Any], object], Sequence[Any]]] = {
                "read": (partial(read, folder / "theirs"), names),
                "stacked": (lambda group: default_collate([read(folder / "theirs", name) for name in group]), groups),
                "ours": (samples.load, groups),
                "bytes": (lambda group: copied(folder / "ours", group, data), groups),
            }
            found: dict[str, list[float]] = {side: [] for side in sides}
            for turn in range(turns + 1):
                for side, (run, items) in sides.items():
                    taken = seconds(run, items)
                    if turn:  # what is loaded on first use is no part of either side
                        found[side].append(taken)
            bytes_of = {
                side: sum(each.stat().st_size for each in (folder / side).rglob("*") if each.is_file()) for side in ("ours", "theirs")
            }
    finally:
        torch.set_num_threads(threads)
    return {
        "samples": count,
        "batch_size": batch_size,
        "megabytes": {side: size / count / 1e6 for side, size in bytes_of.items()},
        "per_second": {side: count / statistics.median(each) for side, each in found.items()},
        "over_reading": ratio(found["read"], found["ours"]),
        "over_stacking": ratio(found["stacked"], found["ours"]),
        "of_copying": ratio(found["bytes"], found["ours"]),
    }


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median of what one side takes over what the other takes in the same turn."""
    return statistics.median(one / other for one, other in zip(theirs, ours, strict=True))


def text(report: Mapping[str, Any]) -> str:
    """Return the report for people."""
    megabytes, speeds = report["megabytes"], report["per_second"]
    return "\n".join(
        [
            f"{report['samples']} samples of {megabytes['ours']:.2f} MB, and of {megabytes['theirs']:.2f} MB in ltx-trainer's files; {report['batch_size']} at a time",
            "samples in a second of one processor:",
            f"  ltx, read and joined          {speeds['ours']:7.0f}",
            f"  the bytes alone, copied       {speeds['bytes']:7.0f}   ltx reaches {report['of_copying']:.0%} of this",
            f"  ltx-trainer's files, read     {speeds['read']:7.0f}   ltx is {report['over_reading']:.1f} times as fast (wanted: {GOAL:g})",
            f"  ltx-trainer's files, stacked  {speeds['stacked']:7.0f}   ltx is {report['over_stacking']:.1f} times as fast",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--float32", action="store_true", help="store our latents in float32, as the VAEs give them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = measure(arguments.samples, batch_size=arguments.batch_size, dtype=torch.float32 if arguments.float32 else torch.bfloat16)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    print(text(report))  # noqa: T201 (a program)


if __name__ == "__main__":
    main()

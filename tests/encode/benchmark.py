"""How fast clips are preprocessed, against how fast PyAV alone decodes them.

    python tests/encode/benchmark.py --clips 200

makes its clips of 1280 x 720 pixels and 49 frames, fits them to the bucket 640x352x49 with the tiny codec, and decodes the same files without doing anything
with the frames. Both sides are two processes of one decoder thread, and take turns on equal parts of the clips, so that whatever else the machine does slows
both. Of preprocessing everything counts but the start of Python: looking at the files, hashing, decoding, encoding, captions, writing. `--json` writes the
report to a file.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

GOAL = 0.8
STAGES = ("look", "decode", "resize", "encode", "text", "write")
PROCESSES = 2


def film(seed: int, frames: int, height: int, width: int) -> torch.Tensor:
    """Pictures as a camera might take them: a textured ground that pans, something that moves before it, grain; `[F, H, W, 3]` uint8."""
    generator = torch.Generator().manual_seed(seed)
    ground = 120 + 45 * _texture(height + 128, width + 256, generator)
    thing = 130 + 45 * _texture(height // 2, width // 3, generator)
    pictures = torch.empty(frames, height, width, 3, dtype=torch.uint8)
    for time_, picture in enumerate(pictures):
        down, across = round(64 + 50 * math.cos(time_ / 20)), round(128 + 100 * math.sin(time_ / 15 + seed))
        shown = ground[down : down + height, across : across + width].clone()
        top, left = (
            round(height / 4 * (1 + 0.6 * math.cos(time_ / 9))),
            round((width - width // 3) * (0.5 + 0.45 * math.sin(time_ / 12 + seed))),
        )
        shown[top : top + height // 2, left : left + width // 3] = thing
        shown += 2.5 * torch.randn(height, width, 1, generator=generator)
        picture.copy_(shown.round().clamp(0, 255))
    return pictures


def _texture(height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Grain of all sizes, the coarse the stronger, of mean 0 and spread 1; `[height, width, 3]`."""
    whole = torch.zeros(1, 3, height, width)
    for level in range(3, 9):
        coarse = torch.randn(1, 3, 2 + height * 2**level // 1280, 2 + width * 2**level // 1280, generator=generator)
        whole += torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic") * 0.5 ** (level - 3)
    return ((whole - whole.mean()) / whole.std())[0].permute(1, 2, 0)


def make_clips(folder: Path, count: int, different: int, frames: int, height: int, width: int) -> None:
    """`count` files, of which `different` differ: decoding a copy takes as long as decoding another film, and making one does not."""
    from ltxcore.media.probe import write_clip
    from ltxcore.protocols import Clip

    for index in range(count):
        path = folder / f"{index}.mp4"
        if index < different:
            write_clip(path, Clip(film(index, frames, height, width), 24.0))
        else:
            shutil.copy(folder / f"{index % different}.mp4", path)


class Clock:
    """Seconds of processor time by stage, of one process with one worker. What runs inside another stage is counted once."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._switch(lambda: self._running.append(name))
        try:
            yield
        finally:
            self._switch(self._running.pop)

    def timed(self, owner: Any, attribute: str, name: str) -> None:
        """From now on, what a function does counts to a stage."""
        original = getattr(owner, attribute)

        def measured(*arguments: Any, **options: Any) -> Any:
            with self.stage(name):
                return original(*arguments, **options)

        setattr(owner, attribute, measured)

    def _switch(self, change: Callable[[], Any]) -> None:
        now = time.process_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        change()
        self._since = now


def _measure_stages(clock: Clock) -> None:
    from ltxcore.codecs.tiny_text import TinyTextEncoder
    from ltxcore.codecs.tiny_video import TinyVideoCodec
    from ltxcore.dataset import raw
    from ltxcore.encode import ledger, products
    from ltxcore.media import pictures

    clock.timed(raw.RawFiles, "info", "look")
    clock.timed(raw.RawFiles, "content", "look")
    clock.timed(products, "read_fitted", "decode")
    clock.timed(pictures.Pictures, "pixels", "resize")
    clock.timed(TinyVideoCodec, "encode", "encode")
    clock.timed(TinyTextEncoder, "encode", "text")
    clock.timed(ledger, "write_sample", "write")
    clock.timed(ledger, "append_entry", "write")


def work(rank: int, folder: Path, parts: Sequence[Sequence[str]], bucket: str, barrier: Any, results: Any) -> None:
    """One process: in turns decode a part of the clips, and preprocess it."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(PROCESSES), LOCAL_WORLD_SIZE=str(PROCESSES))
    torch.set_num_threads(1)
    from ltxcore.codecs.source import Codecs
    from ltxcore.config.preprocessing import PreprocessingTable
    from ltxcore.encode.preprocess import preprocess

    clock = Clock()

    def encode(dataset: str, output: str) -> None:
        table = PreprocessingTable(resolution_buckets=bucket, skip_audio=True)
        preprocess(folder / dataset, folder / output, table, Codecs("tiny", device="cpu"), workers=1, progress=False)

    _decode(folder / parts[0][0])  # what is loaded on first use is no part of either side
    encode("warm.jsonl", "warm")
    _measure_stages(clock)
    decoded, preprocessed = [], []
    for number, part in enumerate(parts):
        for times, run in (
            (decoded, lambda part=part: [_decode(folder / name) for name in part[rank::PROCESSES]]),
            (preprocessed, lambda number=number: encode(f"part{number}.jsonl", "out")),
        ):
            barrier.wait()
            start, busy = time.perf_counter(), time.process_time()
            run()
            busy = time.process_time() - busy
            barrier.wait()
            times.append((time.perf_counter() - start, busy))
    results.put((torch.tensor(decoded).sum(0).tolist(), torch.tensor(preprocessed).sum(0).tolist(), clock.seconds))


def _decode(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        for _ in container.decode(stream):
            pass


def measure(
    count: int, *, different: int = 10, frames: int = 49, height: int = 720, width: int = 1280, bucket: str = "640x352x49", parts: int = 5
) -> dict[str, Any]:
    """The report: clips per second of both sides, their ratio, and processor seconds of preprocessing by stage.

    Args:
        count: clips.
        different: how many of them differ.
        frames, height, width: of each.
        bucket: that they are fitted to.
        parts: turns of each side.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder, count, min(different, count), frames, height, width)
        names = [f"{index}.mp4" for index in range(count)]
        shares = [names[part::parts] for part in range(min(parts, count // PROCESSES))]
        for number, share in enumerate(shares):
            lines = [json.dumps({"video": each, "caption": f"film number {each}"}) for each in share]
            (folder / f"part{number}.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "warm.jsonl").write_text("".join(json.dumps({"video": each, "caption": ""}) + "\n" for each in names[:PROCESSES]))
        context = multiprocessing.get_context("spawn")
        results, barrier = context.Queue(), context.Barrier(PROCESSES)
        processes = [context.Process(target=work, args=(rank, folder, shares, bucket, barrier, results)) for rank in range(PROCESSES)]
        for process in processes:
            process.start()
        found = [_result(results, processes) for _ in processes]
        for process in processes:
            process.join()
        bits = sum((folder / each).stat().st_size for each in names) * 8 / (count * frames / 24.0)
    decoded, preprocessed = (max(each[side][0] for each in found) for side in (0, 1))
    decoding, preprocessing = (sum(each[side][1] for each in found) for side in (0, 1))
    stages = {stage: sum(each[2][stage] for each in found) for stage in STAGES}
    stages["other"] = preprocessing - sum(stages.values())
    beside = {stage: seconds for stage, seconds in stages.items() if stage != "decode"}
    return {
        "clips": count,
        "megabits_per_second": bits / 1e6,
        "decoded_per_second": count / decoded,
        "preprocessed_per_second": count / preprocessed,
        "ratio": decoded / preprocessed,
        "processor_ratio": decoding / preprocessing,
        "stages": stages,
        "costliest": max(beside, key=lambda stage: beside[stage]),
    }


def _result(results: Any, processes: Sequence[Any]) -> Any:
    """What a process found out; an error where one of them failed, since the others would wait for it."""
    while True:
        try:
            return results.get(timeout=1.0)
        except queue.Empty:
            if any(process.exitcode for process in processes):
                for process in processes:
                    process.terminate()
                raise SystemExit("a process of the benchmark failed; its error is above") from None


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    total = sum(report["stages"].values())
    lines = [
        f"{report['clips']} clips of {report['megabits_per_second']:.1f} Mbit/s",
        f"PyAV alone decodes {report['decoded_per_second']:.2f} clips a second, preprocessing makes {report['preprocessed_per_second']:.2f}: {report['ratio']:.0%}",
        f"in time of the processors alone, however busy the machine: {report['processor_ratio']:.0%}",
        *(f"  {stage:<7}{seconds:8.2f} s {seconds / total:6.1%}" for stage, seconds in report["stages"].items()),
    ]
    if report["ratio"] < GOAL:
        lines.append(f"Below {GOAL:.0%}: beside decoding, it is {report['costliest']} that costs most.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = measure(arguments.clips)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    print(text(report))  # noqa: T201 (a program)


if __name__ == "__main__":
    main()

"""How the things in this folder were made: by version 0.1.0, commit fc83ad8, with its own commands. README.md says with what else.

    git worktree add /tmp/v010 fc83ad8
    cp -r tests/made_by_0_1_0/make.py /tmp/make.py
    PYTHONPATH=/tmp/v010:/tmp/v010/plugins:/tmp/v010/tests OMP_NUM_THREADS=1 python /tmp/make.py /home/somebody/films

What it writes there is this folder. It is no test: newer versions would write other things.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import tomli
import torch
from PIL import Image

RATE, FRAMES, SIDE = 16, 9, 64
KEPT = ("out/single", "out/two_processes", "out/whole_model", "out/pictures", "out/sounds", "out/finished")
NARROW = {"num_attention_heads": 1, "attention_head_dim": 16, "cross_attention_dim": 16}
TARGETS = ["attn1.to_q", "attn2.to_v", "audio_attn1.to_q"]

MODEL = {"model_path": "tiny"}
SMALL = {"model_path": "small.safetensors"}
VIDEO = {"is_generated": True, "latents_dir": "latents"}
AUDIO = {"is_generated": True, "latents_dir": "audio_latents"}
PLAIN = {"dataset": "plain/clips.jsonl", "held_out": 2, "num_dataloader_workers": 0}
OTHERWISE = {"dataset": "otherwise/clips.jsonl", "held_out": 0, "num_dataloader_workers": 0}
SIZES = {"resolution_buckets": "64x64x9;128x64x9;96x64x1;64x96x1;64x64x1", "on_error": "skip"}
DRAWN = {"interval": 2, "video_dims": [64, 64, 9], "frame_rate": 16.0, "samples": [{"prompt": "a square"}]}


# ---- media


def pixels(number: int, frames: int = FRAMES, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """A square that moves to the right over a gradient: another colour for each number, and no symmetry."""
    picture = np.zeros((frames, height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(20, 200, width)[None, None, :]
    picture[..., 1] = np.linspace(30, 150 + 10 * number, height)[None, :, None]
    picture[..., 2] = 25 * number
    for frame in range(frames):
        picture[frame, 8:24, 4 + 3 * frame + number : 20 + 3 * frame + number] = (250, 250 - 20 * number, 40)
    return picture


def sound(number: int, seconds: float) -> np.ndarray:
    """A tone that rises, `[1, samples]` float32 at 16 kHz, with a click each tenth of a second."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    tone = 0.3 * np.sin(2 * math.pi * (200 + 40 * number + 150 * time) * time)
    tone[::1600] = 0.9
    return tone.astype(np.float32)[None]


def clip(path: Path, number: int, *, aspect: int = 1, hole: tuple[float, float] | None = None, hlg: bool = False) -> None:
    """A clip with sound; `aspect`: pixels so many times as wide as high; `hole`: seconds whose sound packets are left out; `hlg`: HDR as phones record it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "28"})
        video.height, video.width = SIDE, SIDE
        video.pix_fmt = "yuv420p10le" if hlg else "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(aspect, 1)
        if hlg:
            video.codec_context.color_primaries, video.codec_context.color_trc = 9, 18
            video.codec_context.colorspace, video.codec_context.color_range = 9, 1
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        for index, picture in enumerate(pixels(number)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            if hlg:
                frame.color_primaries, frame.color_trc, frame.colorspace = 9, 18, 9
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        whole = av.AudioFrame.from_ndarray(sound(number, FRAMES / RATE), format="fltp", layout="mono")
        whole.sample_rate, whole.pts, whole.time_base = 16_000, 0, Fraction(1, 16_000)
        for packet in [*audio.encode(whole), *audio.encode(None)]:
            start = float((packet.pts or 0) * packet.time_base)
            if hole is None or not hole[0] <= start < hole[1]:
                container.mux(packet)


def picture(path: Path, number: int, *, turned: bool = False, alpha: bool = False) -> None:
    """A PNG of 96 x 64 pixels; `turned`: it says that it lies on its side; `alpha`: its right half shows through."""
    image = Image.fromarray(pixels(number, 1, 64, 96)[0])
    if alpha:
        image.putalpha(Image.fromarray(np.where(np.arange(96)[None] < 48, 255, 60).astype(np.uint8).repeat(64, 0)))
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif)


def wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).round().astype(np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def rows(path: Path, listed: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))


def media(folder: Path) -> None:
    """`plain`, which is read as ever, with every column; and `otherwise`, of which later versions read some files otherwise."""
    listed = []
    for number in range(6):
        row = {"video": f"clips/{number}.mp4", "video_mask": f"masks/{number}.png", "audio_mask": f"masks/{number}.wav"}
        row |= {"reference_video": f"references/{number}.mp4", "reference_audio": f"references/{number}.wav"}
        clip(folder / "plain" / row["video"], number)
        clip(folder / "plain" / row["reference_video"], 5 - number)
        wav(folder / "plain" / row["reference_audio"], sound(9 - number, FRAMES / RATE))
        (folder / "plain/masks").mkdir(exist_ok=True)
        half = np.zeros((SIDE, SIDE), np.uint8)
        half[:, : SIDE // 2] = 255
        Image.fromarray(half if number % 2 else half.T).save(folder / "plain" / row["video_mask"])
        wav(folder / "plain" / row["audio_mask"], np.repeat([1.0, 0.0, 1.0], 188)[None, : 1000 * FRAMES // RATE], 1000)
        listed.append({**row, "caption": f"clip number {number}"})
    rows(folder / "plain/clips.jsonl", listed)

    there = folder / "otherwise"
    clip(there / "as_ever_1.mp4", 1)
    clip(there / "as_ever_2.mp4", 2)
    clip(there / "wide_pixels.mp4", 3, aspect=2)
    clip(there / "hole.mp4", 4, hole=(0.12, 0.3))
    clip(there / "hlg.mp4", 5, hlg=True)
    picture(there / "lying.png", 0, turned=True)
    picture(there / "upright.png", 1)
    picture(there / "see_through.png", 2, alpha=True)
    names = sorted(path.name for path in there.iterdir())
    rows(there / "clips.jsonl", [{"video": name, "caption": f"of {Path(name).stem}"} for name in names])


# ---- runs


def run(output: str, strategy: dict[str, Any], data: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A LoRA in four steps."""
    tables = {
        "output_dir": output,
        "model": MODEL,
        "lora": {"rank": 2, "target_modules": TARGETS},
        "training_strategy": {"name": "flexible", **strategy},
        "optimization": {"steps": 4, "batch_size": 2, "learning_rate": 2e-3},
        "acceleration": {"mixed_precision_mode": "no"},
        "validation": {"inference_steps": 2, "skip_initial_validation": True},
        "checkpoints": {"precision": "float32"},
        "data": data,
    }
    for name, keys in changed.items():
        tables[name] = {**tables[name], **keys} if name in tables else keys
    return tables


def run_files(folder: Path) -> None:
    from ltxcore.config.render import document

    both = {"video": {**VIDEO, "conditions": [{"type": "first_frame", "probability": 0.5}]}}
    both["audio"] = {**AUDIO, "conditions": [{"type": "mask", "mask_dir": "audio_masks"}]}
    given = {"video": both["video"], "audio": AUDIO}
    adapted = {"rank": 2, "alpha": 4, "target_modules": ["attn1.to_q"]}
    heard = {**adapted, "target_modules": ["audio_attn1.to_q"]}
    board = {"video": {**VIDEO, "conditions": [{"type": "checkerboard", "size": 1}]}}
    plugin = {"plugins": ["ltx-checkerboard/src/ltx_checkerboard/__init__.py"]}
    encoded = {"preprocessed_data_root": "plain/.precomputed", "held_out": 2, "num_dataloader_workers": 0}
    apart = {**PLAIN, "preprocessed_data_root": "out/trigger.set"}
    runs = {
        "single": run("out/single", both, PLAIN, validation=DRAWN),
        "two_processes": run("out/two_processes", given, OTHERWISE, engine={"stage": 2}, model=SMALL, preprocessing=SIZES),
        "whole_model": run("out/whole_model", both, encoded, model={**SMALL, "training_mode": "full"}),
        "pictures": run("out/pictures", {"video": VIDEO}, OTHERWISE, preprocessing=SIZES, lora=adapted),
        "sounds": run("out/sounds", {"video": VIDEO, "audio": AUDIO}, OTHERWISE, preprocessing=SIZES),
        "finished": run("out/finished", board, encoded, lora=adapted, **plugin),
        "rslora": run("out/rslora", board, encoded, **plugin, lora={**adapted, "use_rslora": True}),
        "dora": run("out/dora", board, encoded, **plugin, lora={**adapted, "use_dora": True}),
        "trigger": run("out/trigger", {"audio": AUDIO}, apart, preprocessing={"lora_trigger": "TRIG"}, lora=heard),
    }
    for name, tables in runs.items():
        (folder / f"{name}.toml").write_text(document(tables))


def examples(folder: Path, version: Path) -> None:
    """The run files of every mode that 0.1.0 came with, on the data here; and what it made of each, every value spelled out."""
    from ltxcore.config.load import load_run

    for name in ("examples", "resolved"):
        (folder / name).mkdir()
    for path in sorted((version / "examples").glob("*.toml")):
        text = path.read_text().replace("media/clips.jsonl", "../plain/clips.jsonl").replace("held_out = 32", "held_out = 2")
        (folder / "examples" / path.name).write_text(text)
        (folder / "resolved" / path.name).write_text(load_run(folder / "examples" / path.name).resolved())


def small_model(path: Path) -> None:
    """A model for the tiny codecs whose every number fits into a repository."""
    from distributed.untrained import write_untrained

    from ltxcore.models.tiny_model import TINY

    narrow = {f"{stream}{key}": size for stream in ("", "audio_") for key, size in NARROW.items()}
    text = {"caption_proj_before_connector": False, "caption_channels": 128}  # the model projects the features of the tiny text encoder
    write_untrained(path, {**TINY, "num_layers": 1, **narrow, **text}, torch.float32)


# ---- 0.1.0 at work


def ltx(*arguments: str, processes: int = 1, stop: int = 0) -> None:
    """One command of 0.1.0; `stop`: the step in which SIGTERM meets it."""
    start = (
        [sys.executable]
        if processes == 1
        else [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    )
    done = subprocess.run(
        [*start, __file__, "ltx", *arguments], env={**os.environ, "STOP_AT": str(stop), "GLOO_SOCKET_IFNAME": "lo"}, check=False
    )
    assert (done.returncode == 0) == (not stop), arguments


def command(arguments: list[str]) -> None:
    """What `ltx` starts; it stops itself as a user would, without a plugin that the run file would have to name."""
    from ltxcore.trackers.jsonl import Jsonl

    from ltxcore.cli.main import main

    at, log = int(os.environ["STOP_AT"]), Jsonl.log

    def logged(self: Any, step: int, metrics: Any) -> None:
        log(self, step, metrics)
        if at and step == at and "loss" in metrics:
            os.kill(os.getpid(), signal.SIGTERM)

    Jsonl.log = logged
    sys.argv = ["ltx", *arguments]
    main()


def make(folder: Path) -> None:
    import ltxcore

    version = Path(ltxcore.__file__).parents[1]
    assert tomli.loads((version / "pyproject.toml").read_text())["project"]["version"] == "0.1.0"
    folder.mkdir(parents=True)
    os.chdir(folder)
    media(folder)
    shutil.copytree(version / "examples/ltx-checkerboard", folder / "ltx-checkerboard", ignore=shutil.ignore_patterns("__pycache__"))
    small_model(folder / "small.safetensors")
    run_files(folder)
    examples(folder, version)
    ltx("preprocess", "plain/clips.jsonl", "--model-path", "tiny", "--no-progress")
    ltx("preprocess", "otherwise/clips.jsonl", "--model-path", "tiny", "--no-progress", *(
        f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()
    ))  # fmt: skip
    (folder / "weights").mkdir()
    for name in ("single", "two_processes", "whole_model", "pictures", "sounds", "finished", "rslora", "dora", "trigger"):
        processes = 2 if name == "two_processes" else 1
        ltx("run", f"{name}.toml", processes=processes)
        (weights,) = (folder / f"out/{name}").glob("*.safetensors")
        shutil.copy(weights, folder / f"weights/{name}.safetensors")
        if name != "finished":
            shutil.rmtree(folder / f"out/{name}")
            shutil.rmtree(folder / f"out/{name}.set", ignore_errors=True)
        if f"out/{name}" in KEPT and name != "finished":
            ltx("run", f"{name}.toml", processes=processes, stop=2)


if __name__ == "__main__":
    command(sys.argv[2:]) if sys.argv[1] == "ltx" else make(Path(sys.argv[1]))

"""Run files of the examples with something changed, each given to what `ltx check` does."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import attrs

from fuzz.mutations import encoded, mutated_bytes, mutated_text
from fuzz.watching import fault
from ltxcore.config.load import read_run
from ltxcore.runs.checks import check_run

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted([*ROOT.glob("examples/*.toml"), *ROOT.glob("examples/base/*.toml")])
ROWS = 4

EVERYTHING = """
plugins = ["own.py"]
seed = 7
[model]
model_path = "tiny"
training_mode = "lora"
[data]
dataset = "media/clips.jsonl"
held_out = 0.5
[training_strategy]
name = "flexible"
[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [{ type = "first_frame", probability = 0.5 }, { type = "mask", mask_dir = "video_masks" }, { type = "spatial_crop", spatial_region = [0, 0, 32, 32] }]
[[training_strategy.audio.conditions]]
type = "prefix"
temporal_boundary = 2
[training_strategy.audio]
is_generated = true
latents_dir = "audio_latents"
[lora]
rank = 8
alpha = 4
dropout = 0.1
target_modules = ["attn1.to_k", "audio_attn1.to_k"]
[optimization]
steps = 10
learning_rate = 1e-4
betas = [0.9, 0.99]
scheduler_type = "cosine"
scheduler_params = { eta_min = 0 }
[flow_matching]
timestep_sampling_mode = "uniform"
timestep_sampling_params = { max_value = 1 }
[validation]
video_dims = [64, 64, 9]
stg_blocks = [1]
[[validation.samples]]
prompt = "a red disc"
seed = 3
conditions = [{ type = "first_frame", image_or_video = "media/clips/train_0000.mp4" }, { type = "prefix", audio = "media/clips/train_0000.mp4", duration = 0.1 }]
[checkpoints]
interval = 2
keep_last_n = 1
[preprocessing]
resolution_buckets = "64x64x9;96x64x9"
audio_durations = [1, 2.5]
alpha_color = "#00FF00"
lora_trigger = "TOK"
[engine]
name = "auto"
[hub]
hub_model_id = "me/model"
[wandb]
tags = ["a"]
[trackers.jsonl]
"""


@attrs.frozen
class RunFiles:
    """Run files, and a folder with what they name; commands are run in it.

    Attributes:
        folder: of `run.toml`.
        texts: that are changed.
    """

    folder: Path
    texts: tuple[str, ...]

    @classmethod
    def at(cls, folder: Path) -> RunFiles:
        media = ROOT / "examples" / "media"
        (folder / "media").mkdir(parents=True)
        lines = (media / "clips.jsonl").read_text().splitlines(keepends=True)[:ROWS]
        (folder / "media" / "clips.jsonl").write_text("".join(lines))
        for kind in media.iterdir():
            if kind.is_dir() and not kind.name.startswith("."):  # that of an example which was run here holds what was encoded
                (folder / "media" / kind.name).mkdir()
                for file in sorted(kind.iterdir())[:ROWS]:
                    shutil.copyfile(file, folder / "media" / kind.name / file.name)
        (folder / "own.py").write_text("from ltxcore.api import hookimpl\n\n\n@hookimpl\ndef ltx_trackers():\n    return {}\n")
        return cls(folder, (*(_fitted(path.read_text()) for path in EXAMPLES), EVERYTHING))

    def trial(self, seed: str) -> tuple[str, str]:
        """What is said of a run file with something changed, and what is wrong with that."""
        rng = random.Random(seed)
        text = rng.choice(self.texts)
        content = mutated_bytes(rng, text.encode()) if rng.random() < 0.15 else encoded(mutated_text(rng, text))
        return self.said(content)

    def said(self, content: bytes) -> tuple[str, str]:
        """What is said of a run file, and what is wrong with that."""
        path = self.folder / "run.toml"
        path.write_bytes(content)
        return fault(lambda: self._check(path), self.folder)

    def _check(self, path: Path) -> str:
        read = read_run(path)
        check_run(read)
        read.loaded.resolved()
        return "in order"


def _fitted(text: str) -> str:
    """An example that is in order with as few rows as there are here, so that it is refused only for what is changed in it."""
    text = re.sub(r"held_out = \d+", f"held_out = {ROWS // 2}", text)
    return re.sub(r'"[^"]*/base_world/base\.jsonl"', '"media/clips.jsonl"', text)

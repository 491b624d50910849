"""What users have on their disks, a small one of each: datasets, encoded sets, run files, models, LoRAs, prompts, configurations of other trainers, plugins."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

from helpers.older_runs import brought
from helpers.other_trainers import job, musubi, pipe
from helpers.sixteen_configs import configuration
from helpers.training_runs import tables
from helpers.whole_models import diffusers_folder, unified
from ltxcore.config.render import document

PLUGIN = '''
import attrs
from ltxcore.api import Inputs, LatentState, hookimpl


@attrs.frozen
class Stripes:
    """Give every n-th column."""

    modalities = frozenset({"video"})
    content = "whole"
    every: int = attrs.field(default=2, validator=attrs.validators.ge(2), metadata={"help": "of how many columns one is given"})

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(state.grid.column % self.every == 0)


@hookimpl
def ltx_conditions():
    return {"stripes": Stripes}


def turned(frames):
    return frames.flip(-2)


@hookimpl
def ltx_reference_filters():
    return {"turned": turned}
'''

PROMPTS = """
negative_prompt = "worst quality"
seed = 5
inference_steps = 2
video_dims = [64, 64, 9]
video_cfg_scale = 3.0
stg_blocks = [1]
[[samples]]
prompt = "a red disc sways slowly"
conditions = [{ type = "first_frame", image_or_video = "plain/clips/0.mp4" }]
[[samples]]
prompt = "a blue square"
seed = 7
conditions = [{ type = "prefix", audio = "plain/references/0.wav", duration = 0.1 }, { type = "reference", video = "plain/clips/1.mp4", downscale_factor = 1 }]
"""

DEEPSPEED = {
    "zero_optimization": {"stage": 2, "overlap_comm": True},
    "bf16": {"enabled": "auto"},
    "gradient_clipping": 1.0,
    "train_batch_size": "auto",
}

HOSTS = "# of the cluster\nlocalhost slots=4\nother slots=4\n"


def films(folder: Path) -> None:
    """Clips, encoded sets, finished and unfinished runs, LoRAs and a small model, as 0.1.0 left them; and files beside them that it takes."""
    brought(folder)
    rows = [json.loads(line) for line in (folder / "plain" / "clips.jsonl").read_text().splitlines()][:2]
    _datasets(folder / "plain", rows)
    _one_sample(folder / "plain" / ".precomputed", folder / "one")
    mixed = folder / "mixed"
    mixed.mkdir()
    for name, place in (("a.mp4", "plain/clips/0.mp4"), ("b.png", "otherwise/lying.png"), ("c.wav", "plain/references/0.wav")):
        shutil.copyfile(folder / place, mixed / name)
        (mixed / name).with_suffix(".txt").write_text(f"a caption of {name}\n")
    (folder / "prompts.toml").write_text(PROMPTS)
    lines = [{"prompt": "a red disc"}, {"prompt": "x", "seed": 3, "conditions": [{"type": "first_frame", "image_or_video": "mixed/b.png"}]}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "own.py").write_text(PLUGIN)
    (folder / "ds.json").write_text(json.dumps(DEEPSPEED, indent=1))
    (folder / "hosts").write_text(HOSTS)
    small = {"model_path": str(folder / "small.safetensors")}
    generated = {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}}
    run = tables(folder / "plain/.precomputed", folder / "fresh", training_strategy=generated, lora={"target_modules": ["attn1.to_q"]})
    run |= {"model": small, "data": {**run["data"], "held_out": 2}}
    (folder / "small.toml").write_text(document(run))
    engine = {"name": "zero", "stage": 2, "deepspeed_config": str(folder / "ds.json")}
    (folder / "zero.toml").write_text(document(run | {"engine": engine}))
    own = {**generated, "video": {**generated["video"], "conditions": [{"type": "stripes", "every": 3}]}}
    (folder / "own.toml").write_text(document(run | {"plugins": [str(folder / "own.py")], "training_strategy": own}))
    (folder / "yaml").mkdir()
    for name in ("i2v_lora", "v2v_ic_lora", "t2v_lora_low_vram"):
        (folder / "yaml" / f"{name}.yaml").write_text(configuration(name, folder / "yaml"))
    _of_other_trainers(folder)


def _of_other_trainers(folder: Path) -> None:
    learned = {
        "optimizer_args": ["betas=(0.9, 0.95)"],
        "network_args": ["use_dora=true"],
        "dop": True,
        "dop_args": ["class=a", "multiplier=0.5"],
    }
    drawn = {"lr_scheduler": "cosine_with_restarts", "sample_prompts": "prompts.txt", "timestep_sampling": "shift", "network_alpha": 8.5}
    shapes = {"dataset.enable_ar_bucket": True, "dataset.min_ar": 0.5, "directory.ar_buckets": [1.0, [16, 9]]}
    optimizer = {"train.optimizer_params": {"weight_decay": 0.1}, "train.lr_scheduler": "linear", "train.ema_config": {"use_ema": True}}
    places = {name: folder / name for name in ("ai-toolkit", "musubi", "diffusion-pipe")}
    for place in places.values():
        place.mkdir()
    (places["ai-toolkit"] / "job.yaml").write_text(job({**optimizer, "network.type": "lokr", "model.quantize": True}))
    (places["musubi"] / "arguments.toml").write_text(musubi(places["musubi"], {**learned, **drawn}, {"enable_bucket": True}))
    (places["musubi"] / "train.sh").write_text("python ltx2_train_network.py --config_file arguments \\\n  --network_dim 8\n")
    (places["musubi"] / "prompts.txt").write_text("a dog --w 96 --h 64 --f 17 --d 3 --s 20 --n ugly\n")
    (places["diffusion-pipe"] / "main.toml").write_text(pipe(places["diffusion-pipe"], {**shapes, "lr_scheduler": "linear"}))


def _datasets(folder: Path, rows: list[dict[str, str]]) -> None:
    (folder / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "two.json").write_text(json.dumps(rows, indent=1))
    for name, delimiter in (("two.csv", ","), ("two.tsv", "\t")):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)


def _one_sample(root: Path, to: Path) -> None:
    """The first sample of an encoded set, as a set of pictures and masks; sounds take seconds to decode."""
    for manifest in (root / folder / "manifest-0.jsonl" for folder in ("latents", "video_masks")):
        place = to / manifest.parent.name
        (place / "clips").mkdir(parents=True)
        (place / manifest.name).write_text(manifest.read_text().splitlines()[0] + "\n")
        name = json.loads((place / manifest.name).read_text())["name"]
        shutil.copyfile(manifest.parent / f"{name}.safetensors", place / f"{name}.safetensors")


def models(folder: Path) -> None:
    """Small models in the official layouts, with all that belongs to them: one file and Gemma 3, and a folder of diffusers."""
    for name, made in (("unified", unified), ("folder", diffusers_folder)):
        (folder / name).mkdir(parents=True)
        made(folder / name)
    media = Path(__file__).parents[1] / "made_by_0_1_0" / "plain"
    (folder / "clips").mkdir()
    shutil.copyfile(media / "clips" / "0.mp4", folder / "clips" / "0.mp4")
    (folder / "set.jsonl").write_text('{"video": "clips/0.mp4", "caption": "a disc"}\n')
    (folder / "run.toml").write_text(document(tables(folder, folder / "fresh", model={"model_path": str(folder / "folder")})))

"""A small run file, and what the fixtures of this folder give."""

from __future__ import annotations

import random
from collections.abc import Callable

from ltxcore.config.load import LoadedRun

MINIMAL = """\
[model]
model_path = "tiny"
[training_strategy]
name = "flexible"
[training_strategy.audio]
is_generated = true
latents_dir = "audio_latents"
[data]
preprocessed_data_root = "."
"""

Load = Callable[..., LoadedRun]
Mistakes = Callable[..., str]

TRAINING = {
    "mask": "{ type = 'mask', mask_dir = 'masks', probability = 0.25 }",
    "prefix": "{ type = 'prefix', temporal_boundary = 8 }",
    "suffix": "{ type = 'suffix', temporal_boundary = 2, probability = 1e-3 }",
    "reference": "{ type = 'reference', latents_dir = 'references' }",
    "first_frame": "{ type = 'first_frame', probability = 0.5 }",
    "spatial_crop": "{ type = 'spatial_crop', spatial_region = [0, 32, 64, 96] }",
    "hole": "{ type = 'hole', length = 0.3, count = 2 }",
    "drawn_hole": "{ type = 'hole', length = { min = 0.1, max = 1 }, start = { min = 0, max = 1 }, invert = { one_of = [true, false] } }",
    "keyframes": "{ type = 'keyframes', keyframes_dir = 'keyframes', candidates = [0, -1] }",
    "drawn_prefix": "{ type = 'prefix', temporal_boundary = { min = 1, max = 8, fit = true } }",
    "drawn_suffix": "{ type = 'suffix', temporal_boundary = { one_of = [1, 4], weights = [1, 0.5] }, probability = 0.5 }",
}
SAMPLING = {
    "video_hole": "{ type = 'hole', video = 'clip.mp4', height = 0.5, top = 1 }",
    "audio_hole": "{ type = 'hole', audio = 'sound.wav', length = 0.5 }",
    "video_mask": "{ type = 'mask', video = 'clip.mp4', mask = 'clip.mp4' }",
    "audio_prefix": "{ type = 'prefix', audio = 'sound.wav', duration = 0.5 }",
    "video_prefix": "{ type = 'prefix', video = 'clip.mp4', num_frames = 9 }",
    "video_suffix": "{ type = 'suffix', video = 'clip.mp4', temporal_boundary = 1 }",
    "open_suffix": "{ type = 'suffix', audio = 'sound.wav' }",
    "first_frame": "{ type = 'first_frame', image_or_video = 'clip.mp4' }",
    "crop": "{ type = 'spatial_crop', video = 'clip.mp4', spatial_region = [0, 0, 64, 32] }",
    "reference": "{ type = 'reference', video = 'clip.mp4', downscale_factor = 2, include_in_output = true }",
    "keyframes": "{ type = 'keyframes', images = ['clip.mp4', 'clip.mp4'], frames = [0, -1] }",
    "timed_keyframes": "{ type = 'keyframes', images = ['clip.mp4'], times = [0.5] }",
    "audio_reference": "{ type = 'reference', audio = 'sound.wav' }",
}
VALUES = {
    "lora": ["rank = 8", "alpha = 4", "dropout = 0.1", "target_modules = ['attn1.to_k', 'ff.net.2']"],
    "optimization": [
        "learning_rate = 1e-4",
        "betas = [0.8, 0.99]",
        "scheduler_type = 'cosine'",
        "scheduler_params = { eta_min = 0 }\nscheduler_type = 'cosine'",
        "max_grad_norm = 0",
    ],
    "acceleration": ["mixed_precision_mode = 'no'", "quantization = 'int8-quanto'"],
    "checkpoints": ["interval = 250", "keep_last_n = -1"],
    "flow_matching": ["timestep_sampling_mode = 'uniform'\ntimestep_sampling_params = { max_value = 1 }", "shared_sigma = true"],
    "wandb": ["tags = ['a \"b\"', 'ü \\\\ \\u0007']", "entity = 'me'"],
    "engine": ["name = 'zero'\nstage = 2\ndeepspeed_config = 'ds.json'"],
    "preprocessing": ["resolution_buckets = '64x64x17;96x64x9'\nlora_trigger = 'TOK'", "audio_durations = [1, 2.5]"],
    "trackers.jsonl": [""],
    "validation": ["stg_blocks = []", "generate_audio = true", "video_dims = [64, 64, 17]", 'negative_prompt = """two\nlines\\ttab"""'],
}


def run_file(rng: random.Random) -> str:
    """A random run file that is valid."""
    lines = [f"seed = {rng.randint(0, 99)}", "plugins = ['extra.py']" if rng.random() < 0.3 else ""]
    lines += ["[model]", "model_path = 'base.safetensors'", f"training_mode = '{rng.choice(['lora', 'full'])}'"]
    lines += ["[data]", rng.choice(["preprocessed_data_root = '.'", "dataset = 'set.jsonl'"])]
    lines += [rng.choice(["", "held_out = 5", "held_out = 0.1", "held_out = 'set.jsonl'"])]
    lines += ["[training_strategy]", "name = 'flexible'"]
    names = rng.choice([["video"], ["audio"], ["video", "audio"]])
    for index, name in enumerate(names):
        generated = index == 0 or rng.random() < 0.5
        allowed = [
            key
            for key in TRAINING
            if (name == "video" or key not in ("first_frame", "spatial_crop", "keyframes"))
            and (generated or key in ("reference", "keyframes"))
        ]
        conditions = ", ".join(TRAINING[key] for key in rng.sample(allowed, rng.randint(0, min(3, len(allowed)))))
        lines += [
            f"[training_strategy.{name}]",
            f"is_generated = {str(generated).lower()}",
            f"latents_dir = '{name}'",
            f"conditions = [{conditions}]",
        ]
        if allowed and rng.random() < 0.4:
            lists = [", ".join(TRAINING[key] for key in rng.sample(allowed, rng.randint(1, min(2, len(allowed))))) for _ in range(2)]
            weights = rng.choice(["", ", weights = [1, 0.5, 2]"])
            lines.append(f"choices = [{{ one_of = [[{lists[0]}], [], [{lists[1]}]]{weights} }}]")
    for table in rng.sample(list(VALUES), rng.randint(0, len(VALUES))):
        lines += [f"[{table}]", rng.choice(VALUES[table])]
    for _ in range(rng.randint(0, 2)):
        chosen = ", ".join(rng.choice(list(SAMPLING.values())) for _ in range(rng.randint(0, 3)))
        lines += [
            "[[validation.samples]]",
            "prompt = 'a \"tone\"'",
            f"conditions = [{chosen}]",
            rng.choice(["", "seed = 0", "video_dims = [64, 64, 9]"]),
        ]
    return "\n".join(lines) + "\n"

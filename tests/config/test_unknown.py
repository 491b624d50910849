"""What is said about a key that its table does not have: a suggestion is made only where it does the same thing."""

from __future__ import annotations

import random
import re
import string
from typing import get_args

import attrs
import pytest

from ltxcore.config.run_file import RunFile
from ltxcore.config.sample_tables import sample_keys
from ltxcore.config.tables import Key, keys_of, training_keys
from ltxcore.config.unknown import IN_VALIDATION, NOTHING, OTHERWISE, SAME, _tables, remedy_for
from ltxcore.registry import load

_ALIKE = """
adam_epsilon aspect_ratio base_lr block_dims cfg_dropout clip_length color_jitter conv_dim crop decouple device dist_backend ema_momentum epsilon
eval_steps flash_attn frame_stride gpu_ids grad_dtype layers_to_train local_rank log_every lokr_factor master_port max_duration max_value
min_lr momentum nesterov num_gpus optimizer_eps prompt_file random_crop repeats sample_rate shift strength temperature text_encoder_lr
text_lr train_text_encoder video_length vae_batch_size vae_dtype warmup weight
"""

ALIKE = _ALIKE.split()
"""Words of other trainers that no table of ours knows, some of them like keys that do something else."""

TABLES = _tables()
CONDITIONS = {name: named.value for name, named in load().of_kind("condition").items()}
OF_PLUGINS: dict[str, list[Key]] = {
    **{f"training {name}": training_keys(cls) for name, cls in CONDITIONS.items()},
    **{f"sample {name}": sample_keys(cls, sorted(cls.modalities)[-1]) for name, cls in CONDITIONS.items()},
    **{f"sampler {name}": keys_of(named.value) for name, named in load().of_kind("sigma_sampler").items()},
    **{f"strategy {name}": keys_of(named.value) for name, named in load().of_kind("strategy").items()},
}


def keys_at(table: tuple[str, ...]) -> dict[str, Key]:
    keys = keys_of(RunFile)
    for part in table:
        kind = next(key.kind for key in keys if key.name == part)
        keys = keys_of(next(each for each in (kind, *get_args(kind)) if isinstance(each, type) and attrs.has(each)))
    return {key.name: key for key in keys}


def said(typed: str, table: str = "") -> str:
    path = tuple(filter(None, table.split(".")))
    return remedy_for(typed, keys_at(path), path)


@pytest.mark.parametrize(
    ("table", "typed", "expected"),
    [
        # typos
        ("lora", "blocks", "blocks is a key of [lora.groups] and of [optimization.groups]."),
        ("lora.groups", "ranks", 'Did you mean "rank"?'),
        ("optimization", "learning_rte", 'Did you mean "learning_rate"?'),
        ("optimization", "learnign_rate", 'Did you mean "learning_rate"?'),
        ("optimization", "learning_rates", 'Did you mean "learning_rate"?'),
        ("optimization", "learningrate", 'Did you mean "learning_rate"?'),
        ("optimization", "learning-rate", 'Did you mean "learning_rate"?'),
        ("optimization", "Learning_Rate", 'Did you mean "learning_rate"?'),
        ("optimization", "laerning_raet", 'Did you mean "learning_rate"?'),
        ("optimization", "step", 'Did you mean "steps"?'),
        ("", "optimisation", 'Did you mean "optimization"?'),
        # other words for the same thing
        ("optimization", "lr", 'Did you mean "learning_rate"?'),
        ("optimization", "train_batch_size", 'Did you mean "batch_size"?'),
        ("lora", "network_dim", 'Did you mean "rank"?'),
        ("lora", "network_alpha", 'Did you mean "alpha"?'),
        ("", "adapter", 'Did you mean "lora"?'),
        ("validation", "steps", 'Did you mean "inference_steps"?'),
        ("validation.samples", "width", 'Did you mean "video_dims"?'),
        ("validation.samples", "steps", "In ltx it is inference_steps, in [validation]."),
        ("model", "lora_rank", "In ltx it is rank, in [lora]."),
        ("", "max_train_steps", "In ltx it is steps, in [optimization]."),
        ("optimization", "save_every_n_steps", "In ltx it is interval, in [checkpoints]."),
        ("model", "gradient_checkpointing", "In ltx it is enable_gradient_checkpointing, in [optimization]."),
        ("preprocessing", "train_batch_size", "In ltx it is batch_size, in [optimization]."),
        ("acceleration", "precision", 'Did you mean "mixed_precision_mode"?'),
        ("checkpoints", "training_folder", "In ltx it is output_dir, above the first table."),
        # keys of another table
        ("model", "learning_rate", "learning_rate is a key of [optimization]."),
        ("", "learning_rate", "learning_rate is a key of [optimization]."),
        ("optimization", "interval", "interval is a key of [validation] and of [checkpoints]."),
        ("checkpoints", "output_dir", "output_dir is not a key of a table: write it above the first one."),
        ("model", "learning_rat", 'Did you mean "learning_rate", a key of [optimization]?'),
        # what is said in another way, and what there is not
        ("optimization", "masked_loss", 'Write [[objectives]] with type = "weighted_region".'),
        ("optimization", "epochs", "A run is as long as optimization.steps says, and there is no key for passes over the data."),
        (
            "checkpoints",
            "snr_gamma",
            "Other trainers have this key; ltx has nothing like it. Known: best_by, interval, keep_best, keep_last_n, max_shard_size, "
            "no_resume, precision, save_training_state, stop_after.",
        ),
        ("hub", "bananas", "Known: hub_model_id, push_to_hub."),
    ],
)
def test_an_unknown_key_is_answered_with_what_does_the_same_thing(table: str, typed: str, expected: str) -> None:
    assert said(typed, table) == expected


@pytest.mark.parametrize(
    ("typed", "kind", "expected"),
    [
        ("mask_dir", "sample mask", 'Did you mean "mask"?'),
        ("mask", "training mask", 'Did you mean "mask_dir"?'),
        ("image", "sample first_frame", 'Did you mean "image_or_video"?'),
        ("latents", "training reference", 'Did you mean "latents_dir"?'),
        ("prob", "training first_frame", 'Did you mean "probability"?'),
        ("temporal_boundry", "training prefix", 'Did you mean "temporal_boundary"?'),
        ("latents_dir", "strategy flexible", "latents_dir is a key of [training_strategy.video] and of [training_strategy.audio]."),
        ("stdev", "sampler shifted_logit_normal", 'Did you mean "std"?'),
        ("least", "sampler shifted_logit_normal", "Known: eps, max_value, min_value, shift, std, uniform_prob."),
    ],
)
def test_a_mistyped_key_of_a_table_that_plugins_decide_comes_with_the_nearest(typed: str, kind: str, expected: str) -> None:
    paths = {
        "sampler": ("flow_matching", "timestep_sampling_params"),
        "strategy": ("training_strategy",),
        "training": ("training_strategy", "video", "conditions", 0),
        "sample": ("validation", "samples", 0, "conditions", 0),
    }
    assert remedy_for(typed, {key.name: key for key in OF_PLUGINS[kind]}, paths[kind.split()[0]]) == expected


def mistyped(name: str, draws: random.Random) -> str:
    """A name with one typo; digits are left alone, since another number is another thing."""
    places = [place for place, letter in enumerate(name) if not letter.isdigit()]
    at, letter = draws.choice(places), draws.choice(string.ascii_lowercase)
    kind = draws.choice(["missing", "doubled", "added", "wrong", "exchanged"])
    if kind == "missing":
        return name[:at] + name[at + 1 :]
    if kind == "doubled":
        return name[:at] + name[at] + name[at:]
    if kind == "added":
        return name[:at] + letter + name[at:]
    if kind == "wrong":
        return name[:at] + letter + name[at + 1 :]
    return name[:at] + name[at + 1 : at + 2] + name[at] + name[at + 2 :]


def test_every_key_with_a_typo_is_suggested_right() -> None:
    draws = random.Random(5)
    cases = [(table, keys_at(table)) for table in TABLES]
    cases += [(("training_strategy",), {key.name: key for key in keys}) for keys in OF_PLUGINS.values()]
    words = {*SAME, *OTHERWISE, *IN_VALIDATION, *(key for keys in TABLES.values() for key in keys)}
    tried = 0
    for table, keys in cases:
        for name in keys:
            for typed in {mistyped(name, draws) for _ in range(4)} - words - {name}:
                remedy = remedy_for(typed, keys, table)
                tried += 1
                alike = len(name) < 6 or "cfg" in name or "stg" in name  # then one typo may make it as near to another
                assert re.fullmatch(rf'Did you mean .*"{name}".*' if alike else rf'Did you mean "{name}"\?', remedy), (table, typed, remedy)
    assert tried > 500


def test_a_word_for_what_there_is_not_is_never_taken_for_a_key() -> None:
    for table in TABLES:
        keys = keys_at(table)
        for typed in {*ALIKE, *NOTHING, *OTHERWISE} - keys.keys():
            assert "Did you mean" not in remedy_for(typed, keys, table), (typed, table)


def test_another_word_for_a_key_leads_to_that_key_and_to_no_other() -> None:
    in_table = {word: tuple(key.split(".")) for word, key in SAME.items() if key.count(".") < 2}  # that of a sampler is above
    for table in TABLES:
        keys = keys_at(table)
        for typed, (*place, own) in in_table.items():
            remedy = remedy_for(typed, keys, table)
            if tuple(place) == table:
                assert remedy == f'Did you mean "{own}"?', (typed, table)
            elif place and "validation" not in (place[0], *table[:1]):
                assert remedy == f"In ltx it is {own}, in [{place[0]}]." or remedy.startswith(f"{typed} is a key of "), (typed, table)


def test_every_other_word_stands_for_a_key_that_there_is() -> None:
    real = {".".join((*table, key)) for table, keys in TABLES.items() for key in keys}
    assert {key for key in SAME.values() if not re.search(r"(timestep_sampling|optimizer)_params\.", key)} <= real
    assert set(IN_VALIDATION.values()) <= real
    assert not NOTHING & {key.rpartition(".")[2] for key in real}

"""Advice on a key that does not exist in its table: a typo, a key of another table, another trainer's word, or an unknown word.

The module knows the words of other trainers for things that have a different name here, are done differently here, or do not exist
here.

Users who come from another trainer use its words. A key is suggested for another trainer's word only if it does the same thing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import attrs

from ltxcore.config.reading import KeyPath, spelled
from ltxcore.config.run_file import RunFile
from ltxcore.config.tables import Key, keys_of
from ltxcore.errors import did_you_mean, known_names, meant
from ltxcore.objectives import ObjectiveUse

Table = tuple[str, ...]
"""The place of a table, without the indices of list entries: ("validation", "samples")."""

TABLES = frozenset(field.name for field in attrs.fields(RunFile) if field.type is not None and attrs.has(field.type))
"""The keys of a run file that are tables."""

OF_SAMPLES = frozenset({("validation",), ("validation", "samples")})
"""The tables of samples to generate, which have some keys in common."""


def remedy_for(name: str, keys: Mapping[str, Key], path: KeyPath) -> str:
    """Advise what to do about a key that a table does not have. A key is suggested only if it does what the user wants.

    Args:
        name: the key, as it was written.
        keys: the table's keys, by name.
        path: the table's path.
    """
    here = tuple(part for part in path if isinstance(part, str))
    word = name.casefold().replace("-", "_")
    if "type" in keys and (own := [key for key in IN_CONDITIONS.get(word, ()) if key in keys]):
        return f'Did you mean "{own[0]}"?'
    own_word = IN_VALIDATION.get(word, "") if here in OF_SAMPLES else ""
    same = own_word or SAME.get(word, "")
    if same and (said := _in_this(same, keys, here) or (_in_another(same, here) if own_word else "")):
        return said
    elsewhere = {**_tables(), **dict(_nested(keys.values(), here))}
    if places := [table for table, names in elsewhere.items() if name in names and table != here]:
        return _is_of(name, _outer(places))
    if same and (said := _in_another(same, here)):
        return said
    if word in OTHERWISE:
        return OTHERWISE[word]
    if word in NOTHING:
        return f"{NOTHING_LIKE_IT} {known_names(keys)}"
    return did_you_mean(name, keys) or _typo_elsewhere(name, elsewhere, here) or known_names(keys)


def _in_this(key: str, keys: Mapping[str, Key], here: Table) -> str:
    """Suggest the key that another word stands for, if this table has that key."""
    table, own = _split(key)
    fits = table == here or {table, here} <= OF_SAMPLES
    return f'Did you mean "{own}"?' if fits and own in keys else ""


def _in_another(key: str, here: Table) -> str:
    """Say which other table has the key that a word stands for; "" if the key belongs in this table, or is a table itself."""
    table, own = _split(key)
    if table == here or (not table and own in TABLES):
        return ""
    return f"In ltx it is {own}, in [{spelled(table)}]." if table else f"In ltx it is {own}, above the first table."


def _split(key: str) -> tuple[Table, str]:
    *table, own = key.split(".")
    return tuple(table), own


def _is_of(name: str, tables: Sequence[Table]) -> str:
    if () in tables:
        return f"{name} is not a key of a table: write it above the first one."
    return f"{name} is a key of {' and of '.join(f'[{spelled(table)}]' for table in tables)}."


def _outer(tables: Sequence[Table]) -> Sequence[Table]:
    """Return the tables that are not groups or sets, since most keys of groups and sets are also keys of the table around them; if all
    tables are groups or sets, return all.
    """
    return [table for table in tables if table[-1:] not in (("groups",), ("sets",))] or tables


def _typo_elsewhere(name: str, tables: Mapping[Table, frozenset[str]], here: Table) -> str:
    """Suggest a key of another table, if only one table has that key."""
    found = meant(name, {key for table, names in tables.items() if table != here for key in names})
    places = _outer([table for table, names in tables.items() if found and found[0] in names])
    if len(found) != 1 or len(places) != 1:
        return ""
    return f'Did you mean "{found[0]}", {f"a key of [{spelled(places[0])}]" if places[0] else "above the first table"}?'


@functools.cache
def _tables() -> dict[Table, frozenset[str]]:
    """Return the keys of a run file by table, except the keys that plugins define."""
    keys = keys_of(RunFile)
    return {(): frozenset(key.name for key in keys), **dict(_nested(keys, ()))}


@functools.cache
def _keys(kind: Any) -> tuple[Key, ...]:
    return tuple(keys_of(kind))


def _nested(keys: Any, path: Table) -> Iterator[tuple[Table, frozenset[str]]]:
    """Yield the tables below a table, with their keys."""
    for key in keys:
        for kind in (key.kind, *get_args(key.kind)):
            # Unlike a condition or an objective, whose keys are those of its class.
            if isinstance(kind, type) and attrs.has(kind) and kind is not ObjectiveUse:
                inner = _keys(kind)
                yield (*path, key.name), frozenset(each.name for each in inner)
                yield from _nested(inner, (*path, key.name))


_KEYS: Mapping[str, str] = {
    "model.model_path": "base_model checkpoint_path ckpt_path diffusers_path dit model_name_or_path name_or_path pretrained_model_name_or_path transformer_path",
    "model.text_encoder_path": "gemma gemma_path text_encoder",
    "model.video_vae_path": "vae vae_path",
    "model.audio_vae_path": "audio_vae",
    "model.training_mode": "finetune_type model_type train_mode training_type",
    "model.load_checkpoint": "init_from_existing init_lora load_lora lora_path network_weights pretrained_lora_path",
    "lora": "adapter lora_config network peft",
    "lora.rank": "dim linear lora_dim lora_r lora_rank network_dim r",
    "lora.alpha": "linear_alpha lora_alpha network_alpha",
    "lora.dropout": "lora_dropout network_dropout",
    "lora.use_rslora": "rslora",
    "lora.use_dora": "dora",
    "lora.target_modules": "lora_target_modules lora_targets modules targets",
    "optimization": "optimizer train training",
    "optimization.learning_rate": "lr unet_lr",
    "optimization.steps": "iterations max_steps max_train_steps num_steps num_train_steps total_steps train_steps training_steps",
    "optimization.batch_size": "micro_batch_size micro_batch_size_per_gpu per_device_train_batch_size train_batch_size",
    "optimization.gradient_accumulation_steps": "accumulate_grad_batches accumulation_steps grad_accum_steps gradient_accumulation",
    "optimization.max_grad_norm": "clip_grad_norm grad_clip gradient_clipping max_gradient_norm",
    "optimization.optimizer_type": "optim optimizer_name",
    "optimization.weight_decay": "adam_weight_decay wd",
    "optimization.optimizer_params": "optimizer_args optimizer_kwargs",
    "optimization.optimizer_params.betas": "adam_betas",
    "optimization.scheduler_type": "lr_scheduler lr_scheduler_type scheduler",
    "optimization.scheduler_params": "lr_scheduler_args lr_scheduler_kwargs lr_scheduler_params scheduler_args",
    "optimization.warmup_steps": "lr_warmup_steps num_warmup_steps warmup_ratio",
    "optimization.enable_gradient_checkpointing": "activation_checkpointing gradient_checkpointing use_gradient_checkpointing",
    "ema": "ema_config use_ema",
    "ema.decay": "ema_beta ema_decay ema_rate",
    "ema.every": "ema_update_interval",
    "acceleration.mixed_precision_mode": "dtype mixed_precision precision train_dtype",
    "acceleration.quantization": "base_model_precision quantize quantize_model",
    "acceleration.offload_blocks": "block_swap blocks_to_swap swap_blocks",
    "acceleration.offload_activations": "activation_offloading cpu_offload_checkpointing enable_activation_offload enable_activation_offloading "
    "gradient_checkpointing_cpu_offload unsloth_gradient_checkpointing",
    "acceleration.activation_budget_gb": "activation_memory_budget selective_checkpointing",
    "acceleration.attention": "attention_backend attn_backend attn_implementation attn_mode",
    "acceleration.chunked_feed_forward": "chunk_feed_forward feed_forward_chunking ffn_chunk_size ffn_chunks",
    "acceleration.compile": "compile_model torch_compile",
    "data": "datasets",
    "data.dataset": "data_path data_root dataset_config dataset_path folder_path image_directory train_data_dir video_directory",
    "data.preprocessed_data_root": "cache_dir cache_directory latents_root precomputed_path preprocessed_path",
    "data.held_out": "eval_split val_split validation_split",
    "data.sets.repeats": "num_repeats",
    "data.caption_dropout": "caption_dropout_prob caption_dropout_probability caption_dropout_rate",
    "data.num_dataloader_workers": "dataloader_num_workers max_data_loader_n_workers num_workers",
    "validation": "eval sample sampling",
    "validation.samples": "sample_prompts validation_prompts",
    "validation.negative_prompt": "neg validation_negative_prompt",
    "validation.frame_rate": "fps",
    "validation.seed": "sample_seed validation_seed",
    "validation.inference_steps": "num_inference_steps sample_steps validation_num_inference_steps",
    "validation.interval": "sample_every sample_every_n_steps validation_interval validation_step_interval validation_steps",
    "validation.skip_initial_validation": "disable_sample_at_start skip_first_sample",
    "checkpoints": "checkpoint checkpointing save",
    "checkpoints.interval": "checkpoint_every checkpoint_interval checkpoint_step_interval checkpointing_steps save_every save_every_n_steps save_interval save_steps",
    "checkpoints.keep_last_n": "checkpoints_total_limit max_step_saves_to_keep save_total_limit",
    "checkpoints.precision": "save_dtype save_precision",
    "checkpoints.save_training_state": "save_state",
    "flow_matching.timestep_sampling_mode": "timestep_sample_method timestep_sampling timestep_type weighting_scheme",
    "flow_matching.timestep_sampling_params.std": "logit_std stdev",
    "hub.hub_model_id": "hub_repo_id huggingface_repo_id repo_id",
    "wandb.project": "tracker_project_name wandb_project",
    "wandb.entity": "wandb_entity",
    "output_dir": "output_path save_root training_folder",
    "trackers": "log_with logging report_to",
    "preprocessing.resolution_buckets": "buckets resolution resolutions",
    "preprocessing.lora_trigger": "id_token instance_token trigger trigger_word",
    "engine.deepspeed_config": "deepspeed",
}

SAME: Mapping[str, str] = {word: key for key, words in _KEYS.items() for word in words.split()}
"""The key or table that each word of other trainers stands for."""

_NOTHING = """
arch bucket_no_upscale cache_latents cache_latents_to_disk caching_batch_size
clip_skip content_or_style debiased_estimation discrete_flow_shift enable_bucket flip_aug flow_shift frame_extraction
fused_backward_pass guidance_embeds immiscible_noise ip_noise_gamma keep_tokens logging_dir logging_steps lr_end
max_token_length min_snr_gamma multires_noise network_args network_module noise_offset noise_scheduler partition_method pipeline_stages
prior_loss_weight scale_weight_norms sdpa shuffle_caption shuffle_tokens snr_gamma split_attn steps_per_print target_frames token_dropout
video_clip_mode v_parameterization walk_seed weight_jitter xformers zero_terminal_snr
"""

IN_CONDITIONS: Mapping[str, tuple[str, ...]] = {
    "image": ("image_or_video",),
    "image_path": ("image_or_video",),
    "latents": ("latents_dir",),
    "mask": ("mask_dir",),
    "mask_dir": ("mask",),
    "mask_path": ("mask",),
    "prob": ("probability",),
    "p": ("probability",),
    "name": ("type",),
}
"""The keys that other trainers' words stand for in a condition, both in training and in a sample to generate."""

IN_VALIDATION: Mapping[str, str] = {
    **dict.fromkeys(("steps", "num_steps"), "validation.inference_steps"),
    **dict.fromkeys(("frames", "height", "num_frames", "resolution", "width"), "validation.video_dims"),
    **dict.fromkeys(("caption", "text"), "validation.samples.prompt"),
    **dict.fromkeys(("cfg", "cfg_scale", "guidance_scale"), "validation.video_cfg_scale"),
}
"""The keys that other trainers' words stand for in `[validation]` and its samples, where the words do not mean what they mean in other
tables.
"""

_STEPS = "A run is as long as optimization.steps says, and there is no key for passes over the data."
_SAVED = "Checkpoints are counted in steps: checkpoints.interval."
_RESUMED = "A run resumes by itself if its output_dir holds an unfinished run."

OTHERWISE: Mapping[str, str] = {
    **dict.fromkeys(("epochs", "max_train_epochs", "num_epochs", "num_train_epochs"), _STEPS),
    **dict.fromkeys(("save_every_n_epochs", "checkpoint_every_n_epochs"), _SAVED),
    **dict.fromkeys(("resume", "resume_from_checkpoint"), _RESUMED),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), "One key sets both: optimization.optimizer_params.betas = [0.9, 0.999]."),
    **dict.fromkeys(("loss_type", "huber_c", "huber_delta"), 'Write [[objectives]] with type = "flow_matching" and error = "huber".'),
    "loss_weight": 'Write [[objectives]] with type = "flow_matching" and weight = { video = 1.0, audio = 0.2 }.',
    "masked_loss": 'Write [[objectives]] with type = "weighted_region".',
    **dict.fromkeys(("bf16", "fp16"), 'Write acceleration.mixed_precision_mode = "bf16"; there is no fp16.'),
    **dict.fromkeys(("caption_ext", "caption_extension"), "Captions beside media are files that end in .txt."),
}
"""The words for things that are expressed differently here, each with the way to do so."""

NOTHING = frozenset(_NOTHING.split())
"""The words for things that do not exist here."""

NOTHING_LIKE_IT = "Other trainers have this key; ltx has nothing like it."

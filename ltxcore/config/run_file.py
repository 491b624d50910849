# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""Every table of the run file: keys, defaults, units and ranges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NewType

import attrs

from ltxcore.config.colors import REMEDY, parse_color
from ltxcore.config.scalars import described, is_a, is_number
from ltxcore.config.tables import Finding, filled, key
from ltxcore.config.validation_samples import ValidationTable
from ltxcore.errors import suggestion
from ltxcore.files import is_file, is_folder

SHIPPED_MODELS = ("tiny", "tiny-untrained")
"""Values of `model_path` that are not paths: the small model that comes with the package, with and without its training."""

ModelPath = NewType("ModelPath", str)
"""A model: one of SHIPPED_MODELS, or an absolute path."""

WIDEST = 16_384
"""Numbers a side of the largest matrix of any model of the family, of which no part has a higher rank."""

MOST_PIXELS, MOST_FRAMES = 65_536, 1_000_000
"""Of a side of a picture, and of a clip: far more than any model draws."""

SchedulerType = Literal["constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "step"]
Precision = Literal["no", "bf16"]
Quantization = Literal["int8", "fp8", "nf4", "int8-quanto", "int4-quanto", "int2-quanto", "fp8-quanto", "fp8uz-quanto"]

HALF_PRECISION = {
    "fp16": (
        "fp16 is not available: many gradients are smaller than its smallest number, so that it needs its loss scaled",
        'Use "bf16", which has the range of float32 in as many bits and needs no scaling, or "no" for float32.',
    )
}
"""Of `mixed_precision_mode`: what other trainers take."""

ADAM = {"adam": ("Adam is not available: it mixes weight decay into its moments", 'Use "adamw", which keeps it apart.')}
"""Of `optimizer_type`: one letter from what there is, and something else."""

DORA = {
    "dora": ("is no mode of its own: a DoRA is a LoRA that learns lengths apart from directions", 'Write "lora", and lora.use_dora = true.')
}
"""Of `training_mode`, likewise."""

SCHEDULER_PARAMS: dict[str, dict[str, type]] = {
    "constant": {},
    "linear": {"start_factor": float, "end_factor": float, "total_iters": int},
    "cosine": {"T_max": int, "eta_min": float},
    "cosine_with_restarts": {"T_0": int, "T_mult": int, "eta_min": float},
    "polynomial": {"total_iters": int, "power": float},
    "step": {"step_size": int, "gamma": float},
}
"""What `scheduler_params` may hold, by `scheduler_type`; the names are those of torch's schedulers."""


@attrs.frozen(kw_only=True)
class ModelTable:
    """`[model]`: what is trained, and how much of it."""

    model_path: ModelPath = key(help='"tiny", a safetensors file, or a diffusers folder')
    text_encoder_path: Path | None = key(None, help="the text encoder, where the model file does not hold it", reads="either")
    video_vae_path: Path | None = key(None, help="the video codec, where the model file does not hold it", reads="either")
    audio_vae_path: Path | None = key(None, help="the audio codec, where the model file does not hold it", reads="either")
    training_mode: Literal["lora", "full"] = key("lora", help="train adapters, or all weights", refused=DORA)
    load_checkpoint: Path | None = key(None, help="weights to start from: a file, or a folder whose newest is taken", reads="either")


@attrs.frozen(kw_only=True)
class LoraTable:
    """`[lora]`: the adapters; not read when training_mode is "full"."""

    rank: int = key(32, help="rank of the adapters", at_least=1, at_most=WIDEST)
    alpha: int | None = key(
        attrs.Factory(lambda self: self.rank, takes_self=True),
        help="their strength is alpha / rank; the rank by default",
        at_least=1,
        at_most=10**6,
    )
    dropout: float = key(0.0, help="share of adapter inputs that are dropped in training", at_least=0, below=1)
    use_rslora: bool = key(False, help="their strength is alpha / sqrt(rank), for great ranks")
    use_dora: bool = key(False, help="learn the lengths of a matrix's rows apart from their directions; the result is for diffusers alone")
    target_modules: list[str] | Literal["auto"] = key(
        factory=lambda: ["to_k", "to_q", "to_v", "to_out.0"],
        help='modules to adapt, by the end of their names, at a dot; "auto": those that the run\'s modalities suggest',
    )

    def problems(self) -> list[Finding]:
        return [] if self.target_modules else [(("target_modules",), "names no module", "Name at least one, such as to_k.")]

    def adapters(self) -> dict[str, Any]:
        """What it says, as `models.lora.add_lora` takes it."""
        return {
            "rank": self.rank,
            "alpha": self.rank if self.alpha is None else self.alpha,
            "dropout": self.dropout,
            "target_modules": self.target_modules,
            "rslora": self.use_rslora,
            "dora": self.use_dora,
        }


@attrs.frozen(kw_only=True)
class OptimizationTable:
    """`[optimization]`: steps and learning rate."""

    learning_rate: float = key(5e-4, help="peak learning rate", above=0, at_most=100)
    steps: int = key(3000, help="optimiser steps", unit="steps", at_least=1, at_most=10**9)
    batch_size: int = key(2, help="samples in a micro-batch", at_least=1, at_most=10**6)
    gradient_accumulation_steps: int = key(1, help="micro-batches in an optimiser step, on each process", at_least=1, at_most=10**6)
    max_grad_norm: float = key(1.0, help="gradients are clipped to this norm; 0: not at all", at_least=0)
    optimizer_type: Literal["adamw", "adamw8bit"] = key("adamw", help="the optimiser", refused=ADAM)
    weight_decay: float = key(0.01, help="AdamW's weight decay", at_least=0, at_most=100)
    betas: tuple[float, float] = key((0.9, 0.999), help="AdamW's decay of the two moments", at_least=0, below=1)
    scheduler_type: SchedulerType = key("linear", help="how the learning rate changes over the steps")
    scheduler_params: dict[str, Any] = key(factory=dict, help="its parameters, named as in torch")
    enable_gradient_checkpointing: bool = key(False, help="recompute activations: less memory, more time")

    def problems(self) -> list[Finding]:
        known = SCHEDULER_PARAMS[self.scheduler_type]
        found: list[Finding] = []
        for name, value in self.scheduler_params.items():
            path = ("scheduler_params", name)
            if name not in known:
                remedy = suggestion(name, known) if known else "It takes none."
                found.append((path, f'the scheduler "{self.scheduler_type}" has no parameter "{name}"', remedy))
            elif not is_a(value, known[name]):
                wanted = "a whole number" if known[name] is int else "a number"
                found.append((path, f"must be {wanted}, not {described(value)}", ""))
        return found


@attrs.frozen(kw_only=True)
class AccelerationTable:
    """`[acceleration]`: precision and memory."""

    mixed_precision_mode: Precision = key("bf16", help='arithmetic of the model; "no" is float32', refused=HALF_PRECISION)
    quantization: Quantization | None = key(None, help="store the frozen weights of a LoRA run with fewer bits")
    offload_blocks: int = key(
        0, help="blocks of a LoRA run whose frozen weights stay in host memory but while they compute", unit="blocks", at_least=0
    )
    compile: bool = key(False, help="compile the blocks: faster steps, after minutes at the start")
    load_text_encoder_in_8bit: bool = key(False, help="load the text encoder with 8-bit weights, on a GPU")
    offload_text_encoder: bool = key(False, help="keep the text encoder's weights in host memory, and bring them to the GPU layer by layer")
    vae_tiling: bool = key(
        False, help="decode the samples of a run, and encode what they are given, in pieces: less memory beside the model"
    )
    stochastic_rounding: bool = key(False, help="train all weights in bfloat16, each update rounded at random, for one GPU")
    step_in_backward: bool = key(False, help="update each weight in the backward pass and free its gradient, for one GPU")
    offload_optimizer_during_validation: bool = key(
        False, help="keep the optimiser's state in host memory while samples are drawn and held-out losses measured"
    )


@attrs.frozen(kw_only=True)
class DataTable:
    """`[data]`: raw media, or a set that is already encoded."""

    dataset: Path | None = key(
        None, help="raw media: a folder of them, or a JSONL, JSON, CSV or TSV file; encoded on first use", reads="either"
    )
    preprocessed_data_root: Path | None = key(None, help="the encoded set; beside `dataset`, where first use writes it")
    held_out: int | float | Path | None = key(
        None,
        help="samples kept for evaluation: how many, what share, or a dataset of their own; by default 5 %, at least 1 and at most 32, and none of fewer than 5",
    )
    num_dataloader_workers: int = key(2, help="processes that read samples ahead", at_least=0, at_most=256)
    verify: float = key(
        0.0,
        help="share of the samples whose encoded files are read in full, and compared with their checksums, before the run begins",
        at_least=0,
        at_most=1,
    )

    @property
    def is_said(self) -> bool:
        """Whether it says of data at all."""
        return self.dataset is not None or self.preprocessed_data_root is not None

    def absent(self) -> Iterator[Finding]:
        """What is not said, or not here: no mistake where the data are on another machine."""
        kept = self.held_out
        if isinstance(kept, Path) and not is_file(kept) and not is_folder(kept):
            remedy = f"Write {kept.name}, without quotes." if is_number(kept.name) else "Paths are relative to the run file."
            yield ("held_out",), f"there is no file or folder {kept}", remedy
        if not self.is_said:
            remedy = "Set dataset to a folder of media or a file that lists them, or preprocessed_data_root to the folder of a set that is already encoded."
            yield (), "says of no data to train on", remedy
        elif self.dataset is None and self.preprocessed_data_root is not None and not is_folder(self.preprocessed_data_root):
            remedy = "Correct the path, or set dataset, so that the first use encodes it."
            yield ("preprocessed_data_root",), f"there is no folder {self.preprocessed_data_root}", remedy

    def problems(self) -> list[Finding]:
        return [(("held_out",), what, remedy) for what, remedy in self._held_out_faults()]

    def _held_out_faults(self) -> list[tuple[str, str]]:
        kept = self.held_out
        if isinstance(kept, Path):
            if self.dataset is not None and is_folder(self.dataset) and self.dataset in (kept, *kept.parents) and is_folder(kept):
                return [
                    (
                        f"lies in the folder {self.dataset}, whose media would be trained on and held out at once",
                        "Move it beside that folder.",
                    )
                ]
            return []
        if isinstance(kept, int) and kept < 0:
            return [(f"must be at least 0, not {kept}", "")]
        if isinstance(kept, float) and not 0 <= kept < 1:
            return [(f"a share must be at least 0 and below 1, not {kept}", "Write a whole number to say how many samples.")]
        return []


@attrs.frozen(kw_only=True)
class PreprocessingTable:
    """`[preprocessing]`: how raw media are encoded on first use; the options of `ltx preprocess`."""

    resolution_buckets: str | None = key(None, help='sizes that clips are fitted to: "WxHxF;WxHxF"', unit="pixels, pixels, frames")
    audio_durations: list[float] = key(
        factory=list, help="lengths that sounds without a video are cut to", unit="seconds", above=0, at_most=86_400
    )
    video_column: str | None = key(None, help="column of the clip; by default `video` or `media_path`")
    audio_column: str | None = key(None, help="column of the sound; by default `audio`, else the clip's own sound")
    caption_column: str | None = key(None, help="column of the text; by default `caption`")
    reference_video_column: str | None = key(None, help="column of the reference clip; by default `reference_video` or `ref_media_path`")
    reference_audio_column: str | None = key(None, help="column of the reference sound; by default `reference_audio`")
    video_mask_column: str | None = key(None, help="column of the clip's mask; by default `video_mask`")
    audio_mask_column: str | None = key(None, help="column of the sound's mask; by default `audio_mask`")
    prefer: Literal["video", "image"] | None = key(
        None, help="of a clip and a picture of one name in a folder (Live Photos), the one to take; by default they are a mistake"
    )
    caption_from: Literal["folder"] | None = key(
        None,
        help='where the captions of files in a folder come from that have no text beside them: "folder", the name of the folder that a file lies in, '
        'without a number before it ("10_red car"); by default such files are a mistake',
    )
    lora_trigger: str | None = key(None, help="word put before every caption")
    remove_llm_prefixes: bool = key(False, help='leave out how models begin captions, such as "The video shows"')
    reference_downscale_factor: int = key(1, help="reference clips are this many times smaller", at_least=1, at_most=1024)
    reference_temporal_scale_factor: int = key(1, help="reference clips have this many times fewer frames", at_least=1, at_most=1024)
    connector_outputs: bool = key(
        False,
        help="store what the model's text connectors make of a caption, not what goes into them: training then runs without connectors "
        "and need not load them, and every file has all positions instead of the caption's own",
    )
    hdr: Literal["bt709", "keep"] = key(
        "bt709", help='what becomes of HDR pictures (HLG, PQ): "bt709" converts them, "keep" takes their numbers as they are, flat and pale'
    )
    skip_audio: bool = key(False, help="leave the sound of clips out")
    variable_rate: Literal["keep", "resample"] = key(
        "keep",
        help='clips whose frames are not shown equally long: "keep" takes frame after frame as if they were, "resample" takes the frame that is shown '
        "at each time, at the rate that most of its frames have",
    )
    alpha_color: str = key("#000000", help='what is behind transparent pictures: "#RRGGBB", black, white or gray')
    on_error: Literal["stop", "skip"] = key(
        "stop", help='what to do about a file that cannot be used; "skip" keeps the pictures of a clip that only lacks sound'
    )
    batch_size: int = key(1, help="captions encoded at a time; clips and sounds are encoded one by one", at_least=1, at_most=10**6)

    def problems(self) -> list[Finding]:
        color: list[Finding] = [] if parse_color(self.alpha_color) else [(("alpha_color",), f'"{self.alpha_color}" is no colour', REMEDY)]
        if self.resolution_buckets is None:
            return color
        parts = [part.strip() for part in self.resolution_buckets.split(";") if part.strip()]
        wrong = [part for part in parts if not _is_bucket(part)] if parts else [self.resolution_buckets]
        remedy = 'Write width x height x frames, such as "960x544x49"; several with ";" between.'
        return [*color, *((("resolution_buckets",), f'"{_short(part)}" is no bucket', remedy) for part in wrong)]


@attrs.frozen(kw_only=True)
class CheckpointsTable:
    """`[checkpoints]`: when weights and state are saved."""

    interval: int | None = key(None, help="save every so many steps; by default only at the end", unit="steps", at_least=1)
    keep_last_n: int = key(1, help="how many to keep; -1 and 0 keep all", at_least=-1)
    keep_best: bool = key(False, help="also keep the weights that had the lowest validation loss, in the folder best")
    best_by: str = key(
        "",
        help='what of the validation loss counts for keep_best and stop_after: "audio", "video/sigma_0.50", ...; by default the mean over modalities and sigmas',
    )
    stop_after: int | None = key(
        None,
        help="end the run once the validation loss has not fallen for so many measurements",
        unit="measurements",
        at_least=1,
        at_most=10**6,
    )
    precision: Literal["bfloat16", "float32"] = key("bfloat16", help="of saved weights")
    max_shard_size: float | None = key(
        None,
        help="a whole model that is larger is saved in parts, with an index; by default it is one file",
        unit="GiB",
        above=0,
        at_most=10**6,
    )
    no_resume: bool = key(False, help="start over even where the output folder holds an unfinished run")
    save_training_state: Literal["full", "minimal", "off"] = key("full", help='"full" resumes exactly; "minimal" leaves out the optimiser')


@attrs.frozen(kw_only=True)
class FlowMatchingTable:
    """`[flow_matching]`: how noisy training samples are made."""

    timestep_sampling_mode: str = key("shifted_logit_normal", help="a registered sigma sampler")
    timestep_sampling_params: dict[str, Any] = key(factory=dict, help="its keys")
    shared_sigma: bool = key(False, help="one sigma for both modalities, where both are generated")
    sampler: Any = filled()


@attrs.frozen(kw_only=True)
class HubTable:
    """`[hub]`: publishing the result on the Hugging Face hub."""

    push_to_hub: bool = key(False, help="upload the result at the end")
    hub_model_id: str | None = key(None, help='where to: "name/model"')

    def problems(self) -> list[Finding]:
        if self.push_to_hub and not self.hub_model_id:
            return [(("hub_model_id",), "push_to_hub needs it", 'Write where to publish: hub_model_id = "name/model".')]
        return []


@attrs.frozen(kw_only=True)
class WandbTable:
    """`[wandb]`: Weights & Biases."""

    enabled: bool = key(False, help="send metrics there")
    project: str = key("ltx", help="its project")
    entity: str | None = key(None, help="its user or team")
    tags: list[str] = key(factory=list, help="labels of the run")
    log_validation_videos: bool = key(True, help="send samples too")


@attrs.frozen(kw_only=True)
class EngineTable:
    """`[engine]`: one process or many."""

    name: Literal["auto", "single", "zero"] = key("auto", help='"zero" is DeepSpeed; "auto" takes it where there is more than one process')
    stage: int | None = key(
        None,
        help="what DeepSpeed divides among processes: 1 optimiser, 2 and gradients, 3 and weights; by default that of deepspeed_config, else 3",
        at_least=1,
        at_most=3,
    )
    offload: Literal["none", "optimizer", "all"] = key(
        "none", help="what lies in host memory with DeepSpeed: the optimiser, or (stage 3) weights too"
    )
    deepspeed_config: Path | None = key(None, help="a DeepSpeed configuration of your own", reads="file")
    patience: float = key(
        10.0,
        help="with several processes: minutes without a sign of life, or in a step without progress, after which one counts as hung and the run ends; 0: never",
        at_least=0,
    )


@attrs.frozen(kw_only=True)
class RunFile:
    """The whole run file. `training_strategy` is an object of the class registered under its `name`, `strategy_name`."""

    model: ModelTable = key(help="what is trained")
    lora: LoraTable = key(factory=LoraTable, help="the adapters")
    training_strategy: Any = key(help="which modalities, and the conditions on them")
    optimization: OptimizationTable = key(factory=OptimizationTable, help="steps and learning rate")
    acceleration: AccelerationTable = key(factory=AccelerationTable, help="precision and memory")
    data: DataTable = key(factory=DataTable, help="what it is trained on")
    validation: ValidationTable = key(factory=ValidationTable, help="samples drawn while training")
    checkpoints: CheckpointsTable = key(factory=CheckpointsTable, help="when weights and state are saved")
    flow_matching: FlowMatchingTable = key(factory=FlowMatchingTable, help="how noisy training samples are made")
    hub: HubTable = key(factory=HubTable, help="publishing the result")
    wandb: WandbTable = key(factory=WandbTable, help="Weights & Biases")
    seed: int = key(42, help="of every random number", at_least=0)
    output_dir: Path = key(factory=lambda: Path("outputs"), help="where the run writes, relative to the working directory")
    engine: EngineTable = key(factory=EngineTable, help="one process or many")
    preprocessing: PreprocessingTable = key(factory=PreprocessingTable, help="how raw media are encoded on first use")
    trackers: dict[str, Any] = key(factory=dict, help="where metrics go beside metrics.jsonl, by name")
    plugins: list[Path] = key(
        factory=list,
        help="Python files that add conditions and more to this run; they are run, by `ltx check` too, so read those of a stranger before",
        reads="file",
    )
    strategy_name: str = filled("")


def _is_bucket(text: str) -> bool:
    sizes = text.split("x")
    most = (MOST_PIXELS, MOST_PIXELS, MOST_FRAMES)
    return len(sizes) == 3 and all(_is_up_to(size.strip(), limit) for size, limit in zip(sizes, most, strict=True))


def _is_up_to(text: str, limit: int) -> bool:
    """Whether text spells a number from 1 to a limit; one of thousands of digits is not even read."""
    return text.isdecimal() and len(text) <= 2 * len(str(limit)) and 0 < int(text) <= limit


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."

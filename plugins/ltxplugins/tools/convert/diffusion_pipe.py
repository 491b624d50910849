"""The conversion of a configuration of diffusion-pipe, in TOML, and of its dataset."""

from __future__ import annotations

import math
from typing import Any

from ltxplugins.tools.convert.diffusion_pipe_rules import RULES
from ltxplugins.tools.convert.kinds import Wrong, many, number, path, plain, text, truth, whole
from ltxplugins.tools.convert.media import (
    HELD_OUT,
    OldSet,
    put_alpha,
    put_another_model,
    put_model,
    put_objectives,
    put_precision,
    put_rank,
    put_saved_precision,
    put_sets,
    put_streams,
)
from ltxplugins.tools.convert.optimizing import Given, params_of, put_optimizer, put_schedule
from ltxplugins.tools.convert.reading import UNSET, Log, Old, own_or_common
from ltxplugins.tools.convert.second_file import dataset_at
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.sizes import buckets, frames, length, shapes, side
from ltxplugins.tools.convert.tree import Items, Table, Tree

NAME = "diffusion-pipe"

ADAPTERS = {"lora": "lora", "lokr": "lokr", "loha": "loha", "dora": "dora"}

LEAST, MOST, MOST_SHAPES = 0.01, 100.0, 100
"""The flattest and the widest shape, and the largest number of shapes, of which any use is known."""

LEAST_RATIO, MOST_RATIO, RATIOS = 0.5, 2.0, 7
"""The smallest and the largest shape (width over height), and the number of shapes, that diffusion-pipe's examples use; the defaults for a
dataset that does not set them.
"""


def convert_diffusion_pipe(tree: Table, log: Log) -> Settings:
    """Convert a training configuration of diffusion-pipe."""
    to = Settings(NAME, RULES, log)
    root = Old(tree, "", log)
    to.read(root, "")
    parts = {name: to.inner(root, name) for name in ("model", "adapter", "optimizer", "monitoring")}
    for name, old in parts.items():
        to.read(old, name)
    _model(to, parts["model"])
    _adapter(to, root, parts["adapter"])
    _optimization(to, root, parts["optimizer"])
    put_streams(to)
    _dataset(to, root)
    to.put("validation.interval", 0, "diffusion-pipe generates no samples; ltx does at the end, and at any interval that you set.")
    to.put("validation.skip_initial_validation", True)
    _rest(to, root, parts["monitoring"])
    to.finish()
    return to


def _model(to: Settings, old: Old) -> None:
    kind = old.get("type", text, null=UNSET)
    name = old.get("diffusion_model", path, null=UNSET)
    encoder = old.get("text_encoder", path, null=UNSET)
    if kind is not UNSET and kind.lower() not in ("ltx2", "ltx-2"):
        put_another_model(to, old, "type")
    else:
        if name is not UNSET:
            put_model(to, old, "diffusion_model", name)
        if encoder is not UNSET:
            to.put("model.text_encoder_path", encoder)
    dtype = old.get("dtype", text, null=UNSET)
    if dtype is not UNSET:
        put_precision(to, old, "dtype", dtype)
    for key in ("diffusion_model_dtype", "transformer_dtype"):
        stored = old.get(key, text, null=UNSET)
        if stored is not UNSET and stored.lower().startswith("float8"):
            to.put("acceleration.quantization", "fp8")
        elif stored is not UNSET and stored != dtype:
            to.note(old, key, "is not kept: weights that are not quantized have the precision of the arithmetic.", "acceleration.")
    method = old.get("timestep_sample_method", text, null=UNSET)
    scale = old.get("sigmoid_scale", number, null=UNSET)
    shift = old.get("shift", number, null=UNSET)
    shift = 1.0 if shift is UNSET or not shift else shift
    if method == "uniform":
        to.put("flow_matching.timestep_sampling_mode", "uniform")
        to.put("flow_matching.timestep_sampling_params", {"shift": shift})
        return
    if method not in (UNSET, "logit_normal"):
        to.note(old, "timestep_sample_method", "is not kept: ltx has no such distribution.", "flow_matching.")
    to.put("flow_matching.timestep_sampling_mode", "shifted_logit_normal")
    std = {} if scale is UNSET or scale == 1 else {"std": scale}
    to.put("flow_matching.timestep_sampling_params", {"shift": shift, "uniform_prob": 0.0, **std})


def _adapter(to: Settings, root: Old, old: Old) -> None:
    if not root.has("adapter"):
        to.put("model.training_mode", "full", "The old file has no adapter, so that all weights are trained.")
        return
    kind = old.get("type", text, null=UNSET)
    ours = ADAPTERS.get("lora" if kind is UNSET else kind.lower())
    if ours is None:
        to.note(old, "type", 'is not kept: ltx has no such adapter; "lora" is written instead.', "lora.")
    if ours not in (None, "lora"):
        to.put("lora.type", ours)
    rank = old.get("rank", whole, null=UNSET)
    alpha = old.get("alpha", whole, null=UNSET)
    if rank is not UNSET:
        put_rank(to, rank)
    if alpha is not UNSET:
        put_alpha(to, old, "alpha", alpha, rank)
    factor = old.get("decompose_factor", whole, null=UNSET)
    if factor is not UNSET and ours == "lokr":
        to.put("lora.params", {"factor": factor})


def _optimization(to: Settings, root: Old, optimizer: Old) -> None:
    rate = optimizer.get("lr", number, null=UNSET)
    constant = root.get("force_constant_lr", number, null=UNSET)
    if constant is not UNSET:
        rate = constant
    if rate is not UNSET:
        to.put("optimization.learning_rate", rate)
    else:
        to.put_default("optimization.learning_rate", 1e-3)
    steps = root.get("max_steps", whole, null=UNSET)
    if steps is not UNSET:
        to.put("optimization.steps", steps)
        root.taken.add("epochs")
    elif root.get("epochs", number, null=UNSET) is not UNSET:
        to.note(root, "epochs", "is not kept: a run is counted in steps. Write optimization.steps.", "optimization.")
    to.put("optimization.batch_size", _batch(to, root))
    given = params_of(optimizer, without=("type", "lr", "gradient_release"))
    put_optimizer(to, optimizer, "type", Given(optimizer, given), default="adamw", package="pytorch_optimizer")
    put_schedule(to, root, "lr_scheduler", {"linear": {"end_factor": 0.0}})
    checkpointing = root.get("activation_checkpointing", text, null="false")
    if checkpointing is not UNSET:
        to.put("optimization.enable_gradient_checkpointing", checkpointing.lower() not in ("false", "0", ""))
    delta = root.get("pseudo_huber_c", number, null=UNSET)
    if delta is not UNSET:
        to.note(root, "pseudo_huber_c", 'is written as the delta of the error "huber", which is close to it.')
        put_objectives(to, [{"type": "flow_matching", "error": "huber", "delta": delta}])


def _batch(to: Settings, root: Old) -> int:
    def read(tree: Tree) -> list[list[int]]:
        found: list[list[int]] = many(many(whole, 2))(tree) if isinstance(tree, Items) else [[0, whole(tree)]]
        return found

    found = root.get("micro_batch_size_per_gpu", read, null=UNSET)
    sizes = [size for _, size in found] if found is not UNSET and found else [1]
    if len(set(sizes)) > 1:
        to.note(root, "micro_batch_size_per_gpu", f"is written as {min(sizes)}: a run has one batch size.", "optimization.")
    return min(sizes)


def _rest(to: Settings, root: Old, monitoring: Old) -> None:
    dtype = root.get("save_dtype", text, null=UNSET)
    if dtype is not UNSET:
        put_saved_precision(to, root, "save_dtype", dtype)
    to.put_default("checkpoints.keep_last_n", -1)
    repository = root.get("huggingface_repo", text, null=UNSET)
    if repository is not UNSET and repository:
        to.put("hub.push_to_hub", True)
        to.put("hub.hub_model_id", repository)
    if monitoring.get("enable_wandb", truth, null=UNSET) is True:
        to.put("wandb.enabled", True)
    project = monitoring.get("wandb_tracker_name", text, null=UNSET)
    if project is not UNSET and project:
        to.put("wandb.project", project)


# ---- the dataset


def _dataset(to: Settings, root: Old) -> None:
    named = root.get("dataset", path, null=UNSET)
    read = None if named is UNSET else dataset_at(to, root, "dataset", named)
    if read is None:
        return
    tree, log = read
    general = Old(tree, "", log)
    to.read(general, "dataset")
    sets = general.several("directory")
    old = sets[0] if sets else to.inner(general, "none")
    to.read(old, "directory")
    put_sets(to, [_set(each) for each in (sets or [old])])
    to.run.table("data").say(HELD_OUT.format(NAME))
    _buckets(to, general, old)


def _set(old: Old) -> OldSet:
    prefix = old.get("caption_prefix", text, null=UNSET)
    repeats = old.get("num_repeats", number, null=UNSET)
    return OldSet(
        old,
        ("path", "num_repeats", "caption_prefix"),
        old.get("path", path, null=UNSET),
        repeats,
        "" if prefix is UNSET else prefix.strip(),
    )


def _buckets(to: Settings, general: Old, old: Old) -> None:
    exact = own_or_common(old, general, "size_buckets", many(many(whole, 3)))
    areas = own_or_common(old, general, "resolutions", many(_area))
    counts = own_or_common(old, general, "frame_buckets", many(whole))
    fitting = own_or_common(old, general, "enable_ar_bucket", truth)
    given = own_or_common(old, general, "ar_buckets", many(_ratio))
    least, most, count = (
        own_or_common(old, general, name, kind) for name, kind in (("min_ar", _ratio), ("max_ar", _ratio), ("num_ar_buckets", _many_shapes))
    )
    if exact is not UNSET and exact:
        written = [(side(width), side(height), frames(number_)) for width, height, number_ in exact]
        to.put("preprocessing.resolution_buckets", ";".join(dict.fromkeys(f"{width}x{height}x{each}" for width, height, each in written)))
        return
    if areas is UNSET or not areas:
        return
    where = old if old.has("resolutions") else general
    if len(areas) > 1:
        to.note(where, "resolutions", "is written as the largest one: a clip is encoded once, in one size.", "preprocessing.")
    counts = [1] if counts is UNSET or not counts else counts
    fitted = [frames(each) for each in counts]
    if fitted != counts:
        holder = old if old.has("frame_buckets") else general
        to.note(holder, "frame_buckets", f"is written as {fitted}: LTX-2 takes multiples of 8 frames plus 1.", "preprocessing.")
    if given is UNSET or not given:
        given = _ratios(least, most, count) if fitting is True else [1.0]
    to.put("preprocessing.resolution_buckets", buckets(shapes(max(areas), given), fitted))


def _ratios(least: Any, most: Any, count: Any) -> list[float]:
    low, high = (default if each is UNSET else each for each, default in ((least, LEAST_RATIO), (most, MOST_RATIO)))
    steps = RATIOS if count is UNSET else count
    if steps < 2 or high <= low:
        return [1.0]
    return [low * math.pow(high / low, index / (steps - 1)) for index in range(steps)]


def _area(tree: Tree) -> float:
    """Read a resolution: the side of a square, or a width and a height."""
    if isinstance(tree, Items):
        width, height = many(length, 2)(tree)
        return float(width * height)
    return float(length(tree) ** 2)


def _many_shapes(tree: Tree) -> int:
    """Read a number of shapes, at most MOST_SHAPES. A larger number would hardly give more shapes, because sides are multiples of 32."""
    return min(whole(tree), MOST_SHAPES)


def _ratio(tree: Tree) -> float:
    """Read a shape: width over height, or a width and a height."""
    width, height = many(number, 2)(tree) if isinstance(tree, Items) else (number(tree), 1.0)
    if height <= 0 or not LEAST <= (ratio := width / height) <= MOST:
        raise Wrong(f"must be a ratio from {LEAST:g} to {MOST:g}, not {plain(tree)}", tree.line)
    return float(ratio)

"""Convert `validation`, which says how samples are generated, including older keys for guidance."""

from __future__ import annotations

from ltxcore.api import MODALITIES
from ltxplugins.tools.convert.kinds import choice, many, number, text, truth, whole
from ltxplugins.tools.convert.reading import UNSET, Field, Old, carry
from ltxplugins.tools.convert.samples import convert_samples
from ltxplugins.tools.convert.toml import RunText, Section

FIELDS = (
    Field("negative_prompt", text),
    Field("video_dims", many(whole, 3)),
    Field("frame_rate", number),
    Field("seed", whole),
    Field("inference_steps", whole),
    Field("interval", whole, null=0, why="It was null in the old file, which meant never."),
    Field("video_cfg_scale", number),
    Field("audio_cfg_scale", number),
    Field("video_stg_scale", number),
    Field("audio_stg_scale", number),
    Field("stg_blocks", many(whole), null=[], why="It was null in the old file, which meant all blocks."),
    Field("guidance_rescale", number),
    Field("video_modality_guidance_scale", number),
    Field("audio_modality_guidance_scale", number),
    Field("generate_audio", truth),
    Field("generate_video", truth),
    Field("skip_initial_validation", truth),
)


def convert_validation(root: Old, run: RunText, generated: frozenset[str]) -> None:
    """Write `[validation]` and its samples.

    Args:
        root: the old configuration.
        run: the run file.
        generated: the modalities that are generated in training.
    """
    old = root.inner("validation")
    if old is None:
        return
    section = run.table("validation")
    carry(old, section, FIELDS)
    _older_guidance(old, section)
    convert_samples(old, run)
    old.finish(section, (field.name for field in FIELDS))
    if run.samples:
        _defaults(section, generated)


def _defaults(section: Section, generated: frozenset[str]) -> None:
    """If the old configuration has samples, write the defaults that differ from those of ltx."""
    for modality in MODALITIES:
        key = f"generate_{modality}"
        if key not in section.keys and modality not in generated:
            section.set(key, True, f"By default ltx generates {modality} only if it is trained; this was the default of ltx-trainer.")
    if "negative_prompt" not in section.keys:
        section.say("negative_prompt: the default of ltx is a different text.")


def _older_guidance(old: Old, section: Section) -> None:
    """Convert `guidance_scale`, for both modalities, and `stg_scale` with `stg_mode`."""
    scale = old.get("guidance_scale", number, null=UNSET)
    if scale is not UNSET and not _mixed(old, "guidance_scale", ("video_cfg_scale", "audio_cfg_scale")):
        section.set("video_cfg_scale", scale)
        section.set("audio_cfg_scale", scale)
    amount = old.get("stg_scale", number, null=UNSET)
    mode = old.get("stg_mode", choice("stg_av", "stg_v"), null=UNSET)
    named = [name for name in ("stg_scale", "stg_mode") if old.has(name)]
    if named and not _mixed(old, named[0], ("video_stg_scale", "audio_stg_scale")):
        amount = 1.0 if amount is UNSET else amount
        section.set("video_stg_scale", amount)
        section.set("audio_stg_scale", 0.0 if mode == "stg_v" else amount)


def _mixed(old: Old, older: str, newer: tuple[str, ...]) -> bool:
    """Report it as a mistake if an older key and a newer key with the same meaning are both set, and return whether
    they are.
    """
    both = [name for name in newer if old.has(name)]
    if both:
        old.log.problem(old.line(older), old.at(older), f"means the same as {' and '.join(both)}", "Keep only one of these keys.")
    return bool(both)

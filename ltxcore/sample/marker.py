"""Choose whether the first latent frame is marked, for a model that takes the marker (LTX-2.5): as in the training of
the LoRAs or the model or, if this is not known, as the model's makers do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from ltxcore.config.loras import Strength
from ltxcore.errors import ConfigError, Problem
from ltxcore.modality_tables import MARKER
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.lora_names import said_targets
from ltxcore.models.parameter_names import stream_of


@attrs.frozen
class Marking:
    """The choice of whether the first latent frame is marked, with notes for the user."""

    marks: bool
    notes: tuple[str, ...] = ()


def marking_of(loras: Sequence[Strength], info: ModelInfo, asked: bool | None = None) -> Marking:
    """Decide whether to mark the first latent frame for a model with LoRAs.

    Args:
        loras: the LoRAs that are used.
        info: the model.
        asked: the user's choice; None if the user has not chosen.

    Raises:
        ConfigError: the LoRAs were trained differently, and the user has not chosen.
    """
    if not info.takes_marker:
        return Marking(False, () if asked is None else (f"The model {info.name} has no first-frame marker.",))
    trained = {str(lora.path): said for lora in loras if (said := of_lora(lora.metadata)) is not None}
    if asked is not None:
        return Marking(asked, tuple(_otherwise(trained, asked)))
    if len(set(trained.values())) > 1:
        way = {True: "with", False: "without"}
        raise ConfigError.of(
            Problem(
                f"was trained {way[said]} the first-frame marker, but another LoRA was trained {way[not said]} it",
                path,
                "Choose with --mark-first-frame or --no-mark-first-frame, or use only one of the LoRAs.",
            )
            for path, said in trained.items()
        )
    marks = next(iter(trained.values()), info.marks)
    if marks:
        return Marking(True)
    why = next(iter(trained), f"the model {info.name}")
    return Marking(False, (f"The first frame is not marked, since {why} was trained without the marker; --mark-first-frame marks it.",))


def of_metadata(metadata: Mapping[str, str]) -> bool | None:
    """Return whether the first frame was marked in training, according to the metadata of a strategy or a file; None if
    the metadata do not say.
    """
    return {"true": True, "false": False}.get(metadata.get(MARKER, ""))


def of_lora(metadata: Mapping[str, str]) -> bool | None:
    """For a model that takes the marker, return whether a LoRA was trained with the marker; None if this is not known. If the
    metadata of a video LoRA of ltx do not say, the LoRA is older than the marker and was trained without it.
    """
    said = of_metadata(metadata)
    is_ours = "timestep_rule" in metadata
    return False if said is None and is_ours and not _is_of_sound(metadata) else said


def _is_of_sound(metadata: Mapping[str, str]) -> bool:
    """Return whether a LoRA of ltx changes only modules of the audio stream."""
    modules = said_targets(metadata)
    return bool(modules) and all(stream_of(module) == "audio" for module in modules)


def _otherwise(trained: Mapping[str, bool], asked: bool) -> Iterator[str]:
    for path, said in trained.items():
        if said != asked:
            yield f"{path} was trained {'with' if said else 'without'} the first-frame marker, but is used {'with' if asked else 'without'} it."

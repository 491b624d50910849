"""An encoded set that no run file is named for: taken as the set of a run that reads all of its folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from ltxcore.conditions import ConditionUse
from ltxcore.encoded.listing import list_folder
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.protocols import MODALITIES, Modality, Setting
from ltxcore.registry import load
from ltxcore.strategy import TEXT_FOLDER, FlexibleStrategy, ModalityTable

HOLDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        TEXT_FOLDER: ("text", ""),
        "latents": ("latents", "video"),
        "audio_latents": ("latents", "audio"),
        "reference_latents": ("latents", "video"),
        "reference_audio_latents": ("latents", "audio"),
        "video_masks": ("mask", "video"),
        "audio_masks": ("mask", "audio"),
    }
)
"""What folders hold by convention: kind and modality. Of others, it is what most of their samples are."""

TARGETS = {"video": "latents", "audio": "audio_latents"}
CONDITIONS = {"mask": "mask", "latents": "reference"}
"""By kind, the condition that reads such a folder beside the latents of its modality; its role has the same name."""


@attrs.frozen(eq=False)
class WholeSet:
    """The strategy that reads all of a set, and the folders that no strategy could make sense of."""

    strategy: FlexibleStrategy
    left: tuple[str, ...]


def whole_set(root: Path, only: Collection[str] | None = None) -> WholeSet | None:
    """How a run would read all folders of a data root; none if it has no latents.

    Args:
        root: the data root.
        only: look at these folders alone.
    """
    folders = {name: held for name, held in _held(root).items() if only is None or name in only}
    registry = load()
    tables: dict[str, ModalityTable] = {}
    left = [name for name, (kind, _) in folders.items() if kind == "text" and name != TEXT_FOLDER]
    for modality in MODALITIES:
        mine = {name: kind for name, (kind, of) in folders.items() if of == modality}
        target = _target(modality, mine)
        others = {name: kind for name, kind in mine.items() if name != target}
        if target is None:
            left += others
            continue
        uses = []
        for name, kind in others.items():
            condition = CONDITIONS[kind]
            uses.append(ConditionUse(condition, registry.get("condition", condition).value(), sources={condition: name}))
        tables[modality] = ModalityTable(is_generated=True, latents_dir=target, conditions=uses)
    if not tables:
        return None
    modalities: dict[str, Modality] = {"video": VideoModality(), "audio": AudioModality()}
    return WholeSet(FlexibleStrategy(tables, Setting(modalities, Uniform())), tuple(sorted(left)))


def _target(modality: str, folders: Mapping[str, str]) -> str | None:
    """The folder of the modality's own latents: by convention, else the first that does not call itself a reference."""
    latents = [name for name, kind in folders.items() if kind == "latents"]
    if TARGETS[modality] in latents:
        return TARGETS[modality]
    return next((name for name in latents if not name.startswith("reference")), None)


def _held(root: Path) -> dict[str, tuple[str, str]]:
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {}
    for name in names:
        held = HOLDS.get(name) or _most(root / name)
        if held is not None:
            found[name] = held
    return found


def _most(folder: Path) -> tuple[str, str] | None:
    entries = list_folder(folder, remember=False).entries.values()
    kinds = Counter((entry.kind, "" if entry.kind == "text" else entry.modality) for entry in entries if entry.kind)
    return next((kind for kind, _ in kinds.most_common(1)), None)

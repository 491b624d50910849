"""What a LoRA is trained for, and what that asks for: rank, learning rate, and how often a clip is seen.

The figures are starting points, between what others advise; docs/how-to/new-run.md names them, and says what is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from ltxcore.new.modes import Mode


@attrs.frozen
class Purpose:
    """What is trained.

    Attributes:
        about: with an article.
        trained: what is trained for it, with an article.
        rank: of the LoRA.
        learning_rate: as TOML.
        steps: where nothing is known of the clips.
        passes: how often a clip is seen.
        fewest: steps at least.
        most: steps at most.
        clips: how many clips are advised, from and to.
        trigger: whether a word before every caption helps.
    """

    about: str
    trained: str
    rank: int
    learning_rate: str
    steps: int
    passes: int
    fewest: int
    most: int
    clips: tuple[int, int]
    trigger: bool = False


PURPOSES: Mapping[str, Purpose] = MappingProxyType(
    {
        "style": Purpose("a style", "a LoRA for a style", 32, "1e-4", 2000, 100, 1000, 3000, (15, 60), trigger=True),
        "subject": Purpose("a subject", "a LoRA for a subject", 32, "1e-4", 2000, 100, 1000, 3000, (15, 40), trigger=True),
        "motion": Purpose("a motion", "a LoRA for a motion", 32, "1e-4", 2000, 100, 1000, 3000, (10, 30), trigger=True),
        "voice": Purpose("a sound or a voice", "a LoRA for a sound or a voice", 32, "2e-4", 3000, 150, 1500, 4000, (10, 40), trigger=True),
        "ic-lora": Purpose("an IC-LoRA", "an IC-LoRA", 32, "2e-4", 3000, 120, 2000, 6000, (25, 500)),
        "full": Purpose("full fine-tuning", "all weights", 0, "1e-5", 2000, 20, 1000, 20_000, (500, 100_000)),
    }
)
"""By the word that `--for` takes; "full" is that of full fine-tuning, and takes no word."""

WORDS = tuple(name for name in PURPOSES if name != "full")


def suits(name: str, mode: Mode) -> bool:
    """Whether a mode can be trained for a purpose: a motion needs a picture that is generated, a voice a sound that is, an IC-LoRA a reference."""
    generated = {modality for modality, part in mode.parts.items() if part.is_generated}
    needed = {"motion": "video", "voice": "audio"}.get(name)
    if mode.is_full or mode.purpose == "ic-lora" or name == "ic-lora":
        return name == mode.purpose
    return needed is None or needed in generated

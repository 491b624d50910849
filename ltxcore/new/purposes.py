"""The purposes of training a LoRA, and the settings that follow from them: the rank, the learning rate, and how often each clip
is seen.

The figures are starting points, chosen to lie between the recommendations of others. docs/how-to/new-run.md lists these recommendations,
and what was measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from ltxcore.new.modes import Mode


@attrs.frozen
class Purpose:
    """A purpose of training, with its settings.

    Attributes:
        about: the purpose in words, with an article.
        trained: what is trained for this purpose, in words with an article.
        rank: the rank of the LoRA.
        learning_rate: the learning rate, as TOML.
        steps: the number of steps if nothing is known about the clips.
        passes: how often each clip is seen.
        fewest: the smallest number of steps.
        most: the largest number of steps.
        clips: the recommended number of clips, as a lower and an upper limit.
        trigger: whether it helps to begin every caption with a trigger word.
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
"""The purposes by the word that `--for` takes; "full", which `--for` does not take, stands for full fine-tuning."""

WORDS = tuple(name for name in PURPOSES if name != "full")


def suits(name: str, mode: Mode) -> bool:
    """Return whether a mode can be trained for a purpose. A motion needs generated video, and a voice needs generated audio. An IC-LoRA
    needs a mode for IC-LoRAs; such a mode, or one that trains all weights, suits only its default purpose.
    """
    generated = {modality for modality, part in mode.parts.items() if part.is_generated}
    needed = {"motion": "video", "voice": "audio"}.get(name)
    if mode.is_full or mode.purpose == "ic-lora" or name == "ic-lora":
        return name == mode.purpose
    return needed is None or needed in generated

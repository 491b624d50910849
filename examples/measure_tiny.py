"""Measure the constants of the tiny codecs on the tiny world, and write them into the package.

    python examples/measure_tiny.py

Latents and fingerprints change with these constants, and a tiny model that was trained on others is worth nothing; so this is run once, before the
tiny base is trained.
"""

from __future__ import annotations

import json
from pathlib import Path

import ltxcore.codecs
from ltxcore.codecs import tiny_audio, tiny_video
from ltxcore.new.tiny_world import scenes

CLIPS = 300


def constants(count: int = CLIPS) -> dict[str, dict[str, list[float]]]:
    """Mean and spread of every coefficient over the first clips of the base split, by modality."""
    items = list(scenes("base", count))
    return {
        "video": tiny_video.measured([item.clip() for item in items]).as_lists(),
        "audio": tiny_audio.measured([item.sound() for item in items]).as_lists(),
    }


if __name__ == "__main__":
    path = Path(ltxcore.codecs.__file__).with_name("tiny.json")
    path.write_text(json.dumps(constants()) + "\n", encoding="utf-8")
    print(f"constants of {CLIPS} clips in {path}")

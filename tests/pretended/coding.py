"""Checks of the codecs, the text encoders and the connectors of models in their official layouts, on the pretended device and on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from helpers.device_record import READ, RECORD
from ltxcore.codecs.official.tiles import Tiling
from ltxcore.codecs.source import Codecs
from ltxcore.encode.device_work import DeviceWork
from ltxcore.encode.encoding import connected
from ltxcore.protocols import Clip, Sound
from pretended.training import digest

TILES = Tiling(side=64, side_overlap=32, frames=8, frames_overlap=0)


def coded(model: Mapping[str, str], device: str) -> dict[str, Any]:
    """Digests of all that is encoded and decoded, and how often the encoding of one clip and of one caption waited."""
    paths = {key: Path(path) for key, path in model.items()}
    given = Codecs(
        str(paths["model_path"]), paths.get("text_encoder_path"), paths.get("video_vae_path"), paths.get("audio_vae_path"), device=device
    )
    generator = torch.Generator().manual_seed(1)
    clip = Clip(torch.randint(0, 255, (17, 64, 96, 3), dtype=torch.uint8, generator=generator), 24.0)
    sound = Sound(torch.randn(2, 16000, generator=generator) * 0.1, 16000)
    video, audio, text = given.video(), given.audio(), given.text()
    found = {"clip": video.encode(clip), "sound": audio.encode(sound)}
    RECORD.clear()
    video.encode(clip)
    waits = {"clip": sum(RECORD.of(READ).values()) + sum(event == ("synchronize",) for event in RECORD.events)}
    # The pretended device has no streams of several threads, so two clips of one thread are there.
    alike = DeviceWork().encode(video, [clip, clip])
    assert all(torch.equal(each, found["clip"]) for each in alike)
    found |= {"frames": video.decode(found["clip"], 24.0).frames, "samples": audio.decode(found["sound"]).samples}
    tiled = given.video()
    tiled.tiling = TILES  # type: ignore[attr-defined]
    found["clip in tiles"] = tiled.encode(clip)
    found["frames in tiles"] = tiled.decode(found["clip in tiles"], 24.0).frames
    found |= {f"text {name}": each for name, each in text.encode(["a red square"])[0].items()}
    for number, each in enumerate(text.encode(["a red square", "a disc"])):
        found |= {f"text of two {number} {name}": features for name, features in each.items()}
    offloaded = attrs.evolve(given, text_offload=True).text()
    found |= {f"text by layers {name}": each for name, each in offloaded.encode(["a red square"])[0].items()}
    context = connected(text, given)
    found |= {f"connected {name}": each for name, each in context.encode(["a red square"])[0].items()}
    assert {value.device.type for value in found.values()} == {"cpu"}
    return {"values": {name: digest({name: value}) for name, value in found.items()}, "waits": waits}


def both(model: Mapping[str, str]) -> dict[str, Any]:
    with sdpa_kernel(SDPBackend.MATH):
        return {device: coded(model, device) for device in ("cpu", "cuda:0")}

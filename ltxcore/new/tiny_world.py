"""The tiny world: coloured shapes that sway and bounce, and tones that follow the shapes; making a clip takes only seconds of CPU
time.

A clip has 64 x 64 pixels, and 17 frames at 16 per second. A soft shape moves on a smooth path. The pitch of a tone follows the shape's
height, the tone's overtone follows the shape's colour, and a caption describes this. Since the path is smooth, the audio before and after a
gap determines the audio in the gap, so an audio inpainting LoRA has something to learn.

There are two families of clips:

- **base** (splits `base`, `base_held_out`), which the base model was trained on: discs; pitch rises with height; a tone has a
  single overtone, from the 2nd to the 7th, which depends on the colour.
- **reedy** (`train`, `held_out`; `ltx new --demo` writes clips of `train`), which the base model has never seen, so that a LoRA has
  something to learn: squares; pitch falls with height; and below the colour's overtone every tone has another one, at one and a half times
  the tone's pitch.

A clip can be accompanied by files for conditions: audio and video masks, and a reference, which shows the shape's edges and plays
the tone's pitch as a plain sine.

A clip is identified by (seed, split, index), so splits have no clip in common, whatever their sizes. `scene()` makes a clip in memory, and
`write_world()` writes the files of clips and the dataset file that lists them.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import numpy as np
import torch

from ltxcore.files import write_whole
from ltxcore.media.probe import write_clip, write_sound
from ltxcore.protocols import Clip, Sound

SIZE, FRAMES, FPS = 64, 17, 16
SOUND_RATE = 16_000
REFERENCE_RATE = 8_000
"""The samples per second of a reference sound: more than enough for a plain tone."""
MASK_RATE = 100
"""The samples per second of an audio mask: enough for its soft edges."""
SECONDS = FRAMES / FPS
PARTS = frozenset({"audio_masks", "video_masks", "references"})
"""The parts that can be written beside a clip."""
DEMO_CLIPS = 120
"""The number of clips that `ltx new --demo` writes, and that are in `examples/media`."""
HISS = 0.005
"""The loudness of the noise under every tone. Without it, the gaps between overtones would hold only AAC's artifacts."""
EDGE = 0.05
"""The seconds over which an audio mask falls from given to generated."""
HOLE_EDGE = 4
"""The pixels over which a video mask falls from given to generated."""
HOLES = tuple((top, left, bottom, right) for top, bottom in ((0, 32), (32, 64), (0, 64)) for left, right in ((0, 32), (32, 64), (0, 64)))[
    :-1
]
"""The quarters and halves of a picture, as (top, left, bottom, right) in pixels. They consist of whole latent cells, since
nothing is generated in a cell that is partly given.
"""


@attrs.frozen
class Colour:
    """The name and RGB values (from 0 to 1) of a colour, the name of its tone, and the overtone of that tone, as a multiple of
    the pitch.
    """

    name: str
    rgb: tuple[float, float, float]
    tone: str
    overtone: int


COLOURS = (
    Colour("red", (0.95, 0.15, 0.15), "warm", 2),
    Colour("yellow", (0.95, 0.85, 0.15), "hollow", 3),
    Colour("green", (0.15, 0.80, 0.25), "bright", 4),
    Colour("cyan", (0.15, 0.80, 0.90), "nasal", 5),
    Colour("blue", (0.20, 0.30, 0.95), "thin", 6),
    Colour("violet", (0.75, 0.25, 0.90), "glassy", 7),
)


@attrs.frozen
class People:
    """The look and sound of one family of clips; `reed` is the strength of the overtone at one and a half times the pitch."""

    shape: str
    pitch_rises: bool
    reed: float
    caption: str


BASE = People("disc", True, 0.0, "a {colour} disc {motion} {speed}; a {tone} tone follows it up and down")
REEDY = People("square", False, 0.8, "a {colour} square {motion} {speed}; a reedy {tone} tone moves against it")
SPLITS = {"base": BASE, "base_held_out": BASE, "train": REEDY, "held_out": REEDY}


@attrs.frozen
class Scene:
    """All properties of one clip, drawn from its identity; times are in seconds, and lengths are shares of the picture's side."""

    name: str
    people: People
    colour: Colour
    bounces: bool
    speed: float
    phase: float
    middle: float
    swing: float
    drift: tuple[float, float]
    radius: float
    ground: float
    loudness: float
    hiss: int
    gap: tuple[float, float]
    hole: tuple[int, int, int, int]

    def height(self, time: np.ndarray) -> np.ndarray:
        """Return the height of the shape's centre, from 0 at the bottom of the picture to 1 at its top."""
        turn = 2 * math.pi * self.speed * time + self.phase
        return self.middle + self.swing * (2 * np.abs(np.sin(turn / 2)) - 1 if self.bounces else np.sin(turn))

    @property
    def caption(self) -> str:
        return self.people.caption.format(
            colour=self.colour.name,
            motion="bounces" if self.bounces else "sways",
            speed="slowly" if self.speed < 0.9 else "quickly",
            tone=self.colour.tone,
        )

    def clip(self, *, outline: bool = False) -> Clip:
        """Return the frames or, for a reference, the outline of the shape in white on black."""
        time = np.arange(FRAMES) / FPS
        across = (self.drift[0] + self.drift[1] * time / SECONDS) * SIZE
        down = (1 - self.height(time)) * SIZE
        rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
        dy, dx = np.abs(rows - down[:, None, None]), np.abs(columns - across[:, None, None])
        distance = np.hypot(dx, dy) if self.people.shape == "disc" else np.maximum(dx, dy)
        inside = np.clip((self.radius * SIZE - distance) / 3 + 0.5, 0, 1)[..., None]
        if outline:
            inside, front, ground = 4 * inside * (1 - inside), np.ones(3), 0.0
        else:
            front, ground = np.array(self.colour.rgb), self.ground
        pixels = ground + inside * (front - ground)
        return Clip(torch.from_numpy((255 * pixels).round().astype(np.uint8)), float(FPS))

    def sound(self, *, plain: bool = False, rate: int = SOUND_RATE) -> Sound:
        """Return the tone in mono or, for a reference, a plain sine of the same pitch."""
        time = np.arange(round(SECONDS * rate)) / rate
        height = self.height(time) if self.people.pitch_rises else 1 - self.height(time)
        turns = 2 * math.pi * np.cumsum(220 * 4**height) / rate
        tone = np.sin(turns)
        if not plain:
            tone += 0.6 * np.sin(self.colour.overtone * turns) + self.people.reed * np.sin(1.5 * turns)
        noise = np.random.default_rng(self.hiss).standard_normal(time.shape)
        return Sound(torch.from_numpy((self.loudness * tone + HISS * noise).astype(np.float32))[None], rate)

    def audio_mask(self) -> Sound:
        """Return 1 where the audio is given and 0 in the gap that is to be generated, with soft edges; `[1, N]` at `MASK_RATE`."""
        time = np.arange(round(SECONDS * MASK_RATE)) / MASK_RATE
        start, end = self.gap
        outside = np.maximum(start - time, time - end)
        return Sound(torch.from_numpy(np.clip(outside / EDGE + 1, 0, 1).astype(np.float32))[None], MASK_RATE)

    def video_mask(self) -> Clip:
        """Return one frame that is white where the video is given and black in the hole that is to be generated, with soft edges
        outside the hole.
        """
        rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
        top, left, bottom, right = self.hole
        outside = np.maximum.reduce([top - rows, rows - bottom, left - columns, columns - right])
        grey = (255 * np.clip(outside / HOLE_EDGE, 0, 1)).round().astype(np.uint8)
        return Clip(torch.from_numpy(np.repeat(grey[None, ..., None], 3, axis=-1)), 1.0)


def scene(split: str, index: int, seed: int = 0) -> Scene:
    """Return the clip with this identity; the clip is the same on every machine."""
    random = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    colour = COLOURS[random.integers(len(COLOURS))]
    bounces, fast = random.random(2) < 0.5
    start, end = random.uniform(0.25, 0.4), random.uniform(0.6, 0.75)
    length = random.uniform(0.3, 0.6) * SECONDS
    begin = random.uniform(0.1, 0.9) * (SECONDS - length)
    return Scene(
        name=f"{split}_{index:04d}",
        people=SPLITS[split],
        colour=colour,
        bounces=bool(bounces),
        speed=float(random.uniform(1.0, 1.5) if fast else random.uniform(0.4, 0.8)),
        phase=float(random.uniform(0, 2 * math.pi)),
        middle=float(random.uniform(0.45, 0.55)),
        swing=float(random.uniform(0.18, 0.3)),
        drift=(float(start), float(end - start)) if random.random() < 0.5 else (float(end), float(start - end)),
        radius=float(random.uniform(0.13, 0.2)),
        ground=float(random.uniform(0.0, 0.25)),
        loudness=float(random.uniform(0.2, 0.4)),
        hiss=int(random.integers(1 << 32)),
        gap=(float(begin), float(begin + length)),
        hole=HOLES[random.integers(len(HOLES))],
    )


def scenes(split: str, count: int, seed: int = 0) -> Iterator[Scene]:
    """Yield the first `count` clips of a split."""
    return (scene(split, index, seed) for index in range(count))


def row_of(item: Scene, parts: frozenset[str]) -> dict[str, str]:
    """Return the dataset row of a clip that is written with these accompanying parts."""
    row = {"video": f"clips/{item.name}.mp4"}
    if "audio_masks" in parts:
        row["audio_mask"] = f"audio_masks/{item.name}.wav"
    if "video_masks" in parts:
        row["video_mask"] = f"video_masks/{item.name}.png"
    if "references" in parts:  # one file for both: outlines to see, and the plain tone to hear
        row["reference_video"] = row["reference_audio"] = f"references/{item.name}.mp4"
    return {**row, "caption": item.caption}


def listing(split: str, count: int, seed: int = 0, parts: frozenset[str] = PARTS) -> str:
    """Return the text of the dataset file that lists the first clips of a split."""
    return "".join(json.dumps(row_of(item, parts)) + "\n" for item in scenes(split, count, seed))


def write_scene(item: Scene, out: Path, parts: frozenset[str]) -> dict[str, str]:
    """Write the files of a clip under `out`, and return its row of the dataset."""
    row = row_of(item, parts)
    write_clip(out / row["video"], item.clip(), item.sound())
    if "audio_mask" in row:
        write_sound(out / row["audio_mask"], item.audio_mask())
    if "video_mask" in row:
        write_clip(out / row["video_mask"], item.video_mask())
    if "reference_video" in row:
        write_clip(out / row["reference_video"], item.clip(outline=True), item.sound(plain=True, rate=REFERENCE_RATE))
    return row


def write_world(
    out: Path,
    split: str,
    count: int,
    seed: int = 0,
    parts: frozenset[str] = PARTS,
    dataset: str = "clips.jsonl",
    step: Callable[[], None] = lambda: None,
) -> Path:
    """Write the first `count` clips of a split under `out`, with everything that can accompany them, and the dataset
    file that lists them.

    `step` is called after each clip.
    """
    for item in scenes(split, count, seed):
        write_scene(item, out, parts)
        step()
    write_whole(out / dataset, listing(split, count, seed, parts).encode())
    return out / dataset

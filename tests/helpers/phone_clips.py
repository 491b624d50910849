"""Twelve clips as phones record them and as messengers and browsers save them, made for tests.

Each frame has a white square in its upper left corner, red at its left edge and green at its right one, and a black bar that crosses it in `CROSSING`
seconds. So it tells which side is up, and when it was filmed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import attrs
import av
import numpy as np
import numpy.typing as npt

from helpers.hdr_made import PQ, STUDIO, Numbers, as_yuv, frame_of, light_to_pq, tag

Pixels = npt.NDArray[np.uint8]

NTSC = Fraction(30000, 1001)
CROSSING = 4.0
SQUARE, BAR = 24, 14
WHITE = 203.0
"""The light of white in the HDR clip, in cd/m2, of BT.2408."""

TICK = Fraction(1, 90_000)
RATE = 48_000
STEREO = (300.0, 500.0)
SURROUND = (300.0, 500.0, 800.0, 60.0, 1100.0, 1500.0)
"""The frequency of each channel's tone, in hertz; the last four are the center, the low frequencies, and the sides."""


@attrs.frozen
class PhoneClip:
    """A clip to make; `turned` is the rotation, in degrees, by which a player turns its stored frames to the left."""

    name: str
    seconds: float = 3.0
    rate: Fraction = NTSC
    is_tall: bool = False
    turned: int = 0
    codec: str = "libx264"
    sound: str = "aac"
    tones: tuple[float, ...] = STEREO
    is_uneven: bool = False
    is_hdr: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as a player shows them."""
        return (108, 192) if self.is_tall else (192, 108)

    @property
    def times(self) -> list[Fraction]:
        """When each frame is shown. Where they are uneven, each third one is late, and in the dark, after half a second, each second one is lacking."""
        every = [(index, index / self.rate) for index in range(round(self.seconds * self.rate))]
        if not self.is_uneven:
            return [at for _, at in every]
        return [at + (Fraction(2, 5) / self.rate if index % 3 == 1 else 0) for index, at in every if not (0.5 <= at < 1.5 and index % 2)]


TWELVE = (
    PhoneClip("IMG_0412.MOV", is_tall=True, turned=-90),
    PhoneClip("IMG_0413.MOV"),
    PhoneClip("IMG 0414 (1).MOV", rate=Fraction(60), is_tall=True, turned=-90),
    PhoneClip("IMG_0415.MOV", rate=Fraction(60000, 1001)),
    PhoneClip("IMG_0416.MOV", codec="libx265", is_hdr=True),
    PhoneClip("IMG_0417.MOV", turned=180),
    PhoneClip("20240714_101530.mp4", is_tall=True, turned=90, is_uneven=True),
    PhoneClip("WhatsApp Video 2024-07-14 at 10.15.30.mp4", is_tall=True, sound=""),
    PhoneClip("Été à Nîmes.mp4", tones=SURROUND),
    PhoneClip("Öffne die Tür.mov", seconds=2.0, is_tall=True),
    PhoneClip("Hafen am Abend.webm", codec="libvpx-vp9", sound="libopus"),
    PhoneClip("aufnahme.webm", codec="libvpx", sound="libopus", is_tall=True, is_uneven=True),
)


def path_in(folder: Path, name: str) -> Path:
    """The path of a clip. Its name is written as macOS does, with an accent after its letter."""
    return folder / unicodedata.normalize("NFD", name)


def make_twelve(folder: Path, captioned: Collection[str]) -> Path:
    """Write the twelve clips, with a text file for each that is named."""
    folder.mkdir(parents=True)
    for clip in TWELVE:
        path = make(path_in(folder, clip.name), clip)
        if clip.name in captioned:
            path.with_suffix(".txt").write_text(
                f"a bar wanders along a {'tall' if clip.is_tall else 'wide'} wall, a tone is heard\n", "utf-8"
            )
    return folder


def picture(clip: PhoneClip, seconds: float) -> Pixels:
    """The frame at a time, as it is shown, `[H, W, 3]`."""
    width, height = clip.size
    across = np.linspace(0, 1, width)[None, :, None]
    pixels = np.broadcast_to((1 - across) * [200, 40, 40] + across * [40, 180, 40], (height, width, 3)).astype(np.uint8)
    left = round(seconds / CROSSING * width)
    pixels[:, left : left + BAR] = 16
    pixels[:SQUARE, :SQUARE] = 235
    return pixels


def time_in(pixels: Pixels, clip: PhoneClip) -> float:
    """When a frame was filmed, in seconds, as its bar tells. The frame may be of another size, but shows the whole width."""
    brightness = pixels[pixels.shape[0] // 2 :].astype(np.float64).max(axis=2).mean(axis=0)
    dark = np.clip(0.7 * np.median(brightness) - brightness, 0, None)
    middle = float((dark * (np.arange(len(dark)) + 0.5)).sum() / dark.sum()) / len(dark)
    return (middle - BAR / 2 / clip.size[0]) * CROSSING


def make(path: Path, clip: PhoneClip) -> Path:
    """Write a clip."""
    quick = {"libx264": {"preset": "veryfast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=error"}}
    options = quick.get(clip.codec, {"deadline": "realtime", "cpu-used": "8", "b": "600000"})
    turns, layout = clip.turned // 90 % 4, "stereo" if len(clip.tones) == 2 else "5.1"
    with av.open(str(path), "w") as container:
        video = container.add_stream(clip.codec, rate=clip.rate, options=options)
        video.width, video.height = reversed(clip.size) if turns % 2 else clip.size
        video.pix_fmt = "yuv420p10le" if clip.is_hdr else "yuv420p"
        video.codec_context.time_base = TICK
        if turns:
            video.set_display_rotation(clip.turned)
        if clip.is_hdr:
            tag(video.codec_context, PQ)
        audio = container.add_stream(clip.sound, rate=RATE, layout=layout) if clip.sound else None
        for at in clip.times:
            frame = _frame(np.rot90(picture(clip, float(at)), -turns), clip.is_hdr)
            frame.pts, frame.time_base = round(at / TICK), TICK
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            time = np.arange(round(clip.seconds * RATE)) / RATE
            tones = np.stack([0.2 * np.sin(2 * np.pi * hertz * time) for hertz in clip.tones])
            whole = av.AudioFrame.from_ndarray(tones.astype(np.float32), format="fltp", layout=layout)
            whole.sample_rate, whole.pts, whole.time_base = RATE, 0, Fraction(1, RATE)
            for part in av.AudioResampler(format=audio.codec_context.format or "fltp", layout=layout, rate=RATE).resample(whole):
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def pq_signal(pixels: Pixels) -> Numbers:
    """What a phone in HDR writes for pixels: their levels are BT.2020's, and white is as bright as `WHITE` says. 0 to 1, `[3, H, W]`."""
    return light_to_pq(WHITE * (np.moveaxis(pixels, 2, 0) / 255.0) ** 2.4)


def _frame(pixels: Pixels, is_hdr: bool) -> av.VideoFrame:
    if not is_hdr:
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="yuv420p")
    frame = frame_of(as_yuv(pq_signal(pixels), 10, STUDIO), "yuv420p10le")
    tag(frame, PQ)
    return frame

"""The tracker "tensorboard", which writes numbers, pictures, clips and audio to event files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import DataError, hookimpl, notice
from ltxplugins.trackers.installed import missing

WIDEST = 320
"""The maximum width and height of a clip in pixels. Clips are shown as GIFs, since TensorBoard plays no other format."""

FLUSH = 10
"""The maximum number of seconds until a logged number is in the file."""


@attrs.define
class TensorBoard:
    """Write event files to the output folder. View them with `tensorboard --logdir OUTPUT_DIR`."""

    folder: str = attrs.field(default="tensorboard", metadata={"help": "folder for its files, inside the output folder"})
    media: bool = attrs.field(default=True, metadata={"help": "write validation samples too: images, clips (as GIF) and audio"})
    _events: Any = attrs.field(default=None, init=False, repr=False)

    def problems(self) -> list[tuple[tuple[str, ...], str, str]]:
        return missing("tensorboard", "TensorBoard")

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        """Begin event files, or continue them so that earlier numbers for repeated steps no longer count."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events = EventFileWriter(str(output_dir / self.folder), flush_secs=FLUSH)
        if first_step:
            self._add(first_step + 1, session_log=SessionLog(status=SessionLog.START))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items() if math.isfinite(value)]
        self._add(step, summary=Summary(value=values))

    def sample(self, step: int, name: str, path: Path) -> None:
        if not self.media:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        try:
            values = [Summary.Value(tag=f"samples/{name}{suffix}", **shown) for suffix, shown in _shown(path).items()]
        except DataError as error:
            notice(f"TensorBoard does not show {path}: {error}")
            return
        self._add(step, summary=Summary(value=values))

    def finish(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def _add(self, step: int, **content: Any) -> None:
        import time

        from tensorboard.compat.proto.event_pb2 import Event

        if self._events is None:
            raise RuntimeError("the tracker has not been started")
        self._events.add_event(Event(wall_time=time.time(), step=step, **content))


def _shown(path: Path) -> dict[str, dict[str, Any]]:
    """Return the pictures and audio of a file in TensorBoard's format, by the text that follows the sample's name in
    the tag.
    """
    from ltxcore.api.media import probe

    found = probe(path)
    shown = {}
    if found.frames is not None:
        shown[""] = {"image": _pictures(path)}
    if found.sound_rate is not None:
        shown["/sound" if shown else ""] = {"audio": _sound(path)}
    return shown


def _pictures(path: Path) -> Any:
    """Return a clip or a picture as a GIF; a clip repeats forever."""
    import io

    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    from ltxcore.api.media import read_clip

    clip = read_clip(path)
    pictures = [Image.fromarray(frame.numpy()) for frame in clip.frames]
    for picture in pictures:
        picture.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=1000 / clip.rate, loop=0)
    width, height = pictures[0].size
    return Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue())


def _sound(path: Path) -> Any:
    """Return audio as a 16-bit WAV file."""
    import io
    import wave

    from tensorboard.compat.proto.summary_pb2 import Summary

    from ltxcore.api.media import read_sound

    sound = read_sound(path)
    numbers = (sound.samples.clamp(-1, 1) * 32767).round().short().T.contiguous()
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(numbers.shape[1])
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes(numbers.numpy().tobytes())
    return Summary.Audio(
        sample_rate=sound.rate,
        num_channels=numbers.shape[1],
        length_frames=numbers.shape[0],
        encoded_audio_string=buffer.getvalue(),
        content_type="audio/wav",
    )


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"tensorboard": TensorBoard}

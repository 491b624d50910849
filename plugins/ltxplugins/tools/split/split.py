"""Cut films into their scenes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api import ConfigError, DataError, LtxError, Problem, Sound
from ltxcore.api.commands import as_done, bars, remove_unfinished
from ltxcore.api.dataset import media_in, read_table, rows_writer
from ltxcore.api.media import open_clip, open_sound, write_frames
from ltxplugins.tools.made import Made
from ltxplugins.tools.work import Tally

if TYPE_CHECKING:
    from torch import Tensor

LIST = "dataset.jsonl"
SCENES = "scenes.json"
"""The file in the folder of a film that lists its scenes."""

SCENE = re.compile(r"[0-9]{4,}\.mp4")
"""The name of a scene's file."""

SIGHT = 256
"""The width in pixels of the small frames in which scenes are detected."""


@attrs.frozen
class Cutting:
    """The rule for scenes. The film is cut where the picture changes by more than `threshold`, and scenes shorter than
    `shortest` seconds are left out.
    """

    threshold: float = 27.0
    shortest: float = 1.0


@attrs.frozen
class _Film:
    """A film, and the folder for its scenes."""

    path: Path
    folder: Path


def split(
    videos: Sequence[Path], output: Path, cutting: Cutting, *, overwrite: bool = False, workers: int = 1, progress: bool = True
) -> Tally:
    """Cut films into scenes named `output/FILM/0000.mp4` and so on, and list the scenes in `output/dataset.jsonl`.

    A scene has the frames, the exact frame rate and the audio of its film. A film that has already been cut is skipped.

    Args:
        videos: the films, as files or as folders of films.
        output: the folder to write to.
        cutting: the rule for scenes.
        overwrite: whether to cut films again that have already been cut.
        workers: the number of films to cut at a time.
        progress: whether to show a bar.

    Raises:
        ConfigError: PySceneDetect is not installed, two films have the same name, or the output has files of others where scenes would be
            written.
        DataError: there are no films.
    """
    detector_type()
    films = _films(videos, output)
    _check_output(output, films)
    output.mkdir(parents=True, exist_ok=True)
    remove_unfinished(output)
    made, counts, problems = Made(output), dict.fromkeys((True, False), 0), list[Problem]()

    short: list[int] = []

    def work(film: _Film) -> tuple[bool, int]:
        of = _made_of(film.path, cutting)
        end = film.folder / SCENES
        if not overwrite and made.is_fresh(end, of):
            return False, len(json.loads(end.read_text(encoding="utf-8")))
        if not end.is_file():  # it says that the files in this folder are ours, should the command be stopped
            rows_writer(end)([])
        names, left_out = _cut(film, cutting)
        short.append(left_out)
        rows_writer(end)([{"video": name} for name in names])
        made.record(end, of)
        return True, len(names)

    with bars(progress) as phase:
        step = phase("films", len(films))
        for film, result in as_done(work, films, workers):
            if isinstance(result, LtxError):
                problems += result.at(str(film.path)).problems
            else:
                counts[result[0]] += result[1]
            step()
    rows = [row for film in films if (end := film.folder / SCENES).is_file() for row in json.loads(end.read_text(encoding="utf-8"))]
    rows_writer(output / LIST)([{"video": row["video"]} for row in rows])
    notes = (
        [
            f"{sum(short)} scene{'' if sum(short) == 1 else 's'} shorter than {cutting.shortest:g} s {'was' if sum(short) == 1 else 'were'} left out"
        ]
        if any(short)
        else []
    )
    return Tally(counts[True], counts[False], tuple(problems), tuple(notes))


def detector_type() -> Any:
    """Return the class of PySceneDetect that detects cuts.

    Raises:
        ConfigError: PySceneDetect is not installed.
    """
    try:
        from scenedetect import ContentDetector
    except ImportError as error:
        what = "finding scenes needs PySceneDetect, which is not installed"
        raise ConfigError(what, remedy='Run `pip install "ltx[tools]"`.') from error
    return ContentDetector


def _films(videos: Sequence[Path], output: Path) -> list[_Film]:
    files = [file for path in videos for file in (_films_in(path, output) if path.is_dir() else (path,))]
    if not files:
        raise DataError("there are no films in these folders", where=", ".join(map(str, videos)))
    films: dict[Path, _Film] = {}
    for file in files:
        film = _Film(file, output / file.stem)
        other = films.setdefault(film.folder, film)
        if other is not film:
            raise ConfigError(
                f"the scenes of this film and of {other.path} would be written to the same folder",
                where=str(file),
                remedy="Rename one of the films.",
            )
    return list(films.values())


def _check_output(output: Path, films: Sequence[_Film]) -> None:
    """Refuse to write over files that this command has not written."""
    remedy = "Name another folder with --output."
    listed = output / LIST
    rows = read_table(listed).rows if listed.is_file() and listed.stat().st_size else ()  # it is empty if all films failed
    if not all(SCENE.fullmatch(PurePath(str(row.values.get("video", ""))).name) for row in rows):
        raise ConfigError("already exists, and was not written by this command", where=str(listed), remedy=remedy)
    for film in films:
        if not (film.folder / SCENES).is_file() and any(film.folder.glob("*.mp4")):
            raise ConfigError("has clips that this command has not written", where=str(film.folder), remedy=remedy)


def _films_in(folder: Path, apart: Path) -> Iterator[Path]:
    """Yield the clips under a folder, but not those under `apart`."""
    for name, kind in media_in(folder).items():
        if kind == "video" and not (folder / name).absolute().is_relative_to(apart.absolute()):
            yield folder / name


def _made_of(film: Path, cutting: Cutting) -> str:
    if not os.path.isfile(film):  # noqa: PTH113 - which is False, too, of a name that no file can have
        raise DataError("there is no such file", where=str(film))
    status = film.stat()
    return hashlib.sha256(json.dumps([status.st_size, status.st_mtime_ns, attrs.astuple(cutting)]).encode()).hexdigest()


def scenes(film: Path, threshold: float) -> tuple[Fraction, list[tuple[int, int]]]:
    """Return the exact frame rate of a film, and its scenes. Each scene is given by its first frame and the frame after
    its last.
    """
    from scenedetect import FrameTimecode

    with open_clip(film) as (rate, frames):
        detector = detector_type()(threshold=threshold, min_scene_len=1)
        cuts, count = [0], 0
        for frame in frames:
            step = max(1, frame.shape[1] // SIGHT)
            small = frame[::step, ::step].flip(-1).contiguous().numpy()  # PySceneDetect expects blue, green, red
            cuts += [cut.frame_num for cut in detector.process_frame(FrameTimecode(count, rate), small)]
            count += 1
    return rate, list(zip(cuts, [*cuts[1:], count], strict=True))


def _cut(film: _Film, cutting: Cutting) -> tuple[list[str], int]:
    """Write the scenes of a film, and return their names and the number of scenes that were too short. Files of earlier
    scenes of the film are removed.
    """
    rate, every = scenes(film.path, cutting.threshold)
    found = [(start, end) for start, end in every if end - start >= cutting.shortest * rate]
    names = [f"{index:04d}.mp4" for index in range(len(found))]
    with open_clip(film.path) as (_, frames), open_sound(film.path) as pieces:
        at, sound = 0, _Heard(pieces)
        for name, (start, end) in zip(names, found, strict=True):
            for _ in islice(frames, start - at):
                pass
            part = sound.between(start / rate, end / rate)
            write_frames(film.folder / name, _taken(frames, end - start), rate, part)
            at = end
    for path in film.folder.iterdir():
        if SCENE.fullmatch(path.name) and path.name not in names:
            path.unlink()
    return [f"{film.folder.name}/{name}" for name in names], len(every) - len(found)


def _taken(frames: Iterator[Tensor], count: int) -> Iterator[Tensor]:
    yield from islice(frames, count)


class _Heard:
    """Audio that is read in order, with no more than one scene in memory."""

    def __init__(self, pieces: Iterator[Sound]) -> None:
        self._pieces, self._at, self._rate = pieces, 0, 0
        self._held: list[Tensor] = []

    def between(self, start: Fraction, end: Fraction) -> Sound | None:
        """Return the audio from `start` to `end` seconds; None if there is no audio. `start` must not be before the
        `end` of the last call.
        """
        import torch

        held = sum(part.shape[1] for part in self._held)
        while not self._rate or self._at + held < round(end * self._rate):
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rate = piece.rate
            self._held.append(piece.samples)
            held += piece.samples.shape[1]
        if not self._rate:
            return None
        samples = torch.cat(self._held, dim=1) if self._held else torch.zeros(1, 0)
        first, last = round(start * self._rate) - self._at, round(end * self._rate) - self._at
        self._held, self._at = [samples[:, last:]], self._at + last
        part = samples[:, max(0, first) : last]
        return Sound(part, self._rate) if part.shape[1] else None

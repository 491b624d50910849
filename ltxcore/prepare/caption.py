"""`ltx caption`: captions for a dataset, from a model that sees its clips and may hear them."""

from __future__ import annotations

import base64
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from ltxcore.codecs.clips import reading
from ltxcore.codecs.media import probe, read_sound, write_sound
from ltxcore.codecs.mel import resample
from ltxcore.errors import ConfigError, DataError, LtxError, Problem
from ltxcore.prepare.endpoint import Endpoint
from ltxcore.prepare.tables import NO_CHOICE, Listed, Row, check_format, read_listed, write_rows
from ltxcore.prepare.work import Tally, each
from ltxcore.preprocess.progress import bars
from ltxcore.protocols import Sound

INSTRUCTION = (
    "Describe this clip in one paragraph for someone who is to make it again: who or what is seen, what happens from beginning to end, the place, the light, "
    "how the camera moves, and, if there is sound, what is heard. Answer with the description alone."
)
JPEG_QUALITY = 85
SOUND_RATE = 16_000
MOST_SECONDS = 60.0
"""Of a sound that is sent."""


@attrs.frozen
class Asking:
    """What is sent of a clip: an instruction, so many frames of at most `size` pixels a side, and its sound or not."""

    instruction: str = INSTRUCTION
    frames: int = 8
    size: int = 512
    sound: bool = False


def caption(
    dataset: Path,
    output: Path,
    endpoint: Endpoint,
    asking: Asking,
    *,
    video_column: str | None = None,
    overwrite: bool = False,
    workers: int = 4,
    progress: bool = True,
) -> Tally:
    """Write a dataset with a caption in every row, whole after each answer, so that a run that was stopped goes on.

    Rows that have a caption, in the dataset or in the output of an earlier run, keep it. A row that fails is left out and told; the next run tries it again.

    Args:
        dataset: a dataset file, or a folder of clips.
        output: the dataset file to write.
        endpoint: where captions come from.
        asking: what is sent.
        video_column: of the clips; none: by convention.
        overwrite: whether to ask also for captions that are there.
        workers: requests at a time.
        progress: whether to show a bar.

    Raises:
        ConfigError: the output is the dataset or something else, or the endpoint cannot be used.
        DataError: the dataset cannot be read.
    """
    check_format(output)
    listed = read_listed(dataset, {**NO_CHOICE, "video": video_column})
    role = "video" if "video" in listed.columns else "audio"
    if role not in listed.columns:
        raise DataError('has neither a column "video" nor "audio"', where=str(dataset), remedy="Name yours with --video-column.")
    column = listed.columns.get("caption", "caption")
    rows = [listed.moved(row, output.parent) for row in listed.rows]
    earlier = _earlier(dataset, output, rows, listed.columns[role], column)
    if not overwrite:
        for row in rows:
            row[column] = _text(row.get(column)) or earlier.get(row.get(listed.columns[role])) or ""
    wanted = [index for index, row in enumerate(rows) if overwrite or not row[column]]
    answered = set(range(len(rows))) - set(wanted)
    client = endpoint.client()
    problems: list[Problem] = []

    def work(index: int) -> str:
        return _cleaned(endpoint.ask(client, list(_parts(listed, listed.rows[index], role, asking))))

    with bars(progress) as phase:
        step = phase("captions", len(wanted))
        for index, result in each(wanted, work, workers):
            if isinstance(result, ConfigError):
                raise result
            if isinstance(result, LtxError):
                problems += [_told(problem, listed, listed.rows[index], role) for problem in result.problems]
            else:
                rows[index][column] = result
                answered.add(index)
                write_rows(output, [rows[each_] for each_ in sorted(answered)])
            step()
    if answered and not wanted:
        write_rows(output, rows)
    return Tally(len(wanted) - len(problems), len(rows) - len(wanted), tuple(problems))


def _earlier(dataset: Path, output: Path, rows: list[dict[str, Any]], key: str, column: str) -> dict[Any, str]:
    """Captions that an earlier run wrote, by clip."""
    if not output.is_file():
        return {}
    if dataset.is_file() and output.samefile(dataset):
        what = "the output would replace the dataset, without the rows that fail"
        raise ConfigError(what, where=str(output), remedy="Name another file.")
    written, known = read_listed(output, NO_CHOICE).rows, {row.get(key) for row in rows}
    if any(row.values.get(key) not in known for row in written):
        raise ConfigError("is there already, and holds other clips", where=str(output), remedy="Remove it, or name another file.")
    return {row.values.get(key): _text(row.values.get(column)) for row in written}


def _text(cell: Any) -> str:
    return cell.strip() if isinstance(cell, str) else ""


def _cleaned(answer: str) -> str:
    """An answer without what the model thought before it.

    Raises:
        DataError: nothing is left.
    """
    text = re.sub(r"^.*</think>", "", answer, flags=re.DOTALL).strip()
    if not text or text.startswith("<think>"):
        raise DataError("the model's answer is empty")
    return " ".join(text.split())


def _parts(listed: Listed, row: Row, role: str, asking: Asking) -> Iterator[dict[str, Any]]:
    """The message: the instruction, pictures, and a sound."""
    path = listed.file(row, role)
    yield {"type": "text", "text": asking.instruction}
    if role == "video":
        for picture in _pictures(path, asking):
            yield {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_base64(picture)}"}}
    own = listed.file(row, "audio") if "audio" in listed.columns else path
    if role == "audio" or (asking.sound and probe(own).sound_rate is not None):
        yield {"type": "input_audio", "input_audio": {"data": _base64(_wav(own)), "format": "wav"}}


def _pictures(path: Path, asking: Asking) -> Iterator[bytes]:
    """Frames in the middle of equal parts of a clip, as JPEG."""
    from PIL import Image

    count = probe(path).frames or 1
    parts = min(asking.frames, count)
    chosen = {(2 * part + 1) * count // (2 * parts) for part in range(parts)}
    with reading(path) as (_, frames):
        for index, frame in enumerate(frames):
            if index in chosen:
                picture, content = Image.fromarray(frame.numpy()), io.BytesIO()
                picture.thumbnail((asking.size, asking.size))
                picture.save(content, "JPEG", quality=JPEG_QUALITY)
                yield content.getvalue()


def _wav(path: Path) -> bytes:
    """The first minute of a sound as mono WAV."""
    sound = read_sound(path, max_duration=MOST_SECONDS)
    mono = resample(sound.samples.mean(dim=0, keepdim=True), sound.rate, SOUND_RATE)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "sound.wav"
        write_sound(place, Sound(mono, SOUND_RATE))
        return place.read_bytes()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _told(problem: Problem, listed: Listed, row: Row, role: str) -> Problem:
    place = problem.where if problem.where != row.where and problem.where else str(row.values.get(listed.columns[role]))
    return attrs.evolve(problem, where=f"{row.where}: {place}" if row.where else place)

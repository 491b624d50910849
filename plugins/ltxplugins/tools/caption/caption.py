"""Write captions for a dataset with a model that sees, and may hear, the clips."""

from __future__ import annotations

import base64
import io
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any

import attrs

from ltxcore.api import ConfigError, DataError, LtxError, Problem
from ltxcore.api.commands import as_done, bars, write_whole
from ltxcore.api.dataset import RawDataset, Row, open_dataset, rows_writer
from ltxcore.api.media import open_clip, probe, read_sound, write_media
from ltxplugins.tools.caption.endpoint import Client, Endpoint
from ltxplugins.tools.caption.local import LocalClient, LocalModel
from ltxplugins.tools.work import Tally

INSTRUCTION = (
    "Describe this clip in one paragraph for someone who has to recreate it: who or what is seen, what happens from beginning to end, the place, the light, "
    "how the camera moves, and, if there is sound, what is heard. Answer with the description alone."
)
JPEG_QUALITY = 85
MOST_SECONDS = 60.0
"""The maximum number of seconds of audio that are sent."""


@attrs.frozen
class Asking:
    """The settings for requests about clips: the instruction, the number of frames, the maximum `size` of their longer
    side in pixels, and whether to send audio.
    """

    instruction: str = INSTRUCTION
    frames: int = 8
    size: int = 512
    sound: bool = False


def caption(
    dataset: Path,
    output: Path | None,
    model: Endpoint | LocalModel,
    asking: Asking,
    *,
    local: Iterable[Path] = (),
    video_column: str | None = None,
    overwrite: bool = False,
    workers: int = 4,
    progress: bool = True,
) -> Tally:
    """Write a dataset file with a caption in every row, or text files beside the media of a folder. The output is saved
    after every answer, so that a stopped run can continue.

    A clip with a caption, in the dataset or in the output of an earlier run, keeps this caption. A row that fails is
    left out and reported; the next run tries it again.

    Args:
        dataset: a dataset file, or a folder of media.
        output: the dataset file to write; None to write text files beside the media of a folder.
        model: the server or the model that writes the captions.
        asking: the settings for requests.
        local: Python files whose sources may read the dataset.
        video_column: the column of the clips; None to find it by its usual names.
        overwrite: whether to replace existing captions.
        workers: the number of requests at a time.
        progress: whether to show a bar.

    Raises:
        ConfigError: the output is the dataset itself or some other existing file, or the model cannot be used.
        DataError: the dataset cannot be read, or a caption cannot be written.
    """
    write_rows = rows_writer(output) if output is not None else None
    listed = open_dataset(dataset, {"video": video_column}, local=local)
    if output is None and not listed.is_folder:
        raise ConfigError(
            "there is no file to write the captions to",
            where="--output",
            remedy="Name a file; only the captions of a folder can be written to text files beside the media.",
        )
    if not {"video", "audio"} & listed.columns.keys():
        raise DataError('has no column "video" and no column "audio"', where=str(dataset), remedy="Name yours with --video-column.")
    every, notes = (listed, ()) if output is None else listed.without_sounds()
    listed, excluded = every.without_excluded()
    notes = (*notes, *excluded)
    page = _Texts(listed) if output is None or write_rows is None else _File(listed, every, output, write_rows, overwrite)
    wanted = [index for index in page.indices if overwrite or not page.has(index)]
    client = model.client()
    problems = list(listed.problems)
    if wanted:
        client.meet(asking.frames)

    def work(index: int) -> str:
        row = listed.rows[index]
        return _cleaned(client.ask(list(_parts(listed, row, listed.role(row), asking, client))))

    done = 0
    with bars(progress) as phase, closing(as_done(work, wanted, workers)) as results:
        step = phase("captions", len(wanted))
        for index, result in results:
            if isinstance(result, ConfigError):
                raise result
            if isinstance(result, LtxError):
                row = listed.rows[index]
                problems += [_told(problem, listed, row) for problem in result.problems]
            else:
                page.write(index, result)
                done += 1
            step()
    page.end()
    return Tally(done, len(page.indices) - len(wanted), tuple(problems), notes)


class _File:
    """The dataset file that captions are written to.

    Args:
        listed: the dataset without the rows that the user excludes.
        every: the dataset with these rows, which the output of an earlier run may have.
        output: the file.
        write: writes rows to the file.
        overwrite: whether to replace existing captions.
    """

    def __init__(
        self, listed: RawDataset, every: RawDataset, output: Path, write: Callable[[Sequence[Mapping[str, Any]]], None], overwrite: bool
    ) -> None:
        self._write, self._column = write, listed.columns.get("caption", "caption")
        self._rows, keys = _moved(listed, output.parent)
        earlier = _earlier(listed.path, output, *_moved(every, output.parent), self._column)
        if not overwrite:
            for row, key in zip(self._rows, keys, strict=True):
                row[self._column] = _captions(row.get(self._column)) or earlier.get(_text(row.get(key))) or ""
        self.indices = range(len(self._rows))
        self._answered = {index for index in self.indices if not overwrite and self._rows[index][self._column]}
        self._is_written = False

    def has(self, index: int) -> bool:
        return bool(self._rows[index][self._column])

    def write(self, index: int, caption: str) -> None:
        self._rows[index][self._column] = caption
        self._answered.add(index)
        self._is_written = True
        self._write([self._rows[each] for each in sorted(self._answered)])

    def end(self) -> None:
        """Write the rows that already had captions, if no answer came."""
        if self._answered and not self._is_written:
            self._write([self._rows[each] for each in sorted(self._answered)])


class _Texts:
    """The text files beside the media of a folder. A clip and a picture with the same name share a text file, which
    describes the clip.
    """

    def __init__(self, listed: RawDataset) -> None:
        self._listed = listed
        first: dict[PurePath, int] = {}
        for index, row in enumerate(listed.rows):
            stem = PurePath(row.file).with_suffix("")
            if stem not in first or listed.kind(listed.rows[first[stem]]) == "image":
                first[stem] = index
        self.indices = sorted(first.values())

    def has(self, index: int) -> bool:
        return bool(self._listed.rows[index].values.get("caption"))

    def write(self, index: int, caption: str) -> None:
        path = self._listed.text_file(self._listed.rows[index])
        try:
            write_whole(path, f"{caption}\n".encode())
        except OSError as error:
            remedy = "Free some space, or write a dataset file elsewhere with --output."
            raise DataError(f"cannot be written: {error.strerror}", where=str(path), remedy=remedy) from error

    def end(self) -> None:
        """Do nothing, since all text files have been written."""


def _moved(listed: RawDataset, to: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the cells of each row for a dataset file in the folder `to`, and the column that names the row's clip."""
    return [listed.moved(row, to) for row in listed.rows], [listed.columns[listed.role(row)] for row in listed.rows]


def _earlier(dataset: Path, output: Path, rows: list[dict[str, Any]], keys: list[str], column: str) -> dict[str, Any]:
    """Return the captions that an earlier run wrote, by clip; `keys` are the columns that name the clip of each row."""
    if not output.is_file():
        return {}
    if dataset.is_file() and output.samefile(dataset):
        what = "the output would overwrite the dataset, without the rows that fail"
        raise ConfigError(what, where=str(output), remedy="Name another file.")
    written, known = open_dataset(output).rows, {_text(row.get(key)) for row, key in zip(rows, keys, strict=True)}
    clips = {next(filter(None, (_text(row.values.get(key)) for key in dict.fromkeys(keys))), ""): row for row in written}
    if not clips.keys() <= known:
        raise ConfigError("already exists, and lists other clips", where=str(output), remedy="Name another file.")
    return {clip: _captions(row.values.get(column)) for clip, row in clips.items()}


def _text(cell: Any) -> str:
    return cell.strip() if isinstance(cell, str) else ""


def _captions(cell: Any) -> str | list[Any]:
    """Return the caption in a cell, or its list of several captions; "" if it has none."""
    return cell if isinstance(cell, list) and cell else _text(cell)


def _cleaned(answer: str) -> str:
    """Return an answer without the model's reasoning at the beginning.

    Raises:
        DataError: the answer is empty, apart from the reasoning.
    """
    text = re.sub(r"^.*</think>", "", answer, flags=re.DOTALL).strip()
    if not text or text.startswith("<think>"):
        raise DataError("the model's answer is empty")
    return " ".join(text.split())


def _parts(listed: RawDataset, row: Row, role: str, asking: Asking, client: Client | LocalClient) -> Iterator[dict[str, Any]]:
    """Yield the parts of a request: the instruction, pictures, and audio.

    Raises:
        DataError: the file cannot be read, or it has audio, which the model does not understand.
    """
    path = listed.file(row, role)
    yield {"type": "text", "text": asking.instruction}
    if role == "video":
        for picture in _pictures(path, asking):
            yield {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_base64(picture)}"}}
    has_sound = "audio" in listed.columns and (not listed.is_folder or "audio" in row.values)
    own = listed.file(row, "audio") if has_sound else path
    if role == "audio" or (asking.sound and probe(own).sound_rate is not None):
        rate = client.sound_rate
        if rate is None:
            remedy = "Leave out --sound, or name a model that understands audio."
            raise DataError("the model does not understand audio", remedy=remedy)
        yield {"type": "input_audio", "input_audio": {"data": _base64(_wav(own, rate)), "format": "wav"}}


def _pictures(path: Path, asking: Asking) -> Iterator[bytes]:
    """Divide a clip into equal parts, and yield the frame in the middle of each part as JPEG."""
    from PIL import Image

    count = probe(path).frames or 1
    parts = min(asking.frames, count)
    chosen = {(2 * part + 1) * count // (2 * parts) for part in range(parts)}
    with open_clip(path) as (_, frames):
        for index, frame in enumerate(frames):
            if index in chosen:
                picture, content = Image.fromarray(frame.numpy()), io.BytesIO()
                picture.thumbnail((asking.size, asking.size))
                picture.save(content, "JPEG", quality=JPEG_QUALITY)
                yield content.getvalue()


def _wav(path: Path, rate: int) -> bytes:
    """Return the first minute of a file's audio as mono WAV."""
    with tempfile.TemporaryDirectory() as folder:
        sound = read_sound(path, max_duration=MOST_SECONDS, rate=rate, mono=True)
        return write_media(Path(folder) / "sound", sound=sound).read_bytes()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _told(problem: Problem, listed: RawDataset, row: Row) -> Problem:
    where = listed.where(row)
    place = problem.where if problem.where != where and problem.where else str(row.values.get(listed.columns[listed.role(row)]))
    return attrs.evolve(problem, where=f"{where}: {place}" if where else place)

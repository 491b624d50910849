"""What the model sees, as a picture: every token of some samples at its place in time, and in the frame, coloured by what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltxcore.errors import DataError
from ltxcore.files import write_whole
from ltxcore.inspection.axis import Axis
from ltxcore.inspection.canvas import LEFT, MARGIN, RIGHT, Canvas
from ltxcore.inspection.colours import COUNTED, FAINT, KEY, mixed, shares
from ltxcore.inspection.counts import Count, counts, tokens_of
from ltxcore.inspection.frames import draw_frames
from ltxcore.inspection.lanes import Lane, appended_lanes, lane_of
from ltxcore.inspection.seen import Seen

DRAWN = 4
"""Samples that are drawn."""

LANE, STRIP = 44, 8
"""Height of a lane, and of the strip below it that says what counts in the loss."""

TALLEST = 12_000


def write_picture(path: Path, seen: Sequence[Seen], title: str) -> None:
    """Write a PNG of the first samples.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        write_whole(path, picture(seen, title))
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(path), remedy="Make room, or name another file.") from error


def picture(seen: Sequence[Seen], title: str) -> bytes:
    """A PNG of the first samples, one of each micro-batch before the second of any."""
    every = [(index, each) for each in seen for index in range(len(each.micro_batch.names))]
    chosen = sorted(every, key=lambda pair: pair[0])[:DRAWN]
    canvas = Canvas.of_height(TALLEST)
    canvas.text(MARGIN, canvas.y, title, size=30)
    if len(every) > len(chosen):
        canvas.text(RIGHT, canvas.y + 10, f"{len(chosen)} of {len(every)} samples", colour=FAINT, anchor="ra")
    canvas.y += 56
    _draw_key(canvas)
    for index, each in chosen:
        _draw_sample(canvas, each, index)
    return canvas.png()


def _draw_key(canvas: Canvas) -> None:
    x = float(MARGIN)
    for name, low, high in KEY:
        for column in range(30):
            canvas.box(x + column, canvas.y, x + column + 1, canvas.y + 22, mixed(low, high, column / 29))
        x = canvas.text(x + 38, canvas.y, name) + 32
    canvas.box(x, canvas.y + 8, x + 30, canvas.y + 8 + STRIP, COUNTED)
    canvas.text(x + 38, canvas.y, "counts in the loss: the thicker, the more of it")
    canvas.y += 34
    said = "Noise: generated tokens have the timestep sigma, a token of which a is given (1 - a) x sigma, all others 0."
    canvas.text(MARGIN, canvas.y, said, size=17, colour=FAINT)
    canvas.y += 38


def _draw_sample(canvas: Canvas, seen: Seen, index: int) -> None:
    name = seen.micro_batch.names[index]
    canvas.line(MARGIN, canvas.y, RIGHT, canvas.y)
    end = canvas.text(MARGIN, canvas.y + 14, name, size=25)
    part = f", micro-batch {seen.part} of {seen.parts}" if seen.parts > 1 else ""
    canvas.text(end + 18, canvas.y + 20, f"step {seen.step}{part}", size=18, colour=FAINT)
    canvas.y += 60
    told = {count.modality: count for count in counts(seen) if count.sample == name}
    lanes = {modality: _lanes(seen, modality, index) for modality in seen.inputs}
    axis = Axis.over([lane.seconds for each in lanes.values() for _, lane in each])
    for modality, each in lanes.items():
        canvas.text(LEFT, canvas.y, sentence(told[modality]), size=18, colour=FAINT)
        canvas.y += 28
        for title, lane in each:
            _draw_lane(canvas, axis, title, lane, title != modality)
    axis.draw(canvas)
    for modality, each in lanes.items():
        for title, lane in each:
            draw_frames(canvas, lane, title, title != modality)
    canvas.y += 14


def _lanes(seen: Seen, modality: str, index: int) -> list[tuple[str, Lane]]:
    """The target and what was appended to it, each with its name."""
    tokens = tokens_of(seen.inputs[modality], index)
    appended = appended_lanes(tokens.appended)
    names = ["appended"] if len(appended) == 1 else [f"appended {number}" for number in range(1, len(appended) + 1)]
    return [(modality, lane_of(tokens.target)), *zip(names, appended, strict=True)]


def _draw_lane(canvas: Canvas, axis: Axis, title: str, lane: Lane, appended: bool) -> None:
    top = canvas.y
    canvas.text(LEFT - 16, top + LANE / 2, title, anchor="rm")
    for slot in lane.slots:
        left, right = axis.at(slot.start), axis.at(slot.end)
        right -= 1 if right - left >= 4 else 0
        bottom = float(top + LANE)
        for colour, share in shares(slot.tokens, appended):
            canvas.box(left, bottom - share * LANE, right, bottom, colour)
            bottom -= share * LANE
        counted = float(slot.tokens.counted.float().mean())
        if counted:
            canvas.box(left, top + LANE + 3, right, top + LANE + 3 + max(2.0, STRIP * counted), COUNTED)
    canvas.y += LANE + STRIP + 16


def sentence(count: Count) -> str:
    """A modality in a line."""
    numbers = ((count.generated, "generated"), (count.given, "given"), (count.partly, "given in part"), (count.appended, "appended"))
    parts = [f"{number} {what if count.is_generated or what == 'appended' else 'frozen'}" for number, what in numbers if number]
    marked = f"; marked: {count.marked}" if count.marked else ""
    told = f"{', '.join(parts)}{marked}; in the loss: {count.in_loss}; sigma: {count.sigma:.3f}"
    applied = ", ".join(key.rpartition(".")[2] for key in count.conditions)
    return f"Tokens: {told}" + (f"; conditions: {applied}" if applied else "")

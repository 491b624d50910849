"""The frames of a video lane, cell by cell."""

from __future__ import annotations

from ltxcore.inspection.canvas import LEFT, RIGHT, Canvas
from ltxcore.inspection.colours import FAINT, LINE, colours_of
from ltxcore.inspection.lanes import Lane, Slot

HEIGHT = 120
WIDEST = 260
GAP = 14
LEAST = 5
"""Cells of at least so many pixels have a white line between them."""


def draw_frames(canvas: Canvas, lane: Lane, name: str, appended: bool) -> None:
    """Latent frames side by side: all, or as many as fit, evenly chosen, the first and the last among them."""
    if lane.size is None:
        return
    rows, columns = lane.size
    scale = min(HEIGHT / rows, WIDEST / columns)
    width, height = columns * scale, rows * scale
    chosen = evenly(len(lane.slots), int((RIGHT - LEFT + GAP) // (max(width, 86) + GAP)))
    top = canvas.y
    canvas.text(LEFT - 16, top, name, anchor="ra")
    canvas.text(LEFT - 16, top + 27, f"{columns:.0f} x {rows:.0f} px", size=16, colour=FAINT, anchor="ra")
    if len(chosen) < len(lane.slots):
        canvas.text(LEFT - 16, top + 49, f"{len(chosen)} of {len(lane.slots)}", size=16, colour=FAINT, anchor="ra")
    for place, number in enumerate(chosen):
        slot = lane.slots[number]
        left = LEFT + place * (max(width, 86) + GAP)
        canvas.box(left, top, left + width, top + height, LINE)
        _draw_cells(canvas, slot, (left, top), scale, appended)
        canvas.text(left, top + height + 4, f"{slot.start:.2f} to {slot.end:.2f} s", size=14, colour=FAINT)
    canvas.y += max(round(height), 66) + 34


def _draw_cells(canvas: Canvas, slot: Slot, corner: tuple[float, float], scale: float, appended: bool) -> None:
    x, y = corner
    for (top, left, bottom, right), colour in zip(slot.boxes, colours_of(slot.tokens, appended), strict=True):
        gap = 1 if min(right - left, bottom - top) * scale >= LEAST else 0
        canvas.box(x + left * scale, y + top * scale, x + right * scale - gap, y + bottom * scale - gap, colour)


def evenly(number: int, most: int) -> list[int]:
    """Indices below `number`: all of them, or `most` evenly spaced ones with the first and the last."""
    if number <= most:
        return list(range(number))
    if most < 2:
        return [0]
    return [round(place * (number - 1) / (most - 1)) for place in range(most)]

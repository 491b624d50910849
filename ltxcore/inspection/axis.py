"""Time, from left to right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

from ltxcore.inspection.canvas import LEFT, RIGHT, Canvas
from ltxcore.inspection.colours import FAINT

TICKS = 9
"""About as many numbers stand on an axis."""


@attrs.frozen
class Axis:
    """Seconds from `start` to `end`, drawn between LEFT and RIGHT."""

    start: float
    end: float

    @classmethod
    def over(cls, spans: Sequence[tuple[float, float]]) -> Axis:
        """An axis that shows all of these."""
        start, end = min(span[0] for span in spans), max(span[1] for span in spans)
        return cls(start, end if end > start else start + 1.0)

    def at(self, seconds: float) -> float:
        """Where a moment is drawn."""
        return LEFT + (RIGHT - LEFT) * (seconds - self.start) / (self.end - self.start)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Round moments, and how they are written."""
        raw = (self.end - self.start) / TICKS
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        for number in range(math.ceil(self.start / step - 1e-9), math.floor(self.end / step + 1e-9) + 1):
            yield number * step, f"{number * step:.{digits}f}"

    def draw(self, canvas: Canvas) -> None:
        """The axis below what was drawn last."""
        top = canvas.y
        canvas.line(LEFT, top, RIGHT, top, FAINT)
        for seconds, written in self.ticks():
            x = self.at(seconds)
            canvas.line(x, top, x, top + 6, FAINT)
            canvas.text(x, top + 9, written, size=17, colour=FAINT, anchor="ma")
        canvas.text(LEFT - 28, top + 9, "seconds", size=17, colour=FAINT, anchor="ra")
        canvas.y += 48

"""What draws the samples of a run: whether its codecs and its text encoder can be had, known from headers."""

from __future__ import annotations

from ltxcore.codecs.source import Codecs
from ltxcore.errors import ConfigError, Problem, collecting
from ltxcore.runs.run_plan import Outline


def drawing_problems(found: Outline) -> tuple[Problem, ...]:
    """Why samples of `[validation]`, or clips of the data where there are none, cannot be drawn. Codecs that are not there stop no run that names no samples."""
    codecs = Codecs.of(found.config.model, device="cpu")
    names = found.modalities.union(*(sample.canvas.request.modalities for sample in found.samples))
    wanted = [codecs.video] if "video" in names else []
    makers = [*wanted, *([codecs.audio] if "audio" in names else []), *([codecs.text] if found.samples else [])]
    problems: list[Problem] = []
    for make in makers:
        mine: list[Problem] = []
        with collecting(mine):
            try:
                make()
            except ConfigError:
                if found.samples:
                    raise
        problems += mine
    return tuple(dict.fromkeys(problems))

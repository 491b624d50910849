"""Curves as numbers for the templates: paths, ticks, a sentence that says what they show, and a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

from ltxcore.api.runs import Record, Scale, Series, binned, short_number, smoothed

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 26
FEW = 24
"""A curve of at most this many points is drawn with a dot for each point, and never smoothed."""

ROWS = 12
"""The maximum number of rows of the table beside a chart."""

HELD_OUT = "held_out/own_context/"


@attrs.frozen
class Curve:
    """A line of a chart: its label, its values, and the half width of the interval around each value, if that is known."""

    label: str
    series: Series
    half: Series = attrs.field(factory=Series)


@attrs.frozen
class Line:
    """A curve as it is drawn: paths of SVG, and dots."""

    label: str
    colour: str
    path: str
    faint: str
    band: str
    dots: tuple[tuple[float, float], ...]


@attrs.frozen
class Chart:
    """A chart.

    Attributes:
        title: the heading of the chart.
        unit: the unit of the values.
        summary: a description of the chart in sentences.
        lines: the curves.
        across: the ticks along the axis of steps, each with its position and text.
        up: the ticks along the axis of values.
        rows: the rows of a table: some of the steps, each with the value of every curve as text.
    """

    title: str
    unit: str
    summary: str
    lines: tuple[Line, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT


def chart(title: str, unit: str, curves: Sequence[Curve], *, log: bool = False, smooth: bool = True) -> Chart | None:
    """Draw curves; None if there is nothing to draw.

    Args:
        title: the heading.
        unit: the unit of the values; "" for none.
        curves: the curves; empty ones are left out.
        log: whether the values are drawn on a logarithmic scale, which leaves out values that are not above 0.
        smooth: whether long curves are drawn smoothed, on top of the measured values.
    """
    kept = [(curve, _above_zero(curve.series) if log else curve.series) for curve in curves]
    drawn = [(curve, binned(series)) for curve, series in kept if len(series)]
    if not drawn:
        return None
    steps = [step for _, series in drawn for step in series.steps]
    x = Scale(min(steps), max(max(steps), min(steps) + 1), LEFT, WIDTH - RIGHT)
    spread = [value for curve, series in drawn for value in _range(curve, series, smooth)]
    spread = [value for value in spread if value > 0] if log else spread
    turn = math.log10 if log else float
    low, high = turn(min(spread)), turn(max(spread))
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    y = Scale(low if low == 0 else low - room, high + room, HEIGHT - BOTTOM, TOP)

    def place(step: float, value: float) -> tuple[float, float]:
        at = y(turn(value)) if not log or value > 0 else HEIGHT - BOTTOM
        return round(x(step), 1), round(min(max(at, TOP), HEIGHT - BOTTOM), 1)

    lines = []
    for index, (curve, series) in enumerate(drawn):
        points = [place(step, value) for step, value in zip(series.steps, series.values, strict=True)]
        even = smooth and len(series) > FEW
        soft = [place(step, value) for step, value in zip(series.steps, smoothed(series).values, strict=True)] if even else points
        dots = tuple(points) if len(series) <= FEW else ()
        lines.append(Line(curve.label, f"c{index % 6}", _path(soft), _path(points) if even else "", _band(curve, place), dots))
    across = tuple((round(x(value), 1), f"{value:,.0f}") for value in x.ticks(6) if value == int(value))
    up = tuple((round(y(value), 1), short_number(10**value if log else value)) for value in y.ticks(5))
    summary = " ".join(_said(curve) for curve, _ in drawn)
    return Chart(title, unit, summary, tuple(lines), across, up, _table([curve for curve, _ in drawn]))


def charts_of(record: Record, *, log: bool = False, smooth: bool = True) -> list[Chart]:
    """Return the charts of a run: losses by modality, validation losses with intervals, learning rate, and seconds of a step."""
    return overlaid({"": record}, log=log, smooth=smooth)


def overlaid(records: Mapping[str, Record], *, log: bool = False, smooth: bool = True) -> list[Chart]:
    """Return the charts of several runs, each curve in one chart with the same curve of the others.

    Args:
        records: the runs by their labels. The label of a single run is "".
        log: whether losses are drawn on a logarithmic scale.
        smooth: whether long curves are smoothed.
    """
    several = len(records) > 1
    found: list[Chart | None] = []

    def label(run: str, what: str) -> str:
        return run if several else what

    groups = [_training(records[run]) for run in records]
    names = list(dict.fromkeys(name for group in groups for name in group))
    if several:
        for name in names:
            curves = [Curve(run, group[name]) for run, group in zip(records, groups, strict=True) if name in group]
            found.append(chart(f"Training loss: {name}" if name != "loss" else "Training loss", "", curves, log=log, smooth=smooth))
    else:
        found += [chart("Training loss", "", [Curve(name, group[name]) for name in group], log=log, smooth=smooth) for group in groups]
    validation = {run: _validation(record) for run, record in records.items()}
    modalities = list(dict.fromkeys(name for own in validation.values() for name in own))
    if several:
        for name in modalities:
            curves = [attrs.evolve(own[name], label=run) for run, own in validation.items() if name in own]
            found.append(chart(f"Validation loss: {name}", "", curves, log=log, smooth=False))
    else:
        found += [chart("Validation loss", "", list(own.values()), log=log, smooth=False) for own in validation.values()]
    for name, title, unit in (
        ("learning_rate", "Learning rate", ""),
        ("step_seconds", "Seconds of a step", "s"),
        ("peak_memory_gib", "Peak memory", "GiB"),
    ):
        curves = [Curve(label(run, title), record.series.get(name, Series())) for run, record in records.items()]
        found.append(chart(title, unit, curves, smooth=smooth and name == "step_seconds"))
    return [each for each in found if each is not None]


def _training(record: Record) -> dict[str, Series]:
    """Return the training losses: of each modality if there are several, else the loss."""
    own = {
        name.removeprefix("loss/"): series for name, series in record.series.items() if name.startswith("loss/") and name.count("/") == 1
    }
    return own or ({"loss": record.series["loss"]} if "loss" in record.series else {})


def _validation(record: Record) -> dict[str, Curve]:
    """Return the validation loss of each modality, as the mean over its noise levels. The interval is the mean of theirs, which is not
    smaller than the interval of the mean.
    """
    found: dict[str, list[str]] = {}
    for name in record.series:
        parts = name.removeprefix(HELD_OUT).split("/")
        if name.startswith(HELD_OUT) and len(parts) == 2:
            found.setdefault(parts[0], []).append(name)
    return {
        modality: Curve(modality, _mean(record, names), _mean(record, [f"half_width_95/{name}" for name in names]))
        for modality, names in found.items()
    }


def validation_rows(record: Record) -> list[tuple[str, str, float, float | None]]:
    """Return the last validation losses: the modality, the noise level, the loss, and the half width of its 95 % interval."""
    found = []
    for name, series in sorted(record.series.items()):
        parts = name.removeprefix(HELD_OUT).split("/")
        if name.startswith(HELD_OUT) and len(parts) == 2:
            half = record.series.get(f"half_width_95/{name}", Series())
            same = len(half) and half.steps[-1] == series.steps[-1]
            found.append((parts[0], parts[1].removeprefix("sigma_"), series.values[-1], half.values[-1] if same else None))
    return found


def _mean(record: Record, names: Sequence[str]) -> Series:
    tables = [dict(zip(series.steps, series.values, strict=True)) for name in names if (series := record.series.get(name)) is not None]
    if len(tables) < len(names) or not tables:
        return Series()
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return Series(tuple(steps), tuple(math.fsum(table[step] for table in tables) / len(tables) for step in steps))


def _above_zero(series: Series) -> Series:
    pairs = [(step, value) for step, value in zip(series.steps, series.values, strict=True) if value > 0]
    return Series(tuple(step for step, _ in pairs), tuple(value for _, value in pairs))


def _range(curve: Curve, series: Series, smooth: bool) -> list[float]:
    """Return values that the chart must hold: nearly all of a long curve, so that a rare spike does not flatten the rest."""
    ordered = sorted(series.values)
    if len(ordered) <= FEW:
        halves = dict(zip(curve.half.steps, curve.half.values, strict=True))
        ends = [
            (value - halves.get(step, 0.0), value + halves.get(step, 0.0)) for step, value in zip(series.steps, series.values, strict=True)
        ]
        return [each for pair in ends for each in pair]
    shares = [ordered[int(share * (len(ordered) - 1))] for share in (0.01, 0.99)]
    return [*shares, *(smoothed(series).values if smooth else (series.values[0], series.values[-1]))]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _band(curve: Curve, place: object) -> str:
    """Return the outline of the intervals; "" if there are fewer than two."""
    assert callable(place)
    halves = dict(zip(curve.half.steps, curve.half.values, strict=True))
    known = [(step, value, halves[step]) for step, value in zip(curve.series.steps, curve.series.values, strict=True) if step in halves]
    if len(known) < 2:
        return ""
    over = [place(step, value + half) for step, value, half in known]
    under = [place(step, value - half) for step, value, half in reversed(known)]
    return _path([*over, *under]) + "Z"


def _said(curve: Curve) -> str:
    series = curve.series
    first, last = series.values[0], series.values[-1]
    lowest = min(range(len(series)), key=lambda index: series.values[index])
    if len(series) == 1:
        return f"{curve.label}: {short_number(first)} at step {series.steps[0]:,}."
    return (
        f"{curve.label}: {short_number(first)} at step {series.steps[0]:,}, {short_number(last)} at step {series.steps[-1]:,}, "
        f"lowest {short_number(series.values[lowest])} at step {series.steps[lowest]:,}."
    )


def _table(curves: Sequence[Curve]) -> tuple[tuple[int, tuple[str, ...]], ...]:
    steps = sorted({step for curve in curves for step in curve.series.steps})
    chosen = steps if len(steps) <= ROWS else [steps[round(index * (len(steps) - 1) / (ROWS - 1))] for index in range(ROWS)]
    tables = [
        (
            dict(zip(curve.series.steps, curve.series.values, strict=True)),
            dict(zip(curve.half.steps, curve.half.values, strict=True)),
        )
        for curve in curves
    ]
    return tuple(
        (
            step,
            tuple(
                (short_number(values[step]) + (f" ± {short_number(halves[step])}" if step in halves else "")) if step in values else "–"
                for values, halves in tables
            ),
        )
        for step in chosen
    )

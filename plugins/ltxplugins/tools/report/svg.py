"""Draw curves as SVG. They are complete without the script, which only adds the numbers under the pointer."""

from __future__ import annotations

from collections.abc import Sequence

from ltxcore.api.runs import Scale, Series, binned, short_number, smoothed
from ltxplugins.tools.report.markup import Markup, data, joined, tag
from ltxplugins.tools.report.plots import SEQUENCE, Line, Plot

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 10, 26
FEW = 24
"""If no curve of a plot has more points than this, the curves are not smoothed, and each point is a dot."""

SEQUENCES = {1: (3,), 2: (1, 3), 3: (0, 2, 3)}
"""The colors to use, by the number of curves, as indices into the four ordered colors."""


def figure(plot: Plot) -> Markup:
    """Return a plot with its title, legend, curves, and the numbers for the script."""
    drawn = [(line, binned(line.series)) for line in plot.lines]
    steps = [step for _, series in drawn for step in series.steps]
    x = Scale(min(steps), max(max(steps), min(steps) + 1), LEFT, WIDTH - RIGHT)
    y = Scale(*_range([series for _, series in drawn], plot.from_zero), HEIGHT - BOTTOM, TOP)
    colours = _colours(plot)
    few = all(len(series) <= FEW for _, series in drawn)
    curves = [_curve(series, x, y, colour, few) for (_, series), colour in zip(drawn, colours, strict=True)]
    name = f"{plot.title}: {', '.join(line.label for line in plot.lines)}"
    picture = tag(
        "svg",
        _axes(x, y),
        tag("g", *curves, class_="curves"),
        tag("line", class_="cross", x1=0, x2=0, y1=TOP, y2=HEIGHT - BOTTOM),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=name,
    )
    title = tag("h3", plot.title, tag("small", plot.unit) if plot.unit else None)
    # In a valid page, the caption is the first or last child of a figure.
    return tag(
        "figure", title, _legend(plot.lines, colours), picture, _numbers(drawn, x, y, few), tag("figcaption", plot.note), class_="plot"
    )


def spark(series: Series, mark_from: float) -> Markup:
    """Return a small curve without axes, in which the part after step `mark_from` is highlighted."""
    series = smoothed(binned(series, 200))
    if len(series) < 2:
        return Markup("")
    x, y = Scale(series.steps[0], series.steps[-1], 2, 298), Scale(*_range([series], False), 62, 4)
    marked = x(max(mark_from, series.steps[0]))
    return tag(
        "svg",
        tag("rect", x=f"{marked:.1f}", y=0, width=f"{298 - marked:.1f}", height=66, class_="marked"),
        tag("path", d=_path(series, x, y), class_="smooth c0", vector_effect="non-scaling-stroke"),
        viewBox="0 0 300 66",
        preserveAspectRatio="none",
        class_="spark",
        role="img",
        aria_label="training loss over the steps, the last quarter marked",
    )


def _colours(plot: Plot) -> list[str]:
    if plot.colours == SEQUENCE:
        chosen = SEQUENCES.get(len(plot.lines), (0, 1, 2, 3))
        return [f"s{chosen[index % len(chosen)]}" for index in range(len(plot.lines))]
    return [f"c{index % 6}" for index in range(len(plot.lines))]


def _range(all_series: Sequence[Series], from_zero: bool) -> tuple[float, float]:
    """Return the range of the axis. It covers the smoothed curves and nearly all single values, so that a rare spike
    does not flatten the rest of the plot.
    """
    values = [value for series in all_series for value in smoothed(series).values]
    for series in all_series:
        ordered = sorted(series.values)
        values += [ordered[int(share * (len(ordered) - 1))] for share in (0.02, 0.98)] if len(ordered) > FEW else ordered
    low, high = min(values), max(values)
    if from_zero or 0 <= low < 0.35 * high:
        low = min(low, 0.0)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (low if low == 0 else low - room), high + room


def _curve(series: Series, x: Scale, y: Scale, colour: str, few: bool) -> Markup:
    if few:
        dots = [tag("circle", cx=f"{x(s):.1f}", cy=f"{y(v):.1f}", r=3.5) for s, v in zip(series.steps, series.values, strict=True)]
        return tag("g", tag("path", d=_path(series, x, y), class_="smooth"), *dots, class_=f"curve {colour}")
    raw = tag("path", d=_path(series, x, y), class_="raw")
    return tag("g", raw, tag("path", d=_path(smoothed(series), x, y), class_="smooth"), class_=f"curve {colour}")


def _path(series: Series, x: Scale, y: Scale) -> str:
    """Return the path of a curve, limited to the height of the picture."""
    ends = sorted((y.start, y.end))
    places = [f"{x(s):.1f} {min(max(y(v), ends[0]), ends[1]):.1f}" for s, v in zip(series.steps, series.values, strict=True)]
    return "M" + "L".join(places)


def _axes(x: Scale, y: Scale) -> Markup:
    lines = [
        joined(
            [
                tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y(value):.1f}", y2=f"{y(value):.1f}"),
                tag("text", short_number(value), x=LEFT - 7, y=f"{y(value) + 3.5:.1f}", text_anchor="end"),
            ]
        )
        for value in y.ticks(5)
    ]
    below = [
        tag("text", f"{value:,.0f}", x=f"{x(value):.1f}", y=HEIGHT - 8, text_anchor="middle" if x(value) < WIDTH - 30 else "end")
        for value in x.ticks(6)
        if value == int(value)
    ]
    return tag("g", *lines, *below, class_="axes")


def _legend(lines: Sequence[Line], colours: Sequence[str]) -> Markup | None:
    if len(lines) == 1:
        return None
    entries = [
        tag("button", tag("i", class_=colour), line.label, type="button", aria_pressed="true", data_line=index)
        for index, (line, colour) in enumerate(zip(lines, colours, strict=True))
    ]
    return tag("div", *entries, class_="legend")


def _numbers(drawn: Sequence[tuple[Line, Series]], x: Scale, y: Scale, few: bool) -> Markup:
    shown = [(line, series if few else smoothed(series)) for line, series in drawn]
    lines = [
        {"label": line.label, "steps": series.steps, "values": [float(f"{value:.5g}") for value in series.values]} for line, series in shown
    ]
    return data({"x": [x.low, x.high, x.start, x.end], "y": [y.low, y.high, y.start, y.end], "lines": lines})

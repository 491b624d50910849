"""Choose the plots that a page shows, and the curves in each plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from ltxcore.api import MODALITIES
from ltxcore.api.runs import Record, Series
from ltxplugins.tools.report.answers import OF_AVERAGE, OWN, objectives

SEQUENCE = "sequence"
"""The name of the colors that go from light to dark, for curves that have an order."""


@attrs.frozen
class Line:
    """A curve, with its name in the legend and its points."""

    label: str
    series: Series


@attrs.frozen
class Plot:
    """A plot of curves.

    Attributes:
        title: the title.
        note: a sentence that says how to read the plot.
        lines: the curves.
        unit: the unit of the values.
        from_zero: whether the axis always begins at 0.
        colours: "" for clearly different colors, or SEQUENCE.
    """

    title: str
    note: str
    lines: Sequence[Line]
    unit: str = ""
    from_zero: bool = False
    colours: str = ""


def plots_of(record: Record) -> list[Plot]:
    """Return all plots that have at least one point, in the order of the page."""
    all_of_them = [
        *_losses(record),
        *_by_objective(record),
        *_held_out(record),
        *_held_out_by_objective(record),
        *_by_sigma(record),
        *_by_condition(record),
        *_by_set(record),
        *_of_the_optimizer(record),
        *_of_the_machine(record),
    ]
    kept = (attrs.evolve(plot, lines=[line for line in plot.lines if len(line.series)]) for plot in all_of_them)
    return [plot for plot in kept if plot.lines]


def generated(record: Record) -> list[str]:
    """Return the modalities that have a loss."""
    return [name for name in _parts(record) if name in MODALITIES]


def _parts(record: Record) -> list[str]:
    """Return the modalities and the objectives that have a loss."""
    names = [name.split("/") for name in record.series if name.startswith("loss/")]
    return list(dict.fromkeys(parts[1] for parts in names if len(parts) == 2))


def _line(record: Record, label: str, name: str) -> Line:
    return Line(label, record.series.get(name, Series()))


def _losses(record: Record) -> Iterator[Plot]:
    modalities = generated(record)
    lines = [_line(record, "total", "loss")]
    if len(modalities) > 1:
        lines += [_line(record, name, f"loss/{name}") for name in modalities]
    note = "Faint: single steps, which vary with the noise levels drawn. Bold: the mean over neighbouring steps."
    yield Plot("Training loss", note, lines)


def _by_objective(record: Record) -> Iterator[Plot]:
    names = [name for name in _parts(record) if name not in MODALITIES]
    note = "Each with its weight, in the steps in which it was learned: the training loss is their sum."
    yield Plot("Training loss by objective", note, [_line(record, name, f"loss/{name}") for name in names])


def _held_out(record: Record) -> Iterator[Plot]:
    prefix = f"held_out/{OWN}/"
    names = [name.removeprefix(prefix) for name in record.series if name.startswith(prefix)]
    for modality in generated(record):
        own = sorted(name for name in names if name.startswith(f"{modality}/") and name.count("/") == 1)
        for kind, title, note in (
            ("", "Validation loss", "On clips that are never trained on, always with the same noise: the number to watch."),
            (OF_AVERAGE, "Validation loss of the averaged weights", "On the same clips with the same noise."),
        ):
            lines = [_line(record, name.rpartition("/")[2].replace("_", " "), kind + prefix + name) for name in own]
            yield Plot(f"{title}, {modality}", note, lines, colours=SEQUENCE)


def _held_out_by_objective(record: Record) -> Iterator[Plot]:
    for objective in objectives(record):
        prefix = f"held_out/{objective}/"
        names = sorted(name for name in record.series if name.startswith(prefix) and name.count("/") == 3)
        lines = [_line(record, name.removeprefix(prefix).replace("/", ", ").replace("_", " "), name) for name in names]
        note = "Its own loss, without its weight, on clips that are never trained on."
        yield Plot(f"Validation loss of {objective}", note, lines, colours=SEQUENCE)


def _by_sigma(record: Record) -> Iterator[Plot]:
    for modality in generated(record):
        prefix = f"loss/{modality}/sigma_"
        names = sorted(name for name in record.series if name.startswith(prefix))
        lines = [_line(record, "sigma " + name.removeprefix(prefix).replace("-", " to "), name) for name in names]
        yield Plot(
            f"Training loss by noise level, {modality}",
            "Noise levels (sigmas) range from nearly clean (0) to pure noise (1).",
            lines,
            colours=SEQUENCE,
        )


def _by_condition(record: Record) -> Iterator[Plot]:
    for modality in generated(record):
        prefix = f"loss/{modality}/"
        names = [name.removeprefix(prefix) for name in record.series if name.startswith(prefix)]
        ours = sorted(name for name in names if name.endswith(("/applied", "/not_applied")))
        lines = [_line(record, condition_label(name), prefix + name) for name in ours]
        yield Plot(
            f"Training loss by condition, {modality}",
            "Samples to which a condition was applied, compared with those to which it was not.",
            lines,
        )


def _by_set(record: Record) -> Iterator[Plot]:
    for modality in generated(record):
        prefix = f"loss/{modality}/{OF_SET}"
        names = sorted(name for name in record.series if name.startswith(prefix))
        lines = [_line(record, name.removeprefix(prefix), name) for name in names]
        yield Plot(f"Training loss by set, {modality}", "The samples of each set in data.sets.", lines)


OF_SET = "set_"
"""The prefix of the last part of the name of a set's loss, as in "loss/video/set_photos"."""


def condition_label(name: str) -> str:
    """Return the name of a condition's series in words: "video.cond1.first_frame/not_applied" becomes "first_frame on video (2), not
    applied". The name of the loss of a set, "set_photos", becomes "photos".
    """
    if name.startswith(OF_SET):
        return name.removeprefix(OF_SET)
    key, _, applied = name.rpartition("/")
    modality, _, rest = key.partition(".cond")
    number, _, kind = rest.partition(".")
    if not kind:  # caption dropout of all modalities or of one
        modality, _, kind = key.rpartition(".")
    modality, _, choice = modality.partition(".")  # of a condition in a list of a choice: "choice0.list1"
    place = f"{kind} on {modality}" if modality else kind
    count = f" ({int(number) + 1})" if number.isdecimal() and int(number) else ""
    within = f", {choice.replace('choice', 'choice ').replace('.list', ', list ')}" if choice else ""
    return f"{place}{count}{within}, {applied.replace('_', ' ')}"


def _of_the_optimizer(record: Record) -> Iterator[Plot]:
    groups = sorted(name for name in record.series if name.startswith("learning_rate/"))
    rates = [_line(record, name.removeprefix("learning_rate/"), name) for name in groups]
    yield Plot(
        "Learning rate", "Learning rate of each optimizer step.", [_line(record, "learning rate", "learning_rate"), *rates], from_zero=True
    )
    yield Plot("Gradient norm", "Norm before clipping.", [_line(record, "gradient norm", "grad_norm")], from_zero=True)
    for modality in generated(record):
        series = record.series.get(f"uncounted/{modality}", Series())
        if any(series.values):
            note = "Everything in these samples was given, so nothing was learned from them."
            yield Plot(f"Share of samples without a counted token, {modality}", note, [Line("share", series)], from_zero=True)


def _of_the_machine(record: Record) -> Iterator[Plot]:
    seconds = "Seconds per optimizer step, including all its micro-batches."
    yield Plot("Time per step", seconds, [_line(record, "time per step", "step_seconds")], "seconds", from_zero=True)
    yield Plot("Tokens per second", "All processes together.", [_line(record, "tokens per second", "tokens_per_second")], from_zero=True)
    yield Plot(
        "Peak memory", "Of the process that uses the most memory.", [_line(record, "peak memory", "peak_memory_gib")], "GiB", from_zero=True
    )

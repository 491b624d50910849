"""Answer two questions from the numbers of a run, with evidence: did it learn, and is it still learning?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import attrs

from ltxcore.api.runs import Record, Series
from ltxplugins.tools.report.series import error_of_mean, mean

OWN, OTHER = "own_context", "other_context"
"""The names of validation losses in `metrics.jsonl` with a clip's own context and with another clip's. They are the
same as in `train.conditioning_swap`, which is not imported here because it needs torch and a page does not.
"""

OF_AVERAGE = "ema/"
"""The prefix of the names of metrics that were measured with the averaged weights."""

Tone = Literal["good", "fair", "bad", "none"]

CLEAR, FAINT = 0.05, 0.01
"""The shares by which a loss must fall to count as clearly fallen, and as fallen at all."""

FEWEST = 40
"""The minimum number of steps for a statement about a trend."""

HOLD_OUT = "Set held_out under [data] to measure the next run on clips that it never trains on."

SURE = 2.0
"""The number of standard errors at which a difference counts."""


@attrs.frozen
class Bar:
    """A loss to show as a bar beside other losses, with its label."""

    label: str
    value: float
    kind: Literal["before", "after", "other"]


@attrs.frozen
class Answer:
    """An answer in one or two words, with the evidence and, by modality, the losses to show."""

    word: str
    reason: str
    tone: Tone
    bars: Mapping[str, Sequence[Bar]] = attrs.field(factory=dict)


@attrs.frozen
class Measured:
    """The validation losses of a modality. Each loss is a mean over the measured sigmas.

    Attributes:
        modality: the generated modality.
        own: the losses with a clip's own context, over the steps.
        other: the loss with another clip's context after the last step; None if it was not measured.
        parts: the factor by which the loss is higher with one part of the context from another clip, by the name of the
            part: text, given, frozen, references.
    """

    modality: str
    own: Series
    other: float | None
    parts: Mapping[str, float]


def held_out(record: Record) -> list[Measured]:
    """Return the validation losses of every generated modality."""
    found = []
    prefix = f"held_out/{OWN}/"
    names = [name.removeprefix(prefix).split("/") for name in record.series if name.startswith(prefix)]
    for modality in dict.fromkeys(parts[0] for parts in names if len(parts) == 2):
        sigmas = tuple(sorted(parts[1] for parts in names if len(parts) == 2 and parts[0] == modality))
        own = _averaged([record.series[f"{prefix}{modality}/{sigma}"] for sigma in sigmas])
        others = [record.series[key] for sigma in sigmas if (key := f"held_out/{OTHER}/{modality}/{sigma}") in record.series]
        other = _averaged(others) if len(others) == len(sigmas) else Series()
        found.append(Measured(modality, own, other.values[-1] if len(other) else None, dict(_parts(record, modality))))
    return found


def objectives(record: Record) -> list[str]:
    """Return the objectives whose own losses were measured on held-out clips."""
    names = dict.fromkeys(name.split("/")[1] for name in record.series if name.startswith("held_out/"))
    return [name for name in names if name != OWN and not name.startswith("other_")]


def _parts(record: Record, modality: str) -> Iterator[tuple[str, float]]:
    """Yield, for each part of the context, the factor by which the loss is higher if this part comes from another clip.
    It is the inverse of the measured ratio, which is the loss in the clip's own context divided by the loss with the
    other clip's part, both taken over the clips that have the part.
    """
    for name, series in record.series.items():
        match name.split("/"):
            case ["held_out_ratio", context, of, _] if context.startswith("other_") and context != OTHER and of == modality:
                if series.values[-1] > 0:
                    yield context.removeprefix("other_"), 1 / series.values[-1]


def _averaged(series: Sequence[Series]) -> Series:
    """Return the mean of several series at the steps that they all have."""
    tables = [dict(zip(each.steps, each.values, strict=True)) for each in series]
    steps = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    return Series(tuple(steps), tuple(mean([table[step] for table in tables]) for step in steps))


# ---------------------------------------------------------------- did it learn


def learned(record: Record) -> Answer:
    """Answer whether the validation loss fell. Without held-out clips, this is not known."""
    measured = [each for each in held_out(record) if len(each.own) > 1]
    if not measured:
        return _learned_by_training(record)
    falls = {each.modality: 1 - each.own.values[-1] / each.own.values[0] for each in measured if each.own.values[0] > 0}
    worst = min(falls.values(), default=0.0)
    word, tone = _word(worst)
    clips = int(record.series[f"held_out/{OWN}/clips"].values[-1]) if f"held_out/{OWN}/clips" in record.series else 0
    said = ", and ".join(f"{_changed(fall)} on {name}" if len(falls) > 1 else _changed(fall) for name, fall in falls.items())
    sentences = [f"On {clips} held-out clips, which it never trained on, the loss {said}.", _listens(measured), _overfitted(measured)]
    return Answer(word, " ".join(filter(None, sentences)), tone, {each.modality: _bars(each) for each in measured})


def _word(fall: float) -> tuple[str, Tone]:
    if fall >= CLEAR:
        return "Yes", "good"
    if fall >= FAINT:
        return "A little", "fair"
    return ("Not measurably", "fair") if fall > -FAINT else ("No, it got worse", "bad")


def _changed(fall: float) -> str:
    return f"fell by {fall:.0%}" if fall >= 0.005 else f"rose by {-fall:.0%}" if fall <= -0.005 else "stayed the same"


def _bars(measured: Measured) -> list[Bar]:
    bars = [Bar("before", measured.own.values[0], "before"), Bar("after", measured.own.values[-1], "after")]
    return bars if measured.other is None else [*bars, Bar("with another clip's conditioning", measured.other, "other")]


def _listens(measured: Sequence[Measured]) -> str:
    """Say whether the model uses its context. A model that ignores text, references and given parts has the same loss
    with those of another clip.
    """
    ratios = [each.other / each.own.values[-1] for each in measured if each.other is not None and each.own.values[-1] > 0]
    if not ratios:
        return ""
    if min(ratios) <= 1 + FAINT:
        return "With the conditioning of another clip the loss is about the same: the model hardly uses its conditioning."
    parts = [f"{part} {times:.2g}" for each in measured for part, times in sorted(each.parts.items())] if len(measured) == 1 else []
    alone = f" (one at a time: {', '.join(parts)})" if len(parts) > 1 else ""
    return f"With the conditioning of another clip it is {min(ratios):.1f} times as high{alone}: the model uses its conditioning."


def _overfitted(measured: Sequence[Measured]) -> str:
    for each in measured:
        lowest = min(range(len(each.own)), key=lambda index: each.own.values[index])
        rise = each.own.values[-1] / each.own.values[lowest] - 1 if each.own.values[lowest] > 0 else 0.0
        if 0 < lowest < len(each.own) - 1 and rise > FAINT:
            return f"It was lowest at step {each.own.steps[lowest]:,} and has risen by {rise:.0%} since: use fewer steps, or more data."
    return ""


def _learned_by_training(record: Record) -> Answer:
    """Report the training loss. It is no evidence of learning, since it also falls if the model only memorizes."""
    loss, why = record.series.get("loss", Series()), _why_none(record)
    if len(loss) < FEWEST:
        return Answer("Not known", f"{why}, and there are too few steps to tell how the training loss changed. {HOLD_OUT}", "none")
    tenth = max(len(loss) // 10, 10)
    first, last = loss.values[:tenth], loss.values[-tenth:]
    fall = 1 - mean(last) / mean(first) if mean(first) > 0 else 0.0
    by_chance = abs(mean(first) - mean(last)) <= SURE * math.hypot(error_of_mean(first), error_of_mean(last))
    said = f"{_changed(fall)}{', which may be chance,' if by_chance else ''}"
    reason = f"{why}. The training loss {said} from the first tenth of the steps to the last: this may be memorization. {HOLD_OUT}"
    return Answer("Not known", reason, "none", {"training": [Bar("before", mean(first), "before"), Bar("after", mean(last), "after")]})


def _why_none(record: Record) -> str:
    data = record.status.get("data")
    why = data.get("why_none_held_out") if isinstance(data, Mapping) else ""
    return f"Nothing was held out, since {why}" if why else "Nothing was held out"


# ---------------------------------------------------------------- is it still learning


def still_learning(record: Record) -> Answer:
    """Answer whether the training loss is lower in the last quarter of the steps than in the quarter before."""
    last = record.last_step
    trend = quarter_change(record, last)
    if trend is None:
        return Answer("Not known", f"There are too few steps to tell ({last:,}).", "none")
    fall, error = trend
    said = f"In the last quarter of the steps the training loss was {abs(fall):.1%} (± {SURE * error:.1%}) {'below' if fall > 0 else 'above'} that of the quarter before"
    rate = _rate(record)
    if abs(fall) <= SURE * error or abs(fall) < 0.005:
        return Answer("Not measurably", f"{said}: too small to distinguish from chance. {rate}".strip(), "fair")
    if fall < 0:
        return Answer("No, it is rising", f"{said}. A lower learning rate may help. {rate}".strip(), "bad")
    return Answer("Yes", f"{said}. More steps are likely to help. {rate}".strip(), "good")


def _rate(record: Record) -> str:
    rates = record.series.get("learning_rate", Series()).values
    if len(rates) < 2 or max(rates) <= 0 or rates[-1] > 0.1 * max(rates):
        return ""
    return f"The learning rate had decayed to {rates[-1] / max(rates):.1%} of its peak, so train longer in a new run, with a schedule of that length."


def quarter_change(record: Record, last: int) -> tuple[float, float] | None:
    """Return the share by which the loss fell from the third quarter of the steps to the fourth, with its standard
    error; None if there are too few steps.

    Most of the noise in the loss comes from the drawn sigmas. Therefore a mean is taken in every sigma bucket, and all
    buckets count equally. If m is the mean of the bucket means of a quarter, and e is its standard error, the share is
    1 - m4 / m3, and its error is sqrt(e3^2 + e4^2) / m3.
    """
    if last < FEWEST:
        return None
    buckets = [
        series for name, series in record.series.items() if name.startswith("loss/") and name.rpartition("/")[2].startswith("sigma_")
    ]
    parts = buckets or [record.series.get("loss", Series())]
    quarters = [[part.between(last * begin / 4, last * (begin + 1) / 4).values for part in parts] for begin in (2, 3)]
    usable = [pair for pair in zip(*quarters, strict=True) if min(map(len, pair)) > 4]
    if not usable:
        return None
    means = [mean([mean(pair[index]) for pair in usable]) for index in (0, 1)]
    errors = [math.sqrt(math.fsum(error_of_mean(pair[index]) ** 2 for pair in usable)) / len(usable) for index in (0, 1)]
    return (1 - means[1] / means[0], math.hypot(*errors) / means[0]) if means[0] > 0 else None

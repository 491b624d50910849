"""Write the first screen of the page: did the run learn, is it still learning, what does it produce, how is the result
used?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ltxcore.api.runs import Drawn, Record, Series, short_number
from ltxplugins.tools.report.answers import Answer, Bar, learned, still_learning
from ltxplugins.tools.report.markup import Markup, joined, tag
from ltxplugins.tools.report.media import Shelf
from ltxplugins.tools.report.svg import spark
from ltxplugins.tools.report.usage import Use, uses

SHOWN = 1
"""The number of samples on the first screen. All samples are shown further down."""


def first_screen(record: Record, shelf: Shelf) -> Markup:
    answer = learned(record)
    return tag(
        "section",
        _card("Did it learn?", answer, _bars(answer)),
        _card("Is it still learning?", still_learning(record), _trend(record)),
        _produced(record, shelf),
        _used(uses(record)),
        class_="answers",
        id="answers",
    )


def _card(question: str, answer: Answer, picture: Markup | None) -> Markup:
    return tag(
        "article", tag("h2", question), tag("p", answer.word, class_=f"word {answer.tone}"), picture, tag("p", answer.reason), class_="card"
    )


def _bars(answer: Answer) -> Markup | None:
    """Draw losses as bars, scaled so that the longest bar is as wide as the card."""
    longest = max((bar.value for bars in answer.bars.values() for bar in bars), default=0.0)
    if longest <= 0:
        return None
    several = len(answer.bars) > 1
    rows = [_bar(bar, longest, f"{name}, " if several else "") for name, bars in answer.bars.items() for bar in bars]
    return tag("table", *rows, class_="bars")


def _bar(bar: Bar, longest: float, prefix: str) -> Markup:
    width = max(bar.value / longest * 100, 0.5)
    drawn = tag("rect", x=0, y=0, height=10, rx=2, width=f"{width:.1f}", class_=bar.kind)
    picture = tag("svg", drawn, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")
    return tag(
        "tr",
        tag("th", prefix + bar.label, scope="row"),
        tag("td", picture),
        tag("td", short_number(float(f"{bar.value:.3g}")), class_="number"),
    )


def _trend(record: Record) -> Markup:
    return spark(record.series.get("loss", Series()), record.last_step * 3 / 4)


# ---------------------------------------------------------------- what it produces


def _produced(record: Record, shelf: Shelf) -> Markup:
    names = list(dict.fromkeys(sample.name for sample in record.drawn))
    shown = [_beside([sample for sample in record.drawn if sample.name == name], shelf) for name in names[:SHOWN]]
    if not names:
        said = tag("p", "No samples were generated.", class_="word none")
    elif len(names) > SHOWN:
        said = tag("p", f"{names[0]}. ", tag("a", f"All {len(names)} samples", href="#samples"))
    else:
        said = tag("p", names[0])
    return tag("article", tag("h2", "What does it generate?"), *shown, said, class_="card produced")


def _beside(drawn: Sequence[Drawn], shelf: Shelf) -> Markup:
    """Show the first and the last generation of a sample beside its original."""
    first, last = drawn[0], drawn[-1]
    files: dict[str, Path] = {}
    if first.step != last.step:
        files[f"step {first.step:,}"] = first.path
    files[f"step {last.step:,}"] = last.path
    if last.original is not None:
        files["original"] = last.original
    return beside(files, last.name, shelf)


def beside(files: Mapping[str, Path], name: str, shelf: Shelf) -> Markup:
    """Show media in a row, each with a label."""
    shown = ((label, shelf.player(path, f"{name}, {label}")) for label, path in files.items())
    cells = [tag("figure", player, tag("figcaption", label)) for label, player in shown if player is not None]
    return tag("div", *cells, class_="beside")


# ---------------------------------------------------------------- how it is used


def _used(found: Sequence[Use]) -> Markup:
    entries = [
        tag(
            "details",
            tag("summary", use.program),
            tag("p", use.how) if use.how else None,
            tag("pre", tag("code", use.code), tag("button", "Copy", type="button", class_="copy")) if use.code else None,
            open=index == 0,
            name="use",
        )
        for index, use in enumerate(found)
    ]
    return tag("article", tag("h2", "How do I use it?"), joined(entries), class_="card")

"""List the captions of a dataset with a summary of them, and change them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

import attrs
import click

from ltxcore.api import DataError, Problem
from ltxcore.api.dataset import (
    Caption,
    CaptionEdit,
    Captions,
    before_and_after,
    captions_stopped,
    finish_captions,
    open_dataset,
    without_opening,
)
from ltxcore.api.sources import printable

MOST = 8
"""The maximum number of words, and of openings, in a summary."""

OPENING = 3
"""The number of words in an opening."""

SHORT = 4
"""The minimum number of letters in a word that is counted; shorter words occur in all captions."""


@attrs.frozen
class Chosen:
    """The criteria for the samples that the user wants to see or change."""

    search: re.Pattern[str] | None = None
    without: re.Pattern[str] | None = None
    empty: bool = False
    longer: int | None = None
    shorter: int | None = None

    def __call__(self, sample: Caption) -> bool:
        caption = sample.caption or ""
        return (
            (self.search is None or self.search.search(caption) is not None)
            and (self.without is None or self.without.search(caption) is None)
            and (not self.empty or sample.is_empty)
            and (self.longer is None or sample.words > self.longer)
            and (self.shorter is None or sample.words < self.shorter)
        )


def show(dataset: Path, column: str | None, chosen: Chosen, *, local: Iterable[Path] = ()) -> None:
    """Print the captions of the chosen samples, and a summary of them. The dataset may be read by a source in one of the Python files
    `local`.

    Raises:
        DataError: the dataset cannot be read, or has captions that are not text.
    """
    _tell_of_stopped(dataset)
    captions = _read(dataset, column, local)
    samples = captions.all
    found = [sample for sample in samples if chosen(sample)]
    for sample in found:
        if sample.caption is None:
            click.echo(f"{printable(sample.name)}: {click.style('no caption', fg='yellow')}")
        else:
            click.echo(f"{printable(sample.name)} ({_count(sample.words, 'word')}): {_in_a_line(sample.caption)}")
    if found:
        click.echo()
    total = _count(len(samples), "sample" if all(sample.part is None for sample in samples) else "caption")
    click.echo(total if chosen == Chosen() else f"{len(found)} of {total}")
    for line in _summary(found):
        click.echo(line)
    _raise(captions.problems)


def change(dataset: Path, column: str | None, chosen: Chosen, edit: CaptionEdit, *, write: bool, local: Iterable[Path] = ()) -> None:
    """Change the captions of the chosen samples, or only print what would change. The dataset may be read by a source in one of the
    Python files `local`.

    Raises:
        DataError: the dataset cannot be read, has captions that are not text, or its captions cannot be written.
        PluginError: the source of the dataset fails.
    """
    what = _as_told(chosen, edit, column)
    if not write:
        _tell_of_stopped(dataset)
    elif (end := finish_captions(dataset)) is not None:
        click.echo(f"Finished the change that was stopped: {_count(end.files, 'file')} written.")
        if end.what == what:
            return
    captions = _read(dataset, column, local)
    found = [sample for sample in captions.all if chosen(sample)]
    changes = {sample: new for sample in found if (new := captions.edited(sample, edit)) is not None}
    files = captions.files(changes)
    for sample, new in changes.items() if not write else ():
        before, after = before_and_after(sample.caption or "", new)
        click.echo(f"{printable(sample.name)}\n  {click.style(f'- {_in_a_line(before)}', fg='red')}")
        click.echo(f"  {click.style(f'+ {_in_a_line(after)}', fg='green')}")
    if write and files:
        captions.write(changes, what)
    for line in _told(found, changes, len(files), write=write):
        click.echo(line)
    if write and files:
        from ltxcore.api.dataset import default_root

        root = default_root(dataset) / "conditions"
        encoded = f"{root.parent} holds features of the old captions; the" if root.is_dir() else "The"
        click.echo(f"{encoded} next `ltx preprocess` or `ltx run` encodes the changed captions.")
    _raise(captions.problems)


def _as_told(chosen: Chosen, edit: CaptionEdit, column: str | None) -> str:
    """Return a text that is the same only for the same change of the same captions."""

    def plain(instance: object, attribute: object, value: object) -> object:
        return (value.pattern, value.flags) if isinstance(value, re.Pattern) else value

    return repr((column, attrs.asdict(chosen, value_serializer=plain), attrs.asdict(edit, value_serializer=plain)))


def _read(dataset: Path, column: str | None, local: Iterable[Path]) -> Captions:
    return Captions.of(open_dataset(dataset, {"caption": column}, local=local))


def _told(found: Sequence[Caption], changes: dict[Caption, str], files: int, *, write: bool) -> Iterator[str]:
    """Yield how many captions change, and how many do not."""
    empty, emptied = sum(sample.is_empty for sample in found), sum(not new.strip() for new in changes.values())
    kept = len(found) - len(changes) - empty
    parts = [
        f"{kept} {'stays as it is' if kept == 1 else 'stay as they are'}" if kept else "",
        f"{empty} without a caption {'is' if empty == 1 else 'are'} left out" if empty else "",
    ]
    told = ", ".join(filter(None, [f"{_count(len(changes), 'caption')} {'changed' if write else 'would change'}", *parts]))
    yield f"{told} ({_count(files, 'file')})" if files else told
    if emptied:
        yield f"{_count(emptied, 'caption')} {'became' if write else 'would become'} empty"
    if files and not write:
        yield "Nothing was written; --write saves these changes."


def _summary(samples: Sequence[Caption]) -> Iterator[str]:
    """Yield the lines of a summary of captions."""
    full = [sample for sample in samples if not sample.is_empty]
    captions = [sample.caption or "" for sample in full]
    lacking, empty = sum(sample.caption is None for sample in samples), len(samples) - len(full)
    if empty:
        yield f"Without a caption: {lacking}; with an empty one: {empty - lacking}"
    if not full:
        return
    words = [sample.words for sample in full]
    yield f"Words in a caption: {min(words)} to {max(words)}, median {median(words):g}"
    same = Counter(" ".join(caption.split()) for caption in captions)
    repeated = {caption: number for caption, number in same.items() if number > 1}
    if repeated:
        yield f"Duplicates: {sum(repeated.values())} captions share {_count(len(repeated), 'text')}"
    openings = Counter(" ".join(caption.split()[:OPENING]) for caption in captions)
    yield from _most("Openings", openings)
    yield from _most("Words in the most captions", Counter(word for caption in captions for word in _words(caption)))
    stock = sum(without_opening(caption) != caption for caption in captions)
    if stock:
        yield f"Stock phrases at the beginning: {stock}, which --strip-openings removes"


def _words(caption: str) -> Collection[str]:
    return {word for word in re.findall(r"\w+", caption.lower()) if len(word) >= SHORT}


def _most(what: str, counts: dict[str, int]) -> Iterator[str]:
    """Yield a line with the most frequent texts, if any text occurs more than once."""
    most = sorted(((text, number) for text, number in counts.items() if number > 1), key=lambda pair: (-pair[1], pair[0]))[:MOST]
    if most:
        told = ", ".join(f'"{text}" {number}' for text, number in most)
        yield f"{what}: {told}"


def _tell_of_stopped(dataset: Path) -> None:
    if captions_stopped(dataset):
        click.echo("A change of these captions was stopped before its end; the same command with --write finishes it.\n", err=True)


def _raise(problems: Sequence[Problem]) -> None:
    if problems:
        raise DataError.of(problems)


def _in_a_line(caption: str) -> str:
    return caption.replace("\r", "").replace("\n", "\\n")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

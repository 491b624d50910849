"""The command `ltx captions`, which lists, searches and changes the captions of a dataset."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ltxcore.api.commands import FilePath, plugin_option


@click.command()
@click.argument("dataset", type=FilePath())
@click.option("--search", metavar="TEXT", help="Only captions that contain this text.")
@click.option("--without", metavar="TEXT", help="Only captions that do not contain this text.")
@click.option("--empty", is_flag=True, help="Only samples with an empty caption, or with none.")
@click.option("--longer", type=click.IntRange(min=0), metavar="N", help="Only captions of more than N words.")
@click.option("--shorter", type=click.IntRange(min=1), metavar="N", help="Only captions of fewer than N words.")
@click.option("--replace", nargs=2, multiple=True, metavar="OLD NEW", help="Replace one text with another; may be repeated.")
@click.option("--strip-openings", is_flag=True, help='Remove stock phrases such as "The video shows" from the beginning.')
@click.option("--prefix", default="", metavar="TEXT", help="Put a text, exactly as given, before captions that do not begin with it.")
@click.option("--suffix", default="", metavar="TEXT", help="Put a text, exactly as given, after captions that do not end with it.")
@click.option("--regex", is_flag=True, help=r"Read TEXT and OLD as regular expressions; \1 in NEW is the first group.")
@click.option("-i", "--ignore-case", is_flag=True, help="Find text in upper and lower case alike.")
@click.option("--write", is_flag=True, help="Save the changes, which are otherwise only shown.")
@plugin_option("sources")
@click.option("--caption-column", metavar="NAME", help="Column of the caption; by default caption, or a common name such as text.")
def captions(
    dataset: Path,
    search: str | None,
    without: str | None,
    empty: bool,
    longer: int | None,
    shorter: int | None,
    replace: tuple[tuple[str, str], ...],
    strip_openings: bool,
    prefix: str,
    suffix: str,
    regex: bool,
    ignore_case: bool,
    write: bool,
    plugins: tuple[Path, ...],
    caption_column: str | None,
) -> None:
    """List, search or change the captions of DATASET, a dataset file or a folder.

    Without a change, the captions and a summary of them are shown. With --replace, --strip-openings, --prefix or --suffix, which are
    applied in this order, every change is shown with the caption before and after it; --write saves the changes where the captions came
    from. If saving is stopped, the same command finishes it. Captions that are empty are never changed.
    """
    from ltxcore.api.dataset import CaptionEdit
    from ltxplugins.tools.captions.captions import Chosen, change, show

    for option, text in (("search", search), ("without", without), *(("replace", old) for old, _ in replace)):
        if text == "":
            raise click.UsageError(f"--{option} needs a text to find.")
    texts = [search or "", without or "", prefix, suffix, *(text for pair in replace for text in pair)]
    if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
        raise click.UsageError("A text on the command line is not UTF-8.")
    flags = re.IGNORECASE if ignore_case else re.NOFLAG

    def pattern(option: str, text: str) -> re.Pattern[str]:
        try:
            return re.compile(text if regex else re.escape(text), flags)
        except re.error as error:
            raise click.UsageError(f'--{option}: "{text}" is not a regular expression: {error}.') from None

    def replacement(old: str, new: str) -> tuple[re.Pattern[str], str]:
        found, template = pattern("replace", old), new if regex else new.replace("\\", r"\\")
        try:
            found.sub(template, "")
        except (re.error, IndexError) as error:
            raise click.UsageError(f'--replace: "{new}" cannot replace "{old}": {error}.') from None
        return found, template

    chosen = Chosen(
        None if search is None else pattern("search", search),
        None if without is None else pattern("without", without),
        empty,
        longer,
        shorter,
    )
    edit = CaptionEdit(strip_openings, tuple(replacement(old, new) for old, new in replace), prefix, suffix)
    if edit != CaptionEdit():
        change(dataset, caption_column, chosen, edit, write=write, local=plugins)
    elif write:
        raise click.UsageError("--write needs a change: --replace, --strip-openings, --prefix or --suffix.")
    else:
        show(dataset, caption_column, chosen, local=plugins)

"""Check a dataset (a file or a folder) and its raw media by the rules of preprocessing, and check the samples that have
already been encoded from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import DataError
from ltxcore.api.commands import in_order
from ltxcore.api.dataset import PreprocessingTable, survey_dataset
from ltxcore.api.models import Codecs
from ltxplugins.tools.doctor.captions import examine_captions
from ltxplugins.tools.doctor.findings import Checkup, Finding, Phase
from ltxplugins.tools.doctor.masks import examine_cells, examine_masks
from ltxplugins.tools.doctor.pictures import different_rates, examine_pictures, same_clips
from ltxplugins.tools.doctor.sounds import examine_sounds

if TYPE_CHECKING:
    from ltxcore.api.dataset import Planned, Survey


@attrs.frozen(eq=False)
class Request:
    """The settings for examining a dataset.

    Attributes:
        options: the options of preprocessing.
        codecs: the codecs that will encode the dataset; None if they are not known, in which case the latent grid of
            all LTX-2 models is assumed.
        root: the folder where the encoded samples are or will be.
        folders: the folders that a run reads; None for all folders that the dataset's columns can make.
        where: a function that returns the place of a key in the run file, for messages.
        deep: whether to decode all frames that are used.
        workers: the number of samples to examine at a time.
    """

    options: PreprocessingTable
    codecs: Codecs | None
    root: Path
    folders: Collection[str] | None = None
    where: Callable[[str], str] = str
    deep: bool = False
    workers: int = 1


def examine_dataset(path: Path, request: Request, checkup: Checkup, phase: Phase) -> Survey | None:
    """Examine the rows and media of a dataset, and return the survey; None if there are no rows to examine.

    Raises:
        ConfigError: the options do not fit the codec.
    """
    from ltxcore.api.dataset import survey_media

    try:
        data, problems = survey_dataset(path, request.options, request.folders, request.root)
    except DataError as error:
        checkup.refuse("dataset", error.problems)
        return None
    checkup.refuse("dataset", problems)
    checkup.refuse("dataset", data.left_out, "warning")
    found = survey_media(data, request.root, request.options, request.codecs, request.workers, phase, request.where)
    for note in (*data.notes, *found.notes):
        checkup.say(f"{note}.")
    if "conditions" in data.folders:
        begin = [words.strip() for words in (request.options.lora_trigger, request.options.caption_prefix) if words]
        checkup.add(examine_captions(data.samples, " ".join(begin), found.text_length))
    unread = {sample.name: found.unreadable(sample) for sample in data.samples}
    checkup.refuse("unreadable", [problem for problems in unread.values() for problem in problems])
    checkup.refuse("no-sound", [] if found.silent is None else [found.silent])
    checkup.refuse("sizes", [] if found.sizeless is None else found.sizeless.problems)
    unusable = [problem for each in found.refused if not unread.get(each.sample.name) for problem in each.problems]
    # If the user chose to leave such samples out, they are no errors as long as other samples remain.
    checkup.refuse("unusable", unusable, "warning" if found.leaves_out else "error")
    checkup.add(different_rates(found))
    checkup.add(same_clips(found, phase("copies", len(data.samples))))
    _media(found, request, checkup, phase)
    _tell(found, request, checkup)
    return found


def _media(found: Survey, request: Request, checkup: Checkup, phase: Phase) -> None:
    """Find faults that only decoding reveals, in the samples that can be encoded."""
    step = phase("media", len(found.planned))

    def examine(each: Planned) -> list[Finding]:
        wrong = [
            *examine_pictures(each, found, deep=request.deep),
            *examine_sounds(each, found),
            *([*examine_masks(each, found), *examine_cells(each, found)] if found.has_sizes or each.bucket is None else ()),
        ]
        step()
        return wrong

    for wrong in in_order(examine, found.planned, request.workers):
        checkup.add(wrong)


def _tell(found: Survey, request: Request, checkup: Checkup) -> None:
    """Say what was examined, and how thoroughly."""
    data, folders = found.encoding.data, found.encoding.rules.folders
    rows = _count(len({sample.origin for sample in data.samples}), "file" if data.is_folder else "row")
    checkup.say(f"{data.path}: {rows} without errors, for {', '.join(sorted(folders)) or 'nothing'}.")
    decoded = "every frame that is used" if request.deep else "the first frame"
    more = "" if request.deep else " (--deep decodes all that are used)"
    checkup.say(
        f"{_count(found.opened, 'media file')}: opened; {decoded} of each clip was decoded{more}, and so were the parts of sounds and masks that are used."
    )
    if request.codecs is None:
        checkup.say("Sizes were checked for all LTX-2 models, because no --model-path was given.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

"""The samples that musubi-tuner generates in training; their prompts are lines of a text file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ltxplugins.tools.convert.kinds import Kind, Wrong, number, path, text, truth, whole
from ltxplugins.tools.convert.media import Sample, fitted, put_samples
from ltxplugins.tools.convert.reading import UNSET, Log, Old
from ltxplugins.tools.convert.second_file import text_at
from ltxplugins.tools.convert.settings import Settings
from ltxplugins.tools.convert.tree import Scalar

WIDTH, HEIGHT, FRAMES = 768, 512, 121
"""Its defaults."""

OPTION = re.compile(r"\s--(\w+)\s+")

SHARED: Mapping[str, tuple[str, Kind]] = {
    "n": ("negative_prompt", text),
    "s": ("inference_steps", whole),
    "l": ("video_cfg_scale", number),
    "g": ("video_cfg_scale", number),
}
"""The keys for options of a line that all samples share in a run file, and the kinds of their values, by the letter of the option."""


def put_sampling(to: Settings, old: Old) -> None:
    """Write how samples are generated, and the samples."""
    every = old.get("sample_every_n_steps", whole, null=UNSET)
    if every is not UNSET:
        to.put("validation.interval", every)
    to.put("validation.skip_initial_validation", old.get("sample_at_first", truth, null=UNSET) is not True)
    width, height, count = (old.get(name, whole, null=UNSET) for name in ("width", "height", "sample_num_frames"))
    size = (WIDTH if width is UNSET else width, HEIGHT if height is UNSET else height, FRAMES if count is UNSET else count)
    to.put("validation.video_dims", fitted(to, old, "width", size))
    named = old.get("sample_prompts", path, null=UNSET)
    if named is UNSET:
        return
    read = text_at(to, old, "sample_prompts", named, "write [[validation.samples]].", "validation.")
    if read is None:
        return
    if named.suffix.lower() in (".toml", ".json"):
        to.note(old, "sample_prompts", "is not kept: only prompts in a text file are read. Write [[validation.samples]].", "validation.")
        return
    lines, log = read
    shared: dict[str, Any] = {}
    put_samples(to, Old(old.table, "", log), "", list(_samples(to, lines, log, size, shared)))
    for key, value in shared.items():
        if key not in to.run.table("validation").keys:
            to.put(f"validation.{key}", value)


def _samples(to: Settings, lines: str, log: Log, size: tuple[int, int, int], shared: dict[str, Any]) -> Iterator[Sample]:
    """Yield the sample of each line; the values that all samples share in a run file are added to `shared`, by their keys."""
    for line, written in enumerate(lines.splitlines(), 1):
        if not written.strip() or written.lstrip().startswith("#"):
            continue
        prompt, *rest = OPTION.split(f" {written.strip()}")
        options = dict(zip(rest[::2], (value.strip() for value in rest[1::2]), strict=True))
        own = {name: int(_read(log, line, number, options.pop(name))) for name in ("w", "h", "f", "d") if name in options}
        image = options.pop("i", None)
        for name, value in options.items():
            key, kind = SHARED.get(name, ("", text))
            found = _read(log, line, kind, value)
            if not key:
                log.remark(to.run.table("validation"), line, f"--{name} {value} is not kept: a sample has no such setting.")
            elif shared.setdefault(key, found) != found:
                log.remark(to.run.table("validation"), line, f"--{name} {value} is not kept: all samples have the value of the first.")
        mine = (own.get("w", size[0]), own.get("h", size[1]), own.get("f", size[2]))
        yield Sample(prompt.strip(), None if mine == size else mine, own.get("d"), None if image is None else Path(image))


def _read(log: Log, line: int, kind: Kind, value: str) -> Any:
    try:
        return kind(Scalar(line, value, value))
    except Wrong as wrong:
        log.problem(line, "an option of a prompt", wrong.what)
        return 0

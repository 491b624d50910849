"""Show that every mode learns: run the run file of each, and write what its losses say into docs/reference/modes.md and the mode's own page.

    python examples/measure_modes.py            # all modes, on two processes: under ten minutes on two free cores
    python examples/measure_modes.py v2a t2a    # only these; the rows of the others stay as they are

Each run file is used as it is, from the tiny base that comes with ltx, on the 120 clips of `examples/media`. The losses are those of the run itself, at noise
level 0.9, on 96 more clips of the same people of the tiny world (its split `held_out`), before training, after it, and after it with one part of what
a clip is denoised with (its text, its given tokens, its frozen modality, its references) taken from another clip. A model that does not use that part is as
good with another clip's.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import attrs
import click

from ltxcore.codecs.source import Codecs
from ltxcore.config.load import load_run
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode.preprocess import preprocess
from ltxcore.new.tiny_world import scenes, write_scene
from ltxcore.train.conditioning_swap import FROZEN, GIVEN, OWN, REFERENCES, TEXT
from ltxcore.train.start_run import run

EXAMPLES = Path(__file__).parent
PAGE = EXAMPLES.parent / "docs" / "reference" / "modes.md"
BEGIN, END = "<!-- made by examples/measure_modes.py -->", "<!-- end -->"
CLIPS = 96
"""Held-out clips: enough that a condition with a probability of 0.5 applies to more than 32 of them."""
SIGMA = "sigma_0.90"
BOUND = 0.85
"""What the loss is at most, as a share of that with another clip's part, where the part settles what is generated."""


WORDS = {"video": "video", "audio": "audio", TEXT: "caption", GIVEN: "given tokens", FROZEN: "frozen modality", REFERENCES: "references"}
"""What the table calls them."""


@attrs.frozen
class Mode:
    """What a mode has to show.

    Attributes:
        generated: modalities.
        part: of a clip's context, which the mode is about: one of `ltxcore.train.conditioning_swap`.
        loosely: modalities whose content the part does not settle: that they use it must show, but not how much.
        applied: key of the condition, where only some clips have it: these are counted.
    """

    generated: tuple[str, ...]
    part: str
    loosely: tuple[str, ...] = ()
    applied: str = ""


BOTH, PICTURE, SOUND = ("video", "audio"), ("video",), ("audio",)
MODES = {
    "t2v": Mode(BOTH, TEXT),
    "t2v_low_vram": Mode(BOTH, TEXT),
    "i2v": Mode(BOTH, GIVEN, loosely=SOUND, applied="video.cond0.first_frame"),  # it says where the tone begins, not how it goes on
    "video_extend": Mode(BOTH, GIVEN),
    "video_suffix": Mode(BOTH, GIVEN),
    "v2v_ic": Mode(PICTURE, REFERENCES),
    "a2v": Mode(PICTURE, FROZEN),
    "v2a": Mode(SOUND, FROZEN),
    "video_inpainting": Mode(BOTH, GIVEN),
    "video_outpainting": Mode(BOTH, GIVEN),
    "t2a": Mode(SOUND, TEXT),
    "audio_extend": Mode(SOUND, GIVEN),
    "audio_suffix": Mode(SOUND, GIVEN),
    "audio_inpainting": Mode(SOUND, GIVEN),
    "a2a_ic": Mode(SOUND, REFERENCES),
    "av2av_ic": Mode(BOTH, REFERENCES),
}


@attrs.frozen
class Mean:
    """A mean over clips, and half the width of its 95 % interval."""

    value: float
    half_width: float

    @classmethod
    def of(cls, metrics: Mapping[str, float], key: str) -> Mean:
        return cls(metrics[key], metrics[f"half_width_95/{key}"])

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.half_width:.3f}"


@attrs.frozen
class Row:
    """What a run showed of a modality.

    Attributes:
        mode: name of its run file.
        modality: generated.
        part: that was another clip's.
        clips: how many were measured.
        base: loss of the base model.
        own: loss after training.
        other: the same, with the part from another clip.
        ratio: `own / other`, of the same clips.
    """

    mode: str
    modality: str
    part: str
    clips: int
    base: Mean
    own: Mean
    other: Mean
    ratio: Mean


def rows(mode: str, before: Mapping[str, float], after: Mapping[str, float]) -> list[Row]:
    """What the metrics of a run say, in the modalities that its mode generates."""
    about = MODES[mode]
    applied = f"/{about.applied}/applied" if about.applied else ""
    other = f"other_{about.part}"
    found = []
    for modality in about.generated:
        own = f"held_out/{OWN}/{modality}/{SIGMA}{applied}"
        means = Mean.of(before, own), Mean.of(after, own), Mean.of(after, f"held_out/{other}/{modality}/{SIGMA}")
        ratio = Mean.of(after, f"held_out_ratio/{other}/{modality}/{SIGMA}")
        found.append(Row(mode, modality, about.part, int(after[f"held_out/{other}/clips"]), *means, ratio))
    return found


def doubts(row: Row) -> list[str]:
    """What a row does not show of what it has to; empty where all is well."""
    about = MODES[row.mode]
    found = []
    if row.clips < 32:
        found.append(f"{row.clips} clips are too few to tell")
    if not row.own.value + row.own.half_width < row.base.value - row.base.half_width:
        found.append(f"loss {row.own} is not below that of the base model, {row.base}")
    if not row.ratio.value + row.ratio.half_width < 1:
        found.append(f"loss {row.own} is not below that with the {WORDS[row.part]} of another clip, {row.other}: ratio {row.ratio}")
    if row.modality not in about.loosely and row.ratio.value > BOUND:
        found.append(f"ratio {row.ratio} is above {BOUND}")
    return [f"{row.mode}, {row.modality}: {each}" for each in found]


# ---------------------------------------------------------------- running


def write_data(folder: Path, clips: int = CLIPS) -> list[str]:
    """Write the held-out clips, and encode them and those of the examples, all that any mode needs; the settings of a run that uses them."""
    held_out = folder / "world" / "held_out.jsonl"
    parts = frozenset({"audio_masks", "video_masks", "references"})
    listed = [json.dumps(write_scene(item, held_out.parent, parts)) for item in scenes("held_out", clips)]
    held_out.write_text("\n".join(listed) + "\n", encoding="utf-8")
    encoded = folder / "encoded"
    options = PreprocessingTable()
    preprocess(EXAMPLES / "media" / "clips.jsonl", encoded, options, Codecs("tiny"), progress=False)
    preprocess(held_out, None, options, Codecs("tiny"), progress=False)
    return [f"data.preprocessed_data_root={encoded}", f"data.held_out={held_out}"]


def measured(mode: str, folder: Path, settings: Sequence[str]) -> tuple[list[Row], float]:
    """Do the run of a mode in a folder; its rows, and the seconds of CPU that it took."""
    loaded = load_run(EXAMPLES / f"{mode}.toml", [f"output_dir={folder / mode}", *settings])
    start = time.process_time()
    logging.getLogger("ltx").setLevel(logging.WARNING)  # no bars of several runs at a time
    outcome = run(loaded)
    return rows(mode, outcome.before, outcome.after), time.process_time() - start


def all_measured(modes: Sequence[str], folder: Path, workers: int = 2) -> Iterator[tuple[list[Row], float]]:
    """Do the runs of these modes, so many at a time, each in its own process; as they end."""
    settings = write_data(folder)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for done in as_completed([pool.submit(measured, mode, folder, settings) for mode in modes]):
            yield done.result()


# ---------------------------------------------------------------- the table

COLUMNS = ("generated", "swapped", "clips", "base model", "after training", "with another clip's", "ratio")
LINE = re.compile(
    r"^\| \[`(\w+)`\]\([^)]*\) \| (video|audio) \| ([\w ]+) \| (\d+) " + r"\| ([\d.]+) ± ([\d.]+) " * 4 + r"\|$", flags=re.MULTILINE
)


def table(found: Sequence[Row], *, named: bool) -> str:
    """The table in Markdown, in the order of MODES; with a column of modes where it is `named`."""
    order = list(MODES)
    lines = [["mode"] * named + list(COLUMNS), ["---"] * (named + len(COLUMNS))]
    for row in sorted(found, key=lambda row: (order.index(row.mode), MODES[row.mode].generated.index(row.modality))):
        link = [f"[`{row.mode}`](../how-to/modes/{row.mode}.md)"] * named
        lines.append([*link, WORDS[row.modality], WORDS[row.part], *map(str, (row.clips, row.base, row.own, row.other, row.ratio))])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_table(text: str) -> list[Row]:
    """The rows of a table with a column of modes, to as many digits as it shows."""
    names = {word: name for name, word in WORDS.items()}
    found = []
    for mode, word, part, clips, *numbers in LINE.findall(text):
        values = list(map(float, numbers))
        means = [Mean(*pair) for pair in zip(values[::2], values[1::2], strict=True)]
        found.append(Row(mode, names[word], names[part], int(clips), *means))
    return found


def with_rows(text: str, made: str) -> str:
    """A page with a table in place of the one that it has."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def write_rows(found: Sequence[Row]) -> None:
    """Write the rows of one mode into the page of all modes, in place of those that it has, and into its own."""
    mode = found[0].mode
    text = PAGE.read_text(encoding="utf-8")
    kept = [row for row in read_table(text) if row.mode != mode]
    PAGE.write_text(with_rows(text, table([*kept, *found], named=True)), encoding="utf-8")
    own = page_of(mode)
    own.write_text(with_rows(own.read_text(encoding="utf-8"), table(found, named=False)), encoding="utf-8")


def page_of(mode: str) -> Path:
    """The how-to of a mode."""
    return EXAMPLES.parent / "docs" / "how-to" / "modes" / f"{mode}.md"


@click.command()
@click.argument("modes", nargs=-1, type=click.Choice(list(MODES)))
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where data and runs are kept.  [default: they are not]")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Runs at a time; each uses one core.")
def main(modes: tuple[str, ...], folder: Path | None, workers: int) -> None:
    """Run modes, all by default, and write their rows of the table."""
    with tempfile.TemporaryDirectory() as temporary:
        found = []
        for each, seconds in all_measured(modes or tuple(MODES), folder or Path(temporary), workers):
            for row in each:
                print(
                    f"{row.mode} {row.modality}: {row.base} -> {row.own}, other {row.part} {row.other}, ratio {row.ratio}  ({seconds:.0f} s)"
                )
            found.extend(each)
            write_rows(each)
    if wrong := [doubt for row in found for doubt in doubts(row)]:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()

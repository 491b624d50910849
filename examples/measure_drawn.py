"""Show what it is for to draw what a LoRA is trained with: lengths of a prefix, conditions, holes, keyframes. For each table, train LoRAs with one setting each
and one that draws, and write what all of them do with every setting into the docs.

    python examples/measure_drawn.py               # all tables: some ten minutes on two free cores
    python examples/measure_drawn.py choices       # only this one

Each is trained on the 120 clips of `examples/media` with a run file of the examples. The losses are those of held-out clips at noise level 0.9, with the
same conditions for all of them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs
import click

from ltxcore.config.load import load_run
from ltxcore.train.conditioning_swap import OWN
from ltxcore.train.start_run import Outcome, run

EXAMPLES = Path(__file__).parent
CONDITIONS = EXAMPLES.parent / "docs" / "conditions"
END = "<!-- end -->"
STEPS = 150


@attrs.frozen
class Table:
    """A table of losses.

    Attributes:
        example: the run file that everything is trained with, but for its conditions.
        modality: the modality that is generated.
        page: the page with the table.
        measured: by the heading of each column, the conditions that the losses are measured with.
        trained: by the name of each row, the settings that a LoRA is trained with. The LoRA that draws is the last one; the others are trained with the
            conditions of one column each, in the order of the columns.
    """

    example: str
    modality: str
    page: Path
    measured: Mapping[str, str]
    trained: Mapping[str, str]

    @property
    def key(self) -> str:
        return f"held_out/{OWN}/{self.modality}/sigma_0.90"


def prefix(length: object) -> str:
    return f"{{ type = 'prefix', temporal_boundary = {length} }}"


def keyframes(candidates: object) -> str:
    return f"{{ type = 'keyframes', keyframes_dir = 'keyframes', candidates = {candidates} }}"


SUFFIX = "{ type = 'suffix', temporal_boundary = 8 }"
MASKS = "{ type = 'mask', mask_dir = 'audio_masks' }"
HOLES = "{ type = 'hole', length = { min = 0.2, max = 0.6 }, start = { min = 0.0, max = 1.0 } }"
ENDS, BETWEEN = "[0, -1]", "[1, 2]"


def conditions(*each: str) -> str:
    return f"conditions=[{', '.join(each)}]"


LENGTHS, FRAMES = (1, 4, 8), (1, 2)
TABLES = MappingProxyType(
    {
        "prefix": Table(
            "audio_extend",
            "audio",
            CONDITIONS / "README.md",
            {f"{length} given": conditions(prefix(length)) for length in LENGTHS},
            {f"only {length}": conditions(prefix(length)) for length in LENGTHS}
            | {"drawn, 1 to 8": conditions(prefix("{ min = 1, max = 8 }"))},
        ),
        "frames": Table(
            "v2v_ic",
            "video",
            CONDITIONS / "README.md",
            {f"{length} given": conditions(prefix(length)) for length in FRAMES},
            {f"only {length}": conditions(prefix(length)) for length in FRAMES}
            | {"drawn, 1 to 2": conditions(prefix("{ min = 1, max = 2 }"))},
        ),
        "choices": Table(
            "audio_extend",
            "audio",
            CONDITIONS / "README.md",
            {"beginning given": conditions(prefix(8)), "end given": conditions(SUFFIX)},
            {
                "only the beginning": conditions(prefix(8)),
                "only the end": conditions(SUFFIX),
                "a choice of both": f"choices=[{{ one_of = [[{prefix(8)}], [{SUFFIX}]] }}]",
            },
        ),
        "holes": Table(
            "audio_inpainting",
            "audio",
            CONDITIONS / "hole.md",
            {"masks": conditions(MASKS), "holes": conditions(HOLES)},
            {"mask files": conditions(MASKS), "drawn holes": conditions(HOLES)},
        ),
        "keyframes": Table(
            "v2v_ic",
            "video",
            CONDITIONS / "keyframes.md",
            {"first and last": conditions(keyframes(ENDS)), "two in between": conditions(keyframes(BETWEEN))},
            {
                "only the first and the last": conditions(keyframes(ENDS)),
                "only two in between": conditions(keyframes(BETWEEN)),
                "drawn": conditions(keyframes(f"{{ one_of = [{ENDS}, {BETWEEN}] }}")),
            },
        ),
    }
)
"""The tables, by the name that stands in their pages."""


@attrs.frozen
class Row:
    """The losses of one LoRA, or of the base, by column."""

    name: str
    losses: tuple[float, ...]

    def __str__(self) -> str:
        return f"| {self.name} | {' | '.join(f'{loss:.3f}' for loss in self.losses)} |"


def ran(folder: Path, name: str, table: Table, setting: str, settings: Sequence[str]) -> Outcome:
    own = [
        f"training_strategy.{table.modality}.conditions=[]",
        f"training_strategy.{table.modality}.{setting}",
        f"output_dir={folder / name}",
        "validation.samples=[]",
        "validation.interval=0",
        "validation.skip_initial_validation=true",
    ]
    return run(load_run(EXAMPLES / f"{table.example}.toml", [*own, *settings]))


def measured(folder: Path, table: Table, settings: Sequence[str] = (), steps: int = STEPS, *, fixed: bool = True) -> Iterator[Row]:
    """Yield the rows: the base, a LoRA for each setting, and the one that draws, which comes last; without those that are `fixed`, only the base and
    the last.
    """

    def losses(name: str, *own: str) -> tuple[float, ...]:
        # The numbers that a run measures before its first step are those of the weights that it begins with.
        begun = [*own, "optimization.steps=1", *settings]
        return tuple(ran(folder, f"{name}_{at}", table, each, begun).before[table.key] for at, each in enumerate(table.measured.values()))

    yield Row("base model", losses("base"))
    for index, (name, setting) in enumerate(table.trained.items()):
        if fixed or index == len(table.trained) - 1:
            lora = ran(folder, f"lora_{index}", table, setting, [f"optimization.steps={steps}", *settings]).weights
            yield Row(name, losses(f"at_{index}", f"model.load_checkpoint={lora}"))


def doubts(table: Table, rows: Sequence[Row]) -> list[str]:
    """Name what drawing is not better than: the base in any column, or another LoRA in a column that it was not trained with."""
    base, *fixed, drawn = rows
    columns = list(table.measured)
    compared = [(base, at) for at in range(len(columns))]
    compared += [(row, at) for own, row in enumerate(fixed) for at in range(len(columns)) if at != own]
    return [f"{row.name} at {columns[at]}" for row, at in compared if drawn.losses[at] >= row.losses[at]]


def shown(table: Table, rows: Sequence[Row]) -> str:
    head = f"| trained with | {' | '.join(table.measured)} |\n|---|{'---|' * len(table.measured)}\n"
    return head + "".join(f"{row}\n" for row in rows)


def begin(name: str) -> str:
    """The line before a table in its page."""
    return f"<!-- made by examples/measure_drawn.py {name} -->"


def write(name: str, page: Path, text: str) -> None:
    """Write a table into its page."""
    before, _, rest = page.read_text().partition(begin(name))
    page.write_text(f"{before}{begin(name)}\n\n{text}\n{END}{rest.partition(END)[2]}")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(TABLES)))
@click.option("--write/--print", "writes", default=True, help="Whether to write the tables into their pages.")
def main(names: tuple[str, ...], writes: bool) -> None:
    """Measure LoRAs that draw beside others; all tables by default."""
    worse = []
    for name in names or TABLES:
        table = TABLES[name]
        with tempfile.TemporaryDirectory() as folder:
            rows = list(measured(Path(folder), table))
        print(shown(table, rows))
        found = doubts(table, rows)
        worse += [f"{name}: {each}" for each in found]
        if writes and not found:
            write(name, table.page, shown(table, rows))
    sys.exit(f"what draws is not better than {', '.join(worse)}" if worse else 0)


if __name__ == "__main__":
    main()

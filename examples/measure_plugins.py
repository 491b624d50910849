"""Show that every adapter, optimizer and schedule learns: train with each on the tiny world, and write the losses into docs/how-to.

    python examples/measure_plugins.py                        # all of them: about ten minutes on two free cores
    python examples/measure_plugins.py optimizer              # all of a kind
    python examples/measure_plugins.py optimizer lion muon    # only these, printed and not written

With each, a LoRA is trained on the sounds of the 120 clips of `examples/media`, from their text, from the tiny base that comes with ltx. The losses are
those of the run itself at noise level 0.9, on its held-out clips, before and after training. What needs a package that is not installed is left out, and the
table says so.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import click
from safetensors import safe_open

from ltxcore.config.load import load_run
from ltxcore.config.packages import lacking
from ltxcore.registry import load
from ltxcore.train.conditioning_swap import OWN
from ltxcore.train.start_run import run

EXAMPLES = Path(__file__).parent
PAGES = EXAMPLES.parent / "docs" / "how-to"
END = "<!-- end -->"
KEY = f"held_out/{OWN}/audio/sigma_0.90"
SEEDS = (1, 2)
STEPS = 100
LEARNED = 0.9
"""What the loss is at most after training, as a share of that before it."""

RATES: Mapping[str, float] = {"lion": 1e-3, "prodigy": 1.0}
"""The learning rates of optimizers for which that of the run file is not meant."""


@attrs.frozen
class Kind:
    """A kind of plugins that learn.

    Attributes:
        name: its name in the registry.
        key: the key of a run file that names one.
        page: the name of the page with its table.
        column: the heading of the table's second column.
    """

    name: str
    key: str
    page: str
    column: str

    @property
    def begin(self) -> str:
        """The line before the table in its page."""
        return f"<!-- made by examples/measure_plugins.py {self.name} -->"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("adapter", "lora.type", "adapters.md", "numbers in the file"),
        Kind("optimizer", "optimization.optimizer_type", "optimizers.md", "learning rate"),
        Kind("schedule", "optimization.scheduler_type", "optimizers.md", "learning rate"),
    )
}


@attrs.frozen
class Row:
    """What the runs with one plugin showed.

    Attributes:
        name: its name.
        about: the cell of the second column.
        before: the losses of the base, by seed, since each seed holds out other clips.
        after: the losses after training, by seed.
    """

    name: str
    about: str
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def has_learned(self) -> bool:
        return all(after <= LEARNED * before for before, after in zip(self.before, self.after, strict=True))

    def __str__(self) -> str:
        spread = f"{min(self.after):.3f} to {max(self.after):.3f}"
        return f"| `{self.name}` | {self.about} | {statistics.mean(self.before):.3f} | {statistics.mean(self.after):.3f} | {spread} |"


def measured(kind: Kind, name: str, folder: Path, seeds: Sequence[int] = SEEDS, settings: Sequence[str] = ()) -> Row:
    """Train with a plugin, once for each seed."""
    before, after, about = [], [], ""
    for seed in seeds:
        own = [f"{kind.key}={name}", f"seed={seed}", "validation.samples=[]", f"output_dir={folder / name / str(seed)}"]
        own += [f"optimization.learning_rate={RATES[name]}"] if name in RATES else []
        loaded = load_run(EXAMPLES / "t2a.toml", [*own, f"optimization.steps={STEPS}", *settings])
        outcome = run(loaded)
        before.append(outcome.before[KEY])
        after.append(outcome.after[KEY])
        if kind.name == "adapter":
            with safe_open(outcome.weights, "pt") as file:
                about = f"{sum(file.get_tensor(key).numel() for key in file.keys()):,}"  # noqa: SIM118
        else:
            about = f"{loaded.config.optimization.learning_rate:g}"
    return Row(name, about, tuple(before), tuple(after))


def left_out(kind: Kind, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the names of plugins that this machine cannot run, and why."""
    for name in names:
        for why, _ in lacking(load(disabled=()).get(kind.name, name).value, name, ""):
            yield name, why.replace(f'"{name}"', f"`{name}`")


def table(kind: Kind, rows: Sequence[Row], skipped: Sequence[str] = ()) -> str:
    head = f"| `{kind.key.partition('.')[2]}` | {kind.column} | before, mean | after, mean | after, by seed |"
    lines = [head, "|---|---|---|---|---|", *map(str, rows)]
    return "".join(f"{line}\n" for line in [*lines, *([f"\nNot measured: {'; '.join(skipped)}."] if skipped else [])])


def write(kind: Kind, text: str, pages: Path = PAGES) -> None:
    """Write a table into its page."""
    page = pages / kind.page
    before, _, rest = page.read_text().partition(kind.begin)
    page.write_text(f"{before}{kind.begin}\n\n{text}\n{END}{rest.partition(END)[2]}")


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)), required=False)
@click.argument("names", nargs=-1)
def main(kind: str | None, names: tuple[str, ...]) -> None:
    """Measure these plugins of a kind, or all of them, or those of all kinds."""
    idle = []
    for each in KINDS.values() if kind is None else [KINDS[kind]]:
        asked = names or list(load(disabled=()).of_kind(each.name))
        skipped = dict(left_out(each, asked))
        with tempfile.TemporaryDirectory() as folder:
            rows = []
            for name in asked:
                if name not in skipped:
                    rows.append(measured(each, name, Path(folder)))
                    print(rows[-1], flush=True)
        made = table(each, rows, list(skipped.values()))
        print(f"\n{made}")
        if not names:
            write(each, made)
        idle += [row.name for row in rows if not row.has_learned]
    sys.exit(f"these have not learned: {', '.join(idle)}" if idle else 0)


if __name__ == "__main__":
    main()

"""docs/reference/run-file.md and commands.md, from the schema and from the program: `python docs/made/reference.py` writes them, and a test compares."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import click

from ltxcore.cli.describe import KEYS, key_rows
from ltxcore.cli.main import main as program
from ltxcore.config.run_file import RunFile
from ltxcore.config.tables import Key, keys_of
from ltxcore.logs import VERBOSITY
from ltxcore.registry import load
from pages import DOCS, _table

RUN_FILE_PAGE = DOCS / "reference" / "run-file.md"
COMMANDS_PAGE = DOCS / "reference" / "commands.md"
MADE = "<!-- made by docs/made/reference.py -->"


ENVIRONMENT = f"`{VERBOSITY}=quiet` or `verbose` in the environment does the same, and also works in the processes that a launcher starts."

OF_PLUGINS = ("training_strategy", "objectives", "trackers")
"""The tables whose keys plugins decide; they have sections of their own."""

OF_CONDITIONS = "samples.conditions."
"""What a sample's conditions are read into; their keys are those of each condition, on its own page."""


def run_file_page() -> str:
    """Every key of a run file, by table."""
    blocks = [
        "# The run file\n",
        f"{MADE}\n",
        "A run file is TOML. Input paths are relative to it, `output_dir` to the working directory. `ltx check run.toml` says what is wrong with one; "
        "`--set table.key=value` overrides a key; the file that a run leaves in its `output_dir` spells out every value. [An editor](../how-to/edit-run-files.md) "
        "completes and checks it with what `ltx schema` prints.\n",
    ]
    keys = keys_of(RunFile)
    plain = [key for key in keys if not _is_table(key) and key.name not in OF_PLUGINS]
    blocks += ["## Keys of the file itself\n", _keys(plain)]
    for key in keys:
        if _is_table(key) and key.name not in OF_PLUGINS:
            blocks += [f"## `[{key.name}]`\n", f"{_about(key)}\n", _keys(keys_of(_table_of(key)))]
            if key.name == "validation":
                blocks.append("The keys of `samples.conditions` are on [a page for each condition](../conditions/README.md).\n")
    blocks += list(_strategies())
    return "\n".join(blocks).rstrip() + "\n"


def _strategies() -> Iterator[str]:
    registry = load(disabled=())
    for kind, head in (
        ("strategy", "[training_strategy]"),
        ("objective", "[[objectives]]"),
        ("sigma_sampler", "[flow_matching.timestep_sampling_params]"),
        ("adapter", "[lora.params]"),
        ("optimizer", "[optimization.optimizer_params]"),
        ("schedule", "[optimization.scheduler_params]"),
        ("source", "[preprocessing.source_params]"),
        ("column", "[preprocessing.columns.NAME]"),
        ("quantizer", "[acceleration.quantization_params]"),
        ("tracker", "[trackers.NAME]"),
    ):
        yield f"## `{head}`\n"
        for name, named in sorted(registry.of_kind(kind).items()):
            if named.origin.distribution == "ltx":
                yield f"### {name}\n"
                yield f"{(inspect.getdoc(named.value) or '').partition(chr(10) * 2)[0]}\n"
                yield _keys(KEYS.get(kind, keys_of)(named.value)) or "It has no keys.\n"
    yield "The keys of conditions are on [a page each](../conditions/README.md).\n"


def _keys(keys: Iterable[Key]) -> str:
    header, *every = key_rows(list(keys))
    rows = [row for row in every if not row[0].startswith(OF_CONDITIONS)]
    return _table([cell.lower() for cell in header], [(f"`{row[0]}`", *row[1:]) for row in rows]) if rows else ""


def _table_of(key: Key) -> Any:
    return next((kind for kind in (key.kind, *getattr(key.kind, "__args__", ())) if attrs.has(kind)), None)


def _is_table(key: Key) -> bool:
    return _table_of(key) is not None


def _about(key: Key) -> str:
    text = key.help or " ".join((inspect.getdoc(_table_of(key)) or "").partition("\n\n")[0].split())
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def commands_page() -> str:
    """Every command of the program, as its help says."""
    blocks = ["# Commands\n", f"{MADE}\n", "A mistake in your input gives a message and exit status 2; an interrupt gives 130.\n"]
    context = click.Context(program, info_name="ltx", **program.context_settings)
    options = [param for param in program.params if isinstance(param, click.Option) and not param.hidden and param.name != "version"]
    rows = [(", ".join(f"`{each}`" for each in option.opts), option.help or "") for option in options]
    blocks.append(
        "The result of a command goes to standard output, everything else to standard error. Options before the name of the command set how much that is:\n"
    )
    blocks.append(f"{_table(['option', 'meaning'], rows)}\n{ENVIRONMENT}\n")
    with context:
        for name in sorted(program.list_commands(context)):
            command = program.get_command(context, name)
            if command is not None:
                blocks += list(_command(command, f"ltx {name}", context))
    return "\n".join(blocks).rstrip() + "\n"


def _command(command: click.Command, path: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, terminal_width=100, max_content_width=100)
    yield f"## `{path}`\n"
    yield f"```\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _command(inner, f"{path} {name}", context)


def main() -> None:
    RUN_FILE_PAGE.write_text(run_file_page())
    COMMANDS_PAGE.write_text(commands_page())


if __name__ == "__main__":
    sys.exit(main())

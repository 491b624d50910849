"""The `ltx` program. A command is imported only when it is used, so that help is quick and no command waits for the imports of another."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from ltxcore import __version__
from ltxcore.cli.added import command_of, line_about
from ltxcore.errors import ConfigError, LtxError, Problem, is_out_of_memory, suggestion
from ltxcore.files import is_of_disk, not_written
from ltxcore.logs import LEVELS, VERBOSITY, telling
from ltxcore.redact import redacted
from ltxcore.registry import Registry, load

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "new": "Write a run file to start from, and the clips of a demo.",
        "run": "Train as a run file describes.",
        "launch": "Train on several GPUs or machines.",
        "check": "Check a run file without running it.",
        "plan": "Compute how much memory and disk a run needs, and whether it fits.",
        "inspect": "Show what the model sees in the first steps of a run.",
        "preprocess": "Encode raw media for training.",
        "shard": "Put the files of an encoded set into a few large files, or back.",
        "sample": "Generate from a prompt or a file of prompts, with conditions and LoRAs.",
        "export": "Write a LoRA for another program, such as ComfyUI or diffusers.",
        "plugins": "List and describe plugins, or start a new one.",
        "schema": "Print the JSON Schema of run files.",
    }
)
"""The commands of the core. Each is defined in the module of the same name beside this one, as a click command under that name or under the
name `command`.
"""


LESS = "Check that no other program uses the memory, and see --help for options that need less. Everything written so far is kept."
"""The advice that is printed if a command runs out of memory and gives no advice of its own."""


class Commands(click.Group):
    """A group of commands that are imported when they are used, including the commands of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [
            *COMMANDS,
            *(name for name in sorted(_plugins().of_kind("command")) if name not in COMMANDS),
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            return _own(cmd_name)
        named = _plugins().of_kind("command").get(cmd_name)
        return None if named is None else command_of(named)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            _refuse_broken(args[0])
            ctx.fail(f'there is no command "{args[0]}". {suggestion(args[0], self.list_commands(ctx))}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing the commands."""
        rows = []
        for name in self.list_commands(ctx):
            rows.append((name, COMMANDS.get(name) or line_about(_plugins().of_kind("command")[name])))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn a user's mistake into a message without a traceback."""
        if "RANK" in os.environ and not ctx.params["verbose"]:  # one of several processes
            from ltxcore.engines.process import quiet_torch

            quiet_torch()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # the names of files may have bytes that are not text
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(redacted(error.format_message()), error.ctx) from error
        except LtxError as error:
            click.echo(str(error), err=True)
            ctx.exit(2)
        except (OSError, MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                said = (str(error).splitlines() or [type(error).__name__])[0]
                problem = Problem(f"memory ran out in `ltx {ctx.invoked_subcommand}`: {said}", remedy=LESS)
            elif isinstance(error, OSError) and is_of_disk(error):
                problem = not_written(error, "a file", "everything written so far is kept")
            else:
                raise
            click.echo(redacted(str(problem)), err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            ctx.exit(130)


def _own(name: str) -> click.Command:
    module = importlib.import_module(f"ltxcore.cli.{name}")
    for attribute in (name, "command"):
        command = getattr(module, attribute, None)
        if isinstance(command, click.Command):
            return command
    raise ImportError(f"ltxcore.cli.{name} has no click command `{name}`")


def _refuse_broken(name: str) -> None:
    """Explain that a command is missing because the plugin that adds it is broken or switched off.

    Raises:
        PluginError: the plugin that adds the command is broken or switched off.
    """
    with contextlib.suppress(ConfigError):
        _plugins().get("command", name)


def _plugins() -> Registry:
    context = click.get_current_context()
    if "registry" not in context.meta:
        context.meta["registry"] = load()
    registry: Registry = context.meta["registry"]
    return registry


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ltx")
@click.option("-q", "--quiet", is_flag=True, help="Print only the result, warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Also print what libraries log: diffusers, transformers, DeepSpeed, torch.")
@click.option(
    "--local_rank",
    "--local-rank",
    type=int,
    hidden=True,
    help="Set by launchers; the environment variable LOCAL_RANK has the same meaning.",
)
@click.pass_context
def main(ctx: click.Context, quiet: bool, verbose: bool, local_rank: int | None) -> None:
    """Fine-tune the LTX-2 audio-video model, and add conditions of your own to it."""
    if quiet and verbose:
        raise click.UsageError("-q asks for fewer messages and -v for more; leave one of them out.")
    verbosity = "quiet" if quiet else "verbose" if verbose else os.environ.get(VERBOSITY, "")
    if verbosity not in LEVELS:
        raise click.UsageError(f'{VERBOSITY} in the environment is "{verbosity}"; it must be "quiet" or "verbose".')
    ctx.with_resource(telling(verbosity))

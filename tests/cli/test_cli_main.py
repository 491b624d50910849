"""The program: commands on use, messages without tracebacks, nothing heavy before it is needed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ltxcore import __version__
from ltxcore.cli import main as program
from ltxcore.errors import DataError
from ltxcore.protocols import LazyCommand
from ltxcore.registry import DISABLE, HOOKS, Broken, Named, Origin, Registry, load

HEAVY = ("torch", "diffusers", "transformers", "peft", "deepspeed", "av", "numpy", "cattrs", "rich")
HERE = Origin("here", "tests", "1")


def ltx(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    done = CliRunner().invoke(program.main, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def with_command(monkeypatch: pytest.MonkeyPatch, name: str, command: object) -> None:
    """Let a plugin add a command."""
    names = {kind: {} for kind in HOOKS} | {"command": {name: Named(name, "command", command, HERE)}}
    monkeypatch.setattr(program, "load", lambda: Registry(names))


@click.command()
def greet() -> None:
    """Say hello. To everyone."""
    click.echo("hello")


def test_help_lists_every_command() -> None:
    status, out, _ = ltx("--help")
    assert status == 0
    added = load().of_kind("command")
    rows = " ".join(
        [f"{name} {about}" for name, about in program.COMMANDS.items()] + [f"{name} {added[name].value.help}" for name in sorted(added)]
    )
    assert " ".join(out.split()) == (  # long lines are broken by the width of the terminal
        "Usage: main [OPTIONS] COMMAND [ARGS]... Fine-tune the LTX-2 audio-video model, and add conditions of your own to it. "
        "Options: --version Show the version and exit. -q, --quiet Print only the result, warnings and errors. "
        "-v, --verbose Also print what libraries log: diffusers, transformers, DeepSpeed, torch. "
        f"-h, --help Show this message and exit. Commands: {rows}"
    )


@click.command()
def work() -> None:
    """Tell, and give a result."""
    logging.getLogger("ltx.work").info("a note")
    logging.getLogger("ltx.work").warning("a warning")
    logging.getLogger("library").info("at work")
    click.echo("result")


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ([], None, "a note\na warning\n"),
        (["-q"], "verbose", "a warning\n"),
        (["--verbose"], "quiet", "a note\na warning\nlibrary: at work\n"),
        ([], "quiet", "a warning\n"),
        ([], "verbose", "a note\na warning\nlibrary: at work\n"),
    ],
)
def test_a_command_tells_as_much_as_the_options_or_else_the_environment_say_and_its_result_in_any_case(
    options: list[str], environment: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_command(monkeypatch, "work", work)
    if environment is not None:
        monkeypatch.setenv("LTX_VERBOSITY", environment)
    assert ltx(*options, "work") == (0, "result\n", said)


def test_an_error_is_told_however_little_is_asked_for() -> None:
    status, out, err = ltx("-q", "check", "none.toml")
    assert (status, out) == (2, "")
    assert err.startswith("none.toml: there is no such file\n")


def test_to_ask_for_less_and_for_more_is_refused_and_so_is_a_word_that_means_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ltx("-q", "-v", "schema")[2].endswith("Error: -q asks for fewer messages and -v for more; leave one of them out.\n")
    monkeypatch.setenv("LTX_VERBOSITY", "loud")
    assert ltx("schema")[2].endswith('Error: LTX_VERBOSITY in the environment is "loud"; it must be "quiet" or "verbose".\n')


def test_the_version_is_that_of_the_package() -> None:
    assert ltx("--version") == (0, f"ltx, version {__version__}\n", "")


@pytest.mark.parametrize("name", [*program.COMMANDS, *load().of_kind("command")])
def test_every_command_that_is_listed_is_there_and_explains_itself(name: str) -> None:
    status, out, _ = ltx(name, "--help")
    assert status == 0
    assert out.startswith(f"Usage: main {name} ")


def test_an_unknown_command_is_a_usage_error() -> None:
    status, _, err = ltx("rnu")
    assert status == 2
    assert 'Error: there is no command "rnu". Did you mean "run"?' in err


def test_a_secret_that_is_mistyped_is_not_told() -> None:
    status, _, err = ltx("check", "run.toml", "http://me:word4711@host")
    assert (status, "(http://***@host)" in err, "4711" in err) == (2, True, False)


def test_what_a_launcher_puts_before_the_command_is_accepted() -> None:
    for option in ("--local_rank=1", "--local-rank=1"):
        assert ltx(option, "plugins", "list", "--kind", "strategy")[0] == 0


def test_a_plugin_adds_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, "greet", greet)
    assert ltx("greet") == (0, "hello\n", "")
    assert "  greet       Say hello.\n" in ltx("--help")[1]


def test_a_plugin_cannot_replace_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, "schema", greet)
    assert ltx("schema", "--help")[1].startswith("Usage: main schema [OPTIONS]\n\n  Print the JSON Schema")
    assert ltx("--help")[1].count("schema") == 1


def test_a_command_that_is_no_click_command_is_the_plugins_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, "greet", 3)
    assert ltx("greet") == (2, "", 'the command "greet" of tests 1 (here) is not a click command\n')
    assert ltx("--help")[0] == 0


def lazy(target: str, name: str = "greet") -> LazyCommand:
    return LazyCommand(target, f"What the help says of {name}.")


def test_a_lazy_command_is_imported_when_it_is_called_and_not_for_the_help(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "greeting_late.py").write_text("import click\n\n@click.command()\ndef greet():\n    click.echo('hello')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with_command(monkeypatch, "greet", lazy("greeting_late:greet"))
    assert "  greet       What the help says of greet.\n" in ltx("--help")[1]
    assert "greeting_late" not in sys.modules
    assert ltx("greet") == (0, "hello\n", "")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "click.core_gone:greet",
            "cannot be imported: ModuleNotFoundError: No module named 'click.core_gone'\n    Fix or uninstall the plugin.",
        ),
        (
            "textwrap:greet",
            "cannot be imported: AttributeError: module 'textwrap' has no attribute 'greet'\n    Fix or uninstall the plugin.",
        ),
        ("click.core:Context", "is not a click command"),
    ],
)
def test_a_lazy_command_that_is_not_where_it_is_said_to_be_is_the_plugins_fault(
    monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    with_command(monkeypatch, "greet", lazy(target))
    assert ltx("greet") == (2, "", f'the command "greet" of tests 1 (here) {said}\n')


def test_a_command_that_is_switched_off_or_broken_is_gone_from_the_help_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE, "convert")
    assert "convert" not in ltx("--help")[1]
    assert ltx("convert", "old.yaml") == (
        2,
        "",
        f'the command "convert" comes from ltx {__version__} (convert), a plugin that {DISABLE} switches off\n    Remove it from {DISABLE}.\n',
    )
    broken = Broken(HERE, "it is torn", frozenset({("command", "greet")}))
    monkeypatch.setattr(program, "load", lambda: Registry({}, (broken,)))
    status, _, err = ltx("greet")
    assert (status, err.splitlines()[0]) == (2, 'the command "greet" comes from a broken plugin, tests 1 (here): it is torn')


def test_a_mistake_of_the_user_is_a_message_and_exit_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def fail() -> None:
        raise DataError("is cut off", where="clips/a.safetensors", remedy="Encode it again.")

    with_command(monkeypatch, "fail", fail)
    assert ltx("fail") == (2, "", "clips/a.safetensors: is cut off\n    Encode it again.\n")


def test_an_interrupt_is_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def wait() -> None:
        raise KeyboardInterrupt

    with_command(monkeypatch, "wait", wait)
    assert ltx("wait") == (130, "", "Stopped.\n")


def test_anything_else_is_a_bug_and_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def crash() -> None:
        raise ZeroDivisionError("a bug")

    with_command(monkeypatch, "crash", crash)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        ltx("crash")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plugins", "list"], ["plugins", "list", "--json"]], ids=" ".join)
def test_help_and_the_list_of_plugins_need_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ImportError(f"{{name}} is imported")
sys.meta_path.insert(0, Block())
sys.argv = ["ltx", *{arguments!r}]
from ltxcore.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "broken" not in done.stdout.lower() or '"broken": []' in done.stdout


def test_the_module_is_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ltxcore", "check", "gone.toml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gone.toml: there is no such file\n    Name a run file; `ltx new` writes one.\n"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")], ids=str)
def test_memory_that_runs_out_in_any_command_is_said_without_a_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    @click.command()
    def greedy() -> None:
        raise error

    with_command(monkeypatch, "greedy", greedy)
    said = (str(error).splitlines() or ["MemoryError"])[0]
    less = "Check that no other program uses the memory, and see --help for options that need less. Everything written so far is kept."
    assert ltx("greedy") == (2, "", f"memory ran out in `ltx greedy`: {said}\n    {less}\n")


REFUSED = """
from contextlib import suppress
from ltxcore.cli.main import main
main(["model", "tiny"], standalone_mode=False)
from datetime import timedelta
from torch.distributed import TCPStore
with suppress(RuntimeError):  # nothing listens there
    TCPStore("127.0.0.1", 1, 2, False, timedelta(seconds=1))
"""


@pytest.mark.parametrize(
    ("environment", "tells"),
    [
        ({"RANK": "1"}, False),
        ({"RANK": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}, True),
        ({"RANK": "1", "LTX_VERBOSITY": "verbose"}, True),
    ],
    ids=str,
)
def test_one_of_several_processes_leaves_out_what_torch_would_write_by_itself(environment: dict[str, str], tells: bool) -> None:
    before = {name: value for name, value in os.environ.items() if name not in ("RANK", "TORCH_CPP_LOG_LEVEL")}
    done = subprocess.run([sys.executable, "-c", REFUSED], env=before | environment, capture_output=True, text=True, check=True)
    assert ("socket.cpp" in done.stderr) == tells, done.stderr

"""A stranger's run file, read without running the Python files that it names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from helpers.made_run import made_run
from helpers.training_runs import sound_set, tables, write_run
from ltxcore.cli.main import main

EVIL = """
from pathlib import Path
Path(__file__).with_name("RAN").touch()
import attrs
from ltxcore.api import hookimpl

@attrs.frozen
class Evil:
    modalities = frozenset({"audio"})
    length: int = 1

    def apply(self, state, inputs):
        return state

@hookimpl
def ltx_conditions():
    return {"evil": Evil}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("data") / "data", 8)


def run_file(data: Path, folder: Path, *conditions: dict[str, object]) -> Path:
    (folder / "evil.py").write_text(EVIL)
    run = tables(data, folder / "out", plugins=["evil.py"])
    run["training_strategy"]["audio"]["conditions"] = list(conditions)
    return write_run(folder, run)


def ltx(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_names_that_a_file_that_is_not_run_may_bring_are_not_looked_at(data: Path, tmp_path: Path) -> None:
    path = run_file(data, tmp_path, {"type": "evil", "length": 3}, {"type": "prefix", "temporal_boundary": 2})
    done = ltx("check", path, "--no-plugins")
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if "evil" in text and "type" in text)
    assert done.output == (
        f"{path} is valid, as far as that can be checked without its plugins, which were not loaded.\n"
        f'{path}:{line}: training_strategy.audio.conditions[0].type: the condition "evil" was not checked\n'
        f"    It may come from a plugin that was not loaded: {tmp_path / 'evil.py'}.\n"
    )
    assert done.exit_code == 0
    assert not (tmp_path / "RAN").exists()
    assert ltx("check", path).exit_code == 0
    assert (tmp_path / "RAN").exists()  # without the option it is run


def test_all_other_mistakes_are_found_beside_what_is_not_looked_at(data: Path, tmp_path: Path) -> None:
    done = ltx("check", run_file(data, tmp_path, {"type": "evil"}, {"type": "prefix", "boundary": 2}), "--no-plugins")
    assert done.exit_code == 2
    for told in ('the condition "evil" was not checked', "boundary: there is no such key", "temporal_boundary: is missing"):
        assert told in done.output
    done = ltx("check", run_file(data, tmp_path, {"type": "evil"}), "--no-plugins", "--set", "output_dir=/dev/null/x")
    assert done.exit_code == 2
    for told in ('the condition "evil" was not checked', "--set: output_dir: /dev/null is there, not a folder"):
        assert told in done.output
    assert not (tmp_path / "RAN").exists()


def test_a_run_file_that_uses_nothing_of_its_plugins_is_checked_to_the_end(data: Path, tmp_path: Path) -> None:
    path = run_file(data, tmp_path, {"type": "mask", "mask_dir": "audio_masks"})
    done = ltx("check", path, "--no-plugins")
    assert (done.exit_code, done.output.splitlines()[:2]) == (0, [f"Not run: {tmp_path / 'evil.py'}.", f"{path} is valid."])
    assert "samples" in done.output
    assert not (tmp_path / "RAN").exists()


def test_a_name_that_nothing_brings_is_unknown_where_no_file_is_named(data: Path, tmp_path: Path) -> None:
    path = run_file(data, tmp_path, {"type": "evil"})
    path.write_text(path.read_text().replace('plugins = ["evil.py"]\n', ""))
    done = ltx("check", path, "--no-plugins")
    assert done.exit_code == 2
    assert 'there is no condition "evil"' in done.output


def test_commands_that_look_at_a_strange_run_run_nothing_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "evil.py").write_text(EVIL)
    shutil.copy(folder / "evil.py", tmp_path / "evil.py")
    condition = [{"type": "evil", "length": 3}]
    made_run(
        folder,
        plugins=[str(folder / "evil.py")],
        training_strategy={"name": "flexible", "audio": {"is_generated": True, "conditions": condition}},
    )
    for command in (
        ("report", folder),
        ("publish", folder, "--dry-run", tmp_path / "shown"),
        ("model", folder / "lora.safetensors"),
        ("plugins", "list"),
        ("schema",),
    ):
        assert ltx(*command).exit_code == 0, command
    assert list(tmp_path.rglob("RAN")) == []

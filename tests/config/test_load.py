"""A run file is read from disk, with its local plugins, and stays able to say where things are."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.run_files import Load, Mistakes
from ltxcore import registry
from ltxcore.config.load import load_run
from ltxcore.errors import ConfigError

PLUGIN = '''
from __future__ import annotations

import enum

import attrs

from ltxcore.api import ConfigError, Inputs, LatentState, Role, hookimpl


class Corner(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


@attrs.frozen
class Stripes:
    """Give every n-th column."""

    modalities = frozenset({"video"})
    content = "whole"

    every: int = attrs.field(validator=attrs.validators.ge(2), metadata={"help": "of how many columns one is given"})
    corner: Corner = Corner.LEFT
    weights: dict[str, float] = attrs.field(factory=dict)
    names: frozenset[str] = frozenset()

    def __attrs_post_init__(self) -> None:
        if self.every == 13:
            raise ConfigError("thirteen is unlucky", remedy="Take twelve.")
        if self.every == 14:
            raise ZeroDivisionError("division by zero")

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state.given(state.grid.column % self.every == 0)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"stripes": Stripes}
'''


def message(path: Path, *settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_run(path, settings)
    return str(caught.value)


# ---- the file


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    assert message(path) == f"{path}: there is no such file\n    Name a run file; `ltx new` writes one."


def test_a_folder_is_no_run_file(tmp_path: Path) -> None:
    assert message(tmp_path) == f"{tmp_path}: cannot be read: Is a directory\n    Name a run file; `ltx new` writes one."


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"a = '\xff'")
    assert message(path) == f"{path}: is not UTF-8 text\n    Save the file as UTF-8."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb 2\n", "2: is not TOML: expected '=' after a key in a key/value pair, at column 3"),
        ("a = 1\n\nb = [1,\n", "3: is not TOML: invalid value, at the end"),
        ("a = 1\na = 2\n", "2: is not TOML: cannot overwrite a value, at column 6"),
        ("[a]\n[a]\n", "2: is not TOML: cannot declare ('a',) twice, at column 3"),
    ],
)
def test_a_syntax_error_has_its_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    assert message(path) == f"{path}:{expected}"


def test_a_byte_order_mark_and_windows_line_ends_are_read(folder: Path, minimal: str) -> None:
    path = folder / "run.toml"
    path.write_bytes(b"\xef\xbb\xbf" + minimal.replace("\n", "\r\n").encode())
    assert load_run(path).config.model.model_path == "tiny"


# ---- paths


def test_input_paths_are_relative_to_the_run_file_and_output_dir_to_the_working_directory(load: Load, minimal: str, folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "base.safetensors").touch()
    run = load('output_dir = "out/x"\n' + minimal.replace('"tiny"', '"models/../models/base.safetensors"')).config
    assert run.model.model_path == str(folder / "models" / "base.safetensors")
    assert run.output_dir == folder.parent / "work" / "out" / "x"


def test_a_tilde_is_the_home_folder(load: Load, minimal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = load('output_dir = "~/out"\n' + minimal.replace('root = "."', 'root = "~"')).config
    assert (run.output_dir, run.data.preprocessed_data_root) == (tmp_path / "out", tmp_path)


def test_a_link_keeps_its_name(load: Load, minimal: str, folder: Path) -> None:
    (folder / "blob").touch()
    (folder / "base.safetensors").symlink_to(folder / "blob")
    assert load(minimal.replace('"tiny"', '"base.safetensors"')).config.model.model_path == str(folder / "base.safetensors")


# ---- where


def test_a_key_is_placed_in_the_file_for_errors_that_come_later(load: Load, minimal: str, folder: Path) -> None:
    text = minimal.replace('latents"\n', 'latents"\nconditions = [\n  { type = "mask",\n    mask_dir = "m" },\n]\n', 1)
    run = load(text, "optimization.steps=7")
    assert run.where("training_strategy.audio") == f"{folder}/run.toml:5: training_strategy.audio"
    assert (
        run.where("training_strategy.audio.conditions.0.mask_dir")
        == f"{folder}/run.toml:10: training_strategy.audio.conditions[0].mask_dir"
    )
    assert run.where("training_strategy.audio.conditions[0]") == f"{folder}/run.toml:9: training_strategy.audio.conditions[0]"
    assert run.where("lora.rank") == f"{folder}/run.toml:1: lora.rank"
    assert run.where("optimization.steps") == "--set: optimization.steps"
    assert run.where("optimization") == "--set: optimization", "the file has no such table"


# ---- local plugins


def test_a_local_file_adds_a_condition_to_this_run(load: Load, minimal: str, folder: Path) -> None:
    (folder / "stripes.py").write_text(PLUGIN)
    text = 'plugins = ["stripes.py"]\n' + video(minimal, "every = 4, corner = 'right', weights = { a = 1 }, names = ['x']")
    run = load(text)
    (use,) = run.config.training_strategy.video.conditions
    assert (use.type, use.condition.every, use.condition.corner.name) == ("stripes", 4, "RIGHT")
    assert (use.condition.weights, use.condition.names) == ({"a": 1.0}, frozenset({"x"}))
    assert run.config.plugins == [folder / "stripes.py"]
    assert str(run.registry.get("condition", "stripes").origin) == f"local file ({folder}/stripes.py)"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("every = 1", ".every: must be at least 2, not 1"),
        ("every = 13", ": thirteen is unlucky\n    Take twelve."),
        ("every = 14", ": division by zero"),
        ("every = 4, corner = 'middle'", ".corner: 'middle' is not a valid Corner"),
        ("every = 4, weights = { a = 'x' }", '.weights.a: must be a number, not the text "x"'),
        ("every = 4, weights = 1", ".weights: must be a table, not 1"),
        ("every = 4, names = ['x', 1]", '.names[1]: must be text, not 1\n    Write "1", in quotes.'),
        (
            "evry = 4",
            '.evry: there is no such key\n    Did you mean "every"?\nrun.toml:7: training_strategy.video.conditions[0].every: is missing\n'
            "    Add every: a whole number, of how many columns one is given.",
        ),
    ],
)
def test_a_strangers_condition_gets_the_same_care(mistakes: Mistakes, minimal: str, folder: Path, fields: str, expected: str) -> None:
    (folder / "stripes.py").write_text(PLUGIN)
    assert mistakes('plugins = ["stripes.py"]\n' + video(minimal, fields)) == f"run.toml:7: training_strategy.video.conditions[0]{expected}"


def test_a_broken_local_plugin_is_named_with_its_reason(mistakes: Mistakes, minimal: str, folder: Path) -> None:
    (folder / "good.py").write_text(PLUGIN)
    (folder / "bad.py").write_text("import no_such_module\n")
    text = 'plugins = [\n  "good.py",\n  "bad.py",\n]\n' + minimal
    (broken,) = registry.load(local=[folder / "bad.py"]).broken
    assert broken.reason.startswith("ModuleNotFoundError: No module named 'no_such_module'")
    reason = broken.reason.replace(f"{folder}/", "")
    assert mistakes(text) == f"run.toml:3: plugins[1]: the plugin bad.py is broken: {reason}\n    Fix the file, or remove it from the list."


def test_a_condition_of_a_broken_plugin_says_so(mistakes: Mistakes, minimal: str, folder: Path) -> None:
    (folder / "stripes.py").write_text(PLUGIN.replace("self, state: LatentState, inputs: Inputs", "self, state"))
    reason = 'the condition "stripes" has apply(self, state); it must take (self, state, inputs)'
    assert mistakes('plugins = ["stripes.py"]\n' + video(minimal, "every = 4")).startswith(
        f"run.toml:1: plugins[0]: the plugin stripes.py is broken: {reason}\n    Fix the file, or remove it from the list.\n"
    )


def test_a_type_that_only_a_checker_sees_is_the_plugins_fault(mistakes: Mistakes, minimal: str, folder: Path) -> None:
    text = PLUGIN.replace(
        "import enum\n", "import enum\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fractions import Fraction\n"
    )
    (folder / "stripes.py").write_text(text.replace("every: int", "every: Fraction"))
    assert mistakes('plugins = ["stripes.py"]\n' + video(minimal, "every = 4")) == (
        "run.toml:7: training_strategy.video.conditions[0]: the type of Stripes.every cannot be read: name 'Fraction' is not defined\n"
        "    Import the type at the top of the module, not under TYPE_CHECKING."
    )


def test_a_type_that_toml_cannot_hold_is_the_plugins_fault(mistakes: Mistakes, minimal: str, folder: Path) -> None:
    text = PLUGIN.replace("import enum\n", "import enum\nimport threading\n").replace("every: int", "every: threading.Thread")
    (folder / "stripes.py").write_text(text)
    assert mistakes('plugins = ["stripes.py"]\n' + video(minimal, "every = 4")) == (
        "run.toml:7: training_strategy.video.conditions[0].every: has the type <class 'threading.Thread'>, which a run file cannot hold\n"
        "    Report this to the plugin's author."
    )


def video(minimal: str, fields: str) -> str:
    """A minimal run on video with one condition, on line 7 where one line comes before."""
    text = minimal.replace("audio", "video")
    return text.replace("is_generated = true", f"conditions = [{{ type = 'stripes', {fields} }}]\nis_generated = true")

"""TOML that goes beyond what is read: refused in words, at its line, whatever the parser makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.run_files import Load, Mistakes
from ltxcore.config.load import load_run
from ltxcore.config.prompts import load_samples
from ltxcore.config.toml import excesses
from ltxcore.errors import ConfigError

DEEP = "lists and tables are nested more than 64 deep"
OUT = "\n    Nest it less; no key takes values that deep."
LARGE = "a whole number is too large: it has more than 64 bits"
SMALLER = "\n    Write a smaller one."


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"x = {'[' * 10_000}{']' * 10_000}", DEEP + OUT),
        (f"x = {'{ a = ' * 10_000}1{' }' * 10_000}", DEEP + OUT),
        (f"{'.'.join('a' * 1_001)} = 1", DEEP + OUT),
        (f"[{'.'.join('a' * 1_001)}]", DEEP + OUT),
        (f"x = {'9' * 5_000}", LARGE + SMALLER),
        (f"x = -{'9' * 5_000}", LARGE + SMALLER),
    ],
    ids=["lists", "inline tables", "dotted key", "table", "digits", "digits below 0"],
)
def test_what_the_parser_does_not_take_is_refused_at_its_line(mistakes: Mistakes, minimal: str, line: str, what: str) -> None:
    assert mistakes(f"# a run\nseed = 1\n{line}\n{minimal}") == f"run.toml:3: {what}"


@pytest.mark.parametrize(
    ("line", "place", "what"),
    [
        (f"seed = 0x{'f' * 100_000}", "seed", LARGE + SMALLER),
        (f"seed = {2**64}", "seed", LARGE + SMALLER),
        (f"seed = {-(2**63) - 1}", "seed", LARGE + SMALLER),
        (f"lora.alpha = {10**400}", "lora.alpha", LARGE + SMALLER),
        (f"optimization.betas = [0.9, {10**400}]", "optimization.betas[1]", LARGE + SMALLER),
        (f"x = {'[' * 399}{']' * 399}", "x[0][0][0][0][0][0][0]", DEEP + OUT),
        (f"x = {'{ a = ' * 399}1{' }' * 399}", "x.a.a.a.a.a.a.a", DEEP + OUT),
        (f"x.{'.'.join('a' * 900)} = 1", "x.a.a.a.a.a.a.a", DEEP + OUT),
    ],
    ids=["hexadecimal", "seed", "seed below 0", "alpha", "in a list", "lists", "inline tables", "dotted key"],
)
def test_what_the_parser_takes_and_nobody_means_is_refused_at_its_key(
    mistakes: Mistakes, minimal: str, line: str, place: str, what: str
) -> None:
    assert mistakes(f"# a run\n{line}\n{minimal}") == f"run.toml:2: {place}: {what}"


def test_all_numbers_that_are_too_large_are_named(mistakes: Mistakes, minimal: str) -> None:
    said = mistakes(f"seed = {2**65}\nlora.rank = {2**66}\n{minimal}")
    assert sorted(said.splitlines()[::2]) == [f"run.toml:1: seed: {LARGE}", f"run.toml:2: lora.rank: {LARGE}"]


@pytest.mark.parametrize("seed", [2**63 - 1, 2**63, 2**64 - 1])
def test_a_seed_of_64_bits_is_read(load: Load, minimal: str, seed: int) -> None:
    assert load(f"seed = {seed}\n{minimal}").config.seed == seed


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        (f"seed={'9' * 5_000}", LARGE),
        (f"seed={2**64}", LARGE),
        (f"lora.rank=[{2**64}]", LARGE),
        (f"x={'[' * 10_000}{']' * 10_000}", DEEP),
        (f"x={'[' * 100}{']' * 100}", DEEP),
        (f"x={'{a=' * 399}1{'}' * 399}", DEEP),
        (f"{'.'.join('a' * 1_001)}=1", DEEP),
        (f"data.{'9' * 5_000}=1", ""),
    ],
    ids=["digits", "bits", "in a list", "lists", "fewer lists", "inline tables", "key", "number of an entry"],
)
def test_a_setting_that_goes_beyond_is_refused(load: Load, minimal: str, setting: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(minimal, setting)
    assert str(caught.value).startswith(f"--set {setting}: {what}" if what else "--set: data.")


def test_lists_and_tables_up_to_the_limit_go_on_to_be_checked(mistakes: Mistakes, minimal: str) -> None:
    said = mistakes(f"x = {'[' * 60}{']' * 60}\n{minimal}")
    assert said.startswith("run.toml:1: x: there is no such key")


def test_a_document_of_json_is_held_to_the_same() -> None:
    assert [key for key, _, _ in excesses({"a": [1, {"b": 2**64}]})] == [("a", 1, "b")]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("[" * 100_000, DEEP + OUT),
        (f'{{"prompt": "x", "y": {"[" * 100}{"]" * 100}}}', DEEP + OUT),
        (f'{{"prompt": "x", "seed": {"9" * 5_000}}}', LARGE + SMALLER),
        (f'{{"prompt": "x", "seed": {10**400}}}', LARGE + SMALLER),
    ],
    ids=["no end", "lists", "digits", "bits"],
)
def test_a_line_of_prompts_that_goes_beyond_is_refused_at_its_line(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"prompt": "a"}}\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        load_samples(str(path))
    assert str(caught.value) == f"{path}:2: {what}"


def test_a_run_file_whose_name_has_a_zero_byte_is_not_there() -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_run(Path("a\0b.toml"))


def test_a_run_file_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match="cannot be read: it is a named pipe or a device, not an ordinary file"):
        load_run(tmp_path / "run.toml")

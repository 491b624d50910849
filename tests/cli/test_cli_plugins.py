"""`ltx plugins`: what there is to name, and where it comes from."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ltxcore import __version__
from ltxcore.cli import plugins as command
from ltxcore.cli.main import main
from ltxcore.registry import Broken, Named, Origin, Registry

HERE = Origin("pulse", "ltx-pulse", "2.1")


class Pulse:
    """Give a pulse."""

    modalities = frozenset({"audio"})


REGISTRY = Registry(
    {"condition": {"pulse": Named("pulse", "condition", Pulse, HERE)}, "strategy": {}},
    (Broken(Origin("bad", "ltx-bad", "0.3"), "ImportError: no", frozenset({("condition", "worse")})),),
    (Origin("quiet", "ltx-quiet", "1"),),
)

PULSE = """
import attrs
from ltxcore.api import hookimpl


@attrs.frozen
class Pulse:
    modalities = frozenset({"audio"})

    def apply(self, state, inputs):
        return state


@hookimpl
def ltx_conditions():
    return {"pulse": Pulse}
"""


def ltx(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["plugins", *arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load", lambda **_: REGISTRY)


@pytest.mark.parametrize(
    ("name", "modalities"),
    [
        ("first_frame", "video"),
        ("prefix", "video, audio"),
        ("suffix", "video, audio"),
        ("spatial_crop", "video"),
        ("mask", "video, audio"),
        ("hole", "video, audio"),
        ("reference", "video, audio"),
    ],
)
def test_every_built_in_condition_is_listed_with_its_modalities_and_origin(name: str, modalities: str) -> None:
    status, out, _ = ltx("list", "--kind", "condition")
    assert status == 0
    rows = [re.split(r" {2,}", line) for line in out.splitlines()]  # as wide as whatever else is installed makes them
    assert ["condition", name, modalities, f"ltx {__version__} ({name})"] in rows


def test_the_list_has_every_kind_broken_plugins_and_those_switched_off(small: None) -> None:
    assert ltx("list") == (
        0,
        "KIND       NAME   MODALITIES  ORIGIN\n"
        "condition  pulse  audio       ltx-pulse 2.1 (pulse)\n"
        "\n"
        "Broken:\n"
        "  ltx-bad 0.3 (bad): ImportError: no\n"
        "\n"
        "Switched off by LTX_DISABLE_PLUGINS:\n"
        "  ltx-quiet 1 (quiet)\n",
        "",
    )


def test_a_kind_of_which_there_is_none_says_so(small: None) -> None:
    assert ltx("list", "--kind", "tracker")[1].startswith("There is none.\n")


def test_the_list_is_there_for_machines(small: None) -> None:
    assert json.loads(ltx("list", "--json")[1]) == {
        "plugins": [
            {
                "kind": "condition",
                "name": "pulse",
                "modalities": ["audio"],
                "distribution": "ltx-pulse",
                "version": "2.1",
                "plugin": "pulse",
            }
        ],
        "broken": [{"plugin": "bad", "distribution": "ltx-bad", "version": "0.3", "reason": "ImportError: no"}],
        "disabled": ["quiet"],
    }


def test_a_condition_shows_both_its_tables() -> None:
    assert ltx("show", "suffix") == (
        0,
        f"condition suffix, from ltx {__version__} (suffix)\n"
        "\n"
        "Give the last latent frames of a clip, or the last latent steps of audio.\n"
        "\n"
        "In training, on video and audio:\n"
        "  KEY                TYPE                      DEFAULT   UNIT           WHAT IT IS FOR\n"
        "  type               text                      required  -              the condition\n"
        "  probability        a number                  1.0       -              probability that the condition is applied to a sample, from 0 to 1\n"
        "  temporal_boundary  a whole number, or drawn  required  latent frames  number of latent frames (for audio: latent steps) that are given\n"
        "  level              a number, or drawn        0.0       sigma          noise level at which the tokens are given: 0 is clean\n"
        "\n"
        "In a validation sample, on video:\n"
        "  KEY                TYPE            DEFAULT   UNIT           WHAT IT IS FOR\n"
        "  type               text            required  -              the condition\n"
        "  temporal_boundary  a whole number  -         latent frames  number of latent frames (for audio: latent steps) that are given\n"
        "  level              a number        0.0       sigma          noise level at which the tokens are given: 0 is clean\n"
        "  num_frames         a whole number  -         pixel frames   temporal_boundary, in pixel frames\n"
        "  duration           a number        -         seconds        temporal_boundary, in seconds\n"
        "  video              a path          -         -              file with the clip, image or sound that is given\n"
        "  image_or_video     a path          -         -              file with the clip, image or sound that is given\n"
        "\n"
        "In a validation sample, on audio:\n"
        "  KEY                TYPE            DEFAULT   UNIT           WHAT IT IS FOR\n"
        "  type               text            required  -              the condition\n"
        "  temporal_boundary  a whole number  -         latent frames  number of latent frames (for audio: latent steps) that are given\n"
        "  level              a number        0.0       sigma          noise level at which the tokens are given: 0 is clean\n"
        "  duration           a number        -         seconds        temporal_boundary, in seconds\n"
        "  audio              a path          -         -              file with the clip, image or sound that is given\n",
        "",
    )


def test_a_sigma_sampler_shows_its_keys() -> None:
    assert ltx("show", "uniform")[1] == (
        f"sigma sampler uniform, from ltx {__version__} (sigma_samplers)\n"
        "\n"
        "A uniform distribution of sigmas between two bounds. It can be shifted towards noise or away from it.\n"
        "\n"
        "[flow_matching.timestep_sampling_params]:\n"
        "  KEY        TYPE      DEFAULT  UNIT  WHAT IT IS FOR\n"
        "  min_value  a number  0.0      -     smallest sigma\n"
        "  max_value  a number  1.0      -     largest sigma\n"
        "  shift      a number  1.0      -     1 draws all sigmas equally often; s draws s * u / (1 + (s - 1) * u) for a uniform u, so larger values of s mean more noise\n"
    )


def test_a_strategy_shows_the_keys_of_its_inner_tables() -> None:
    out = ltx("show", "flexible")[1]
    assert "[training_strategy]:\n  KEY                     TYPE                  DEFAULT   UNIT  WHAT IT IS FOR\n" in out
    assert "  audio.conditions        a list of conditions  []        -     the conditions, which say what is given or added\n" in out


def test_a_tracker_without_keys_says_so() -> None:
    assert ltx("show", "jsonl")[1].endswith("[trackers.jsonl]:\n  has no keys\n")


def test_a_local_file_is_shown_too(tmp_path: Path) -> None:
    plugin = tmp_path / "pulse.py"
    plugin.write_text(PULSE)
    assert ltx("show", "pulse", "--plugin", str(plugin))[1].startswith(f"condition pulse, from local file ({plugin})\n")


def test_a_local_file_is_listed_too_with_what_it_adds_or_why_it_is_broken(tmp_path: Path) -> None:
    (tmp_path / "pulse.py").write_text(PULSE)
    (tmp_path / "own.py").write_text("x = y\n")
    asked = [part for name in ("pulse", "own") for part in ("--plugin", str(tmp_path / f"{name}.py"))]
    status, out, _ = ltx("list", "--kind", "condition", *asked)
    assert status == 0
    assert ["condition", "pulse", "audio", f"local file ({tmp_path}/pulse.py)"] in [re.split(r" {2,}", line) for line in out.splitlines()]
    assert f"Broken:\n  local file ({tmp_path}/own.py): NameError: name 'y' is not defined" in out
    told = json.loads(ltx("list", "--json", *asked)[1])
    assert [each["name"] for each in told["plugins"] if each["plugin"] == str(tmp_path / "pulse.py")] == ["pulse"]


def test_an_unknown_name_suggests_one() -> None:
    assert ltx("show", "sufix") == (2, "", 'no plugin registers anything as "sufix"\n    Did you mean "suffix"?\n')


def test_a_name_that_is_like_no_other_may_be_installed_for_another_python() -> None:
    told = f"`ltx plugins list` shows all names. This ltx finds the packages that are installed for {sys.executable}."
    assert ltx("show", "quintessence") == (2, "", f'no plugin registers anything as "quintessence"\n    {told}\n')


@pytest.mark.parametrize("name", ["bad", "worse"])
def test_what_comes_from_a_broken_plugin_says_so(small: None, name: str) -> None:
    assert ltx("show", name) == (
        2,
        "",
        f'"{name}" comes from a broken plugin, ltx-bad 0.3 (bad): ImportError: no\n    Fix or uninstall the plugin.\n',
    )


def test_an_optimizer_of_an_installed_package_shows_its_keys_too() -> None:
    status, out, _ = ltx("show", "torch.optim:NAdam")
    assert status == 0
    assert out.startswith("optimizer torch.optim:NAdam, from torch ")
    assert "  momentum_decay " in out


def test_a_local_file_that_cannot_be_imported_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("x = y\n")
    status, _, err = ltx("show", "signum", "--plugin", str(tmp_path / "own.py"))
    assert status == 2
    assert "NameError: name 'y' is not defined" in err


def test_a_default_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(PULSE.replace("    def apply", "    every: int = 10**5000\n\n    def apply"))
    assert ltx("show", "pulse", "--plugin", str(tmp_path / "own.py")) == (
        2,
        "",
        "the default of Pulse.every cannot be written in a run file: a whole number is too large: it has more than 64 bits\n    Write a smaller one.\n",
    )

"""The template of `ltx plugins new` for strategies: one that works, and its tests."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

STRATEGY = Beginning(
    does="the sound of a clip is generated for its frozen pictures, and the beginning of the sound may be given",
    made="generates the sound for frozen pictures",
    use="""\
[training_strategy]
name = "$name"
start = 5""",
    method="build",
    change="train what you want",
    module='''\
"""The sound of a clip for its pictures."""

import attrs
from ltxcore.api import Flexible, ModalityTable, Setting, Strategy, hookimpl


@attrs.frozen
class $cls:
    """Generate the sound of a clip for its pictures, which are frozen; the beginning of the sound may be given."""

    start: int = attrs.field(
        default=0,
        validator=attrs.validators.ge(0),
        metadata={"help": "how much of the sound is given", "unit": "latent frames"},
    )

    def build(self, setting: Setting) -> Strategy:
        """Make the strategy from the flexible one. A strategy with a loss of its own wraps that one."""
        given = [setting.condition("prefix", temporal_boundary=self.start)] if self.start else []
        return Flexible(
            video=ModalityTable(is_generated=False, latents_dir="latents"),
            audio=ModalityTable(is_generated=True, latents_dir="audio_latents", conditions=given),
        ).build(setting)


@hookimpl
def ltx_strategies() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and trains what it should."""

import pytest
from ltxcore.testing import check_imports_lightly, check_strategy

from $module import $cls


@pytest.mark.parametrize("start", [0, 5])
def test_it_follows_the_protocol(start: int) -> None:
    check_strategy($cls(start))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_nobody_gives_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="start"):
        $cls(start=-1)
''',
)

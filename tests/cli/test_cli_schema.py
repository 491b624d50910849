"""`ltx schema` prints what editors read."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from ltxcore.cli.main import main
from ltxcore.config.jsonschema import json_schema
from ltxcore.registry import load


def test_the_schema_is_printed_as_json() -> None:
    done = CliRunner().invoke(main, ["schema"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads(json.dumps(json_schema(load())))


def test_a_local_plugin_that_is_broken_is_not_left_out_in_silence(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import no_such_module\n")
    done = CliRunner().invoke(main, ["schema", "--plugin", str(tmp_path / "bad.py")])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{tmp_path}/bad.py: this plugin is broken: ModuleNotFoundError: No module named 'no_such_module'")


def test_a_local_plugin_may_be_included(tmp_path: Path) -> None:
    plugin = tmp_path / "pulse.py"
    plugin.write_text(
        "import attrs\nfrom ltxcore.api import hookimpl\n\n\n@attrs.frozen\nclass Pulse:\n    modalities = frozenset({'audio'})\n\n"
        "    def apply(self, state, inputs):\n        return state\n\n\n@hookimpl\ndef ltx_conditions():\n    return {'pulse': Pulse}\n"
    )
    done = CliRunner().invoke(main, ["schema", "--plugin", str(plugin)])
    assert '"const": "pulse"' in done.stdout

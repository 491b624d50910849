"""The tracker that writes the page of every run. It rewrites the page whenever samples are generated and at the end of
the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import notice
from ltxcore.api.commands import reason_of


@attrs.define
class Report:
    """Write report.html in the output folder. An error in writing the page is reported, and never ends the run."""

    embed: float = attrs.field(
        default=64.0,
        validator=attrs.validators.ge(0),
        metadata={"help": "how much media is embedded in the report; the rest is linked", "unit": "MB"},
    )
    _folder: Path | None = attrs.field(default=None, init=False, repr=False)
    _has_news: bool = attrs.field(default=False, init=False, repr=False)

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        self._folder = output_dir

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._has_news:
            self._write()

    def sample(self, step: int, name: str, path: Path) -> None:
        self._has_news = True

    def finish(self) -> None:
        self._write()

    def _write(self) -> None:
        if self._folder is None:
            return
        self._has_news = False
        try:
            from ltxplugins.tools.report.write import write_report

            write_report(self._folder, embed=self.embed)
        except Exception as error:  # noqa: BLE001 (a run of days does not end for its page)
            notice(f"report.html could not be written: {reason_of(error)}")

"""The page as a tracker, so that every run has one: it is rewritten when samples are generated, and at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import notice


@attrs.define
class Report:
    """Writes report.html in the output folder. A page that cannot be written is reported, and never ends a run."""

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
            notice(f"report.html could not be written: {type(error).__name__}: {error}")

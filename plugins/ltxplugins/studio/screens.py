"""The screens of the studio, in the order of the navigation."""

from __future__ import annotations

from ltxplugins.studio.compare.screen import COMPARE
from ltxplugins.studio.data.screen import DATA
from ltxplugins.studio.export.screen import EXPORT
from ltxplugins.studio.run_file.screen import RUN_FILE
from ltxplugins.studio.runs.screen import RUNS
from ltxplugins.studio.studio import Screen
from ltxplugins.studio.try_out.screen import TRY_OUT

SCREENS: tuple[Screen, ...] = (DATA, RUN_FILE, RUNS, COMPARE, TRY_OUT, EXPORT)

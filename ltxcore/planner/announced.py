"""What `ltx run` says of memory before it loads the model."""

from __future__ import annotations

import shlex

from ltxcore.errors import LtxError
from ltxcore.memory import gib
from ltxcore.planner.estimate import Estimator, Need
from ltxcore.planner.largest_batch import of_manifest
from ltxcore.runs.run_plan import RunPlan


def need_at_start(planned: RunPlan, processes: int) -> Need | str:
    """What each device is to hold; or why that is not known.

    Args:
        planned: the run.
        processes: that run it.
    """
    found = planned.outline
    try:
        return Estimator(found, found.base, of_manifest(planned.manifest, found)).need(found.config, processes)
    except (LtxError, RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        # A strategy of the user's may do what needs values, which tensors without memory do not have.
        return f"what it needs in memory is not known: {error}"


def said_at_start(planned: RunPlan, need: Need | str, memory: int) -> str:
    """One line: what each device is to hold, and whether that is too much. A run is not stopped by it, since an estimate is not a fact.

    Args:
        planned: the run.
        need: of each device.
        memory: bytes of a device.
    """
    if isinstance(need, str):
        return need
    line = f"needs about {gib(need.with_margin)} of the {gib(memory)} of each GPU"
    if need.fits(memory):
        return line
    command = shlex.join(["ltx", "plan", str(planned.outline.loaded.path), "--gpus", str(need.processes)])
    return f"WARNING: {line}, and may run out of memory. What would make it fit: {command}"

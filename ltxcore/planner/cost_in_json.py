"""The cost of a run file for programs, as `ltx plan --json` prints it."""

from __future__ import annotations

from typing import Any

import attrs

from ltxcore.planner.costs import Cost


def machine(found: Cost) -> dict[str, Any]:
    """Return the cost in bytes, for `--json`."""
    need = found.need
    return {
        "model": found.found.info.name,
        "engine": need.engine,
        "processes": need.processes,
        "trained_parameters": need.parameters.trained,
        "loaded_parameters": need.parameters.loaded,
        "largest_micro_batch": found.shapes.described,
        "gpu": {
            **attrs.asdict(need.states, filter=lambda field, _: field.name != "host"),
            **({} if need.is_whole else {"optimizer": None}),
            "activations": attrs.asdict(need.activations),
            "decoding": need.decoding,
            "generating": need.generating,
        },
        "gpu_peak": need.device,
        "gpu_peak_with_margin": need.with_margin,
        "gpu_memory": found.memory,
        "fits": found.fits,
        "seconds": {"gpu": found.gpu.name, "step": found.seconds.total, **attrs.asdict(found.seconds)},
        "preprocessing": {"video": found.encoding, "text": found.captions, "fits": found.encoding_fits and found.captions_fit},
        "host": need.host,
        "disk": {
            "checkpoint": need.checkpoint,
            "checkpoints": need.checkpoints,
            "best": need.best,
            "result": need.exported,
            "data": found.data_bytes,
        },
        **_datasets(found),
        "forwards": need.passes.forwards,
        "backwards": need.passes.backwards,
        "samples": None if found.passes is None else found.passes.samples,
        "passes": None if found.passes is None else found.passes.passes,
        "samples_in_step": None if found.passes is None else found.passes.in_step,
        "lacking": list(found.lacking),
        "would_fit": [
            {
                "changes": list(remedy.said),
                "gpu_peak_with_margin": remedy.need.with_margin,
                "host": remedy.need.offloaded,
                "seconds": remedy.seconds,
                "learns_other_weights": remedy.is_learned_otherwise,
            }
            for remedy in found.remedies
        ],
    }


def _datasets(found: Cost) -> dict[str, Any]:
    """Return the shapes of the datasets of objectives; nothing if there are none."""
    config = found.found.config
    each = {label: {"largest_micro_batch": one.described, "tokens": one.tokens_at_once(config)} for label, one in found.others.items()}
    return {"datasets": each} if each else {}

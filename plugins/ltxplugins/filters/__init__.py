"""Filters that make references for an IC-LoRA, or masks, from clips."""

from __future__ import annotations

from ltxcore.api import hookimpl
from ltxplugins.filters.canny import Canny
from ltxplugins.filters.coarse import Blur, Downscale
from ltxplugins.filters.masks import Box, Color, Motion
from ltxplugins.filters.models import Depth, Label, Segmentation


@hookimpl
def ltx_reference_filters() -> dict[str, type]:
    return {
        "canny": Canny,
        "blur": Blur,
        "downscale": Downscale,
        "depth": Depth,
        "segmentation": Segmentation,
        "box": Box,
        "color": Color,
        "motion": Motion,
        "label": Label,
    }

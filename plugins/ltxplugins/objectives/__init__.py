"""The objectives that come with ltx, which define what a model learns from its samples."""

from ltxcore.api import hookimpl
from ltxplugins.objectives.distill import Distill
from ltxplugins.objectives.flow_matching import FlowMatching
from ltxplugins.objectives.preservation import Preservation
from ltxplugins.objectives.regularization import Regularization
from ltxplugins.objectives.slider import Slider
from ltxplugins.objectives.weighted_region import WeightedRegion


@hookimpl
def ltx_objectives() -> dict[str, type]:
    return {
        "flow_matching": FlowMatching,
        "weighted_region": WeightedRegion,
        "preservation": Preservation,
        "regularization": Regularization,
        "slider": Slider,
        "distill": Distill,
    }

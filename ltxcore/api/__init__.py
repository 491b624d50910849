"""The names that a plugin may import from `ltxcore.api` itself; the modules of this package offer the rest by topic.

The names in this package are stable: a name is deprecated for one minor version before it is removed. The topics are provisional
until 1.0. No topic imports a heavy package until a name that needs it is used.
"""

from ltxcore import __version__
from ltxcore.conditions import ConditionUse
from ltxcore.errors import CheckpointError, ConfigError, DataError, LtxError, PluginError, Problem
from ltxcore.flow.loss import masked_loss
from ltxcore.flow.sigmas import add_noise, velocity
from ltxcore.hookspecs import hookimpl
from ltxcore.logs import notice
from ltxcore.modality_tables import ModalityTable, VideoTable
from ltxcore.protocols import (
    MODALITIES,
    Batch,
    Clip,
    Condition,
    DescribesLora,
    Draws,
    Entry,
    Geometry,
    Inputs,
    LazyCommand,
    Manifest,
    Medium,
    Modality,
    ModelInput,
    ReferenceFilter,
    Role,
    Setting,
    SigmaSampler,
    Sound,
    Source,
    StoredLatents,
    Strategy,
    StrategyType,
    Text,
    Tracker,
)
from ltxcore.state import Grid, LatentState
from ltxcore.strategy import Flexible

__all__ = [
    "MODALITIES",
    "Batch",
    "CheckpointError",
    "Clip",
    "Condition",
    "ConditionUse",
    "ConfigError",
    "DataError",
    "DescribesLora",
    "Draws",
    "Entry",
    "Flexible",
    "Geometry",
    "Grid",
    "Inputs",
    "LatentState",
    "LazyCommand",
    "LtxError",
    "Manifest",
    "Medium",
    "Modality",
    "ModalityTable",
    "ModelInput",
    "PluginError",
    "Problem",
    "ReferenceFilter",
    "Role",
    "Setting",
    "SigmaSampler",
    "Sound",
    "Source",
    "StoredLatents",
    "Strategy",
    "StrategyType",
    "Text",
    "Tracker",
    "VideoTable",
    "__version__",
    "add_noise",
    "hookimpl",
    "masked_loss",
    "notice",
    "velocity",
]

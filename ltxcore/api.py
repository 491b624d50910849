"""All that a plugin may import."""

from ltxcore.conditions import ConditionUse
from ltxcore.errors import CheckpointError, ConfigError, DataError, LtxError, PluginError, Problem, notice
from ltxcore.flow.loss import masked_loss
from ltxcore.flow.noise import add_noise, velocity
from ltxcore.hookspecs import hookimpl
from ltxcore.protocols import (
    Batch,
    Clip,
    Condition,
    DescribesLora,
    Draws,
    Entry,
    Geometry,
    Inputs,
    Manifest,
    Medium,
    Modality,
    ModelInput,
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
from ltxcore.strategy import Flexible, ModalityTable

__all__ = [
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
    "LtxError",
    "Manifest",
    "Medium",
    "Modality",
    "ModalityTable",
    "ModelInput",
    "PluginError",
    "Problem",
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
    "add_noise",
    "hookimpl",
    "masked_loss",
    "notice",
    "velocity",
]

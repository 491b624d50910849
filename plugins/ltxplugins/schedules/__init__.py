"""The schedules that come with ltx, which change the learning rate from step to step. Each schedule uses only the
public API.
"""

from ltxcore.api import hookimpl
from ltxplugins.schedules.of_torch import Constant, Cosine, CosineWithRestarts, Linear, Polynomial, Step
from ltxplugins.schedules.warmup_stable_decay import WarmupStableDecay


@hookimpl
def ltx_schedules() -> dict[str, type]:
    return {
        "constant": Constant,
        "linear": Linear,
        "cosine": Cosine,
        "cosine_with_restarts": CosineWithRestarts,
        "polynomial": Polynomial,
        "step": Step,
        "warmup_stable_decay": WarmupStableDecay,
    }

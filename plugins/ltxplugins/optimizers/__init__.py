"""The optimizers that come with ltx. Each optimizer uses only the public API, and imports other packages only when it
is built.
"""

from ltxcore.api import hookimpl
from ltxplugins.optimizers.adafactor import Adafactor
from ltxplugins.optimizers.adamw import AdamW
from ltxplugins.optimizers.adamw8bit import AdamW8bit
from ltxplugins.optimizers.lion import Lion
from ltxplugins.optimizers.muon import Muon
from ltxplugins.optimizers.prodigy import Prodigy
from ltxplugins.optimizers.schedule_free import AdamWScheduleFree


@hookimpl
def ltx_optimizers() -> dict[str, type]:
    return {
        "adamw": AdamW,
        "adamw8bit": AdamW8bit,
        "adamw_schedule_free": AdamWScheduleFree,
        "adafactor": Adafactor,
        "lion": Lion,
        "muon": Muon,
        "prodigy": Prodigy,
    }

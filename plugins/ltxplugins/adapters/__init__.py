"""The adapters that come with ltx. Each adapter uses only the public API, and imports other packages only when it is
used.
"""

from ltxcore.api import hookimpl
from ltxplugins.adapters.dora import Dora
from ltxplugins.adapters.full import Full
from ltxplugins.adapters.loha import Loha
from ltxplugins.adapters.lokr import Lokr
from ltxplugins.adapters.lora import Lora
from ltxplugins.adapters.pissa import Pissa


@hookimpl
def ltx_adapters() -> dict[str, type]:
    return {"lora": Lora, "dora": Dora, "lokr": Lokr, "loha": Loha, "pissa": Pissa, "full": Full}

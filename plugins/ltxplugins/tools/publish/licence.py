"""Find the license of a trained model, which is a derivative of its base model and has the same license."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from ltxcore.api.runs import Record

TINY = "tiny"
NAMES = ("LICENSE*", "LICENCE*", "NOTICE*")
"""The files beside a base model that must accompany its copies and derivatives."""


@attrs.frozen
class Licence:
    """A license of models, in the Hub's terms.

    Attributes:
        key: the Hub's key for the license: "apache-2.0", or "other" for a license with a name and link.
        name: the full name.
        link: the address of the license text; "" if it is not known.
        base: the base model on the Hub; "" if it is not known.
    """

    key: str
    name: str
    link: str
    base: str


_LTX = "https://github.com/Lightricks/LTX-2/blob/main/"

LICENCES: Mapping[str, Licence] = MappingProxyType(
    {
        TINY: Licence("apache-2.0", "Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0", ""),
        "2.0": Licence("other", "LTX-2 Community License Agreement", f"{_LTX}LICENSE-2", "Lightricks/LTX-2"),
        "2.3": Licence("other", "LTX-2 Community License Agreement", f"{_LTX}LICENSE-2", "Lightricks/LTX-2.3"),
        "2.5": Licence("other", "LTX-2.x Community License Agreement", f"{_LTX}LICENSE-2_x", "Lightricks/LTX-2.5"),
    }
)
"""The licenses, as the publisher states them, by the generation of the base model."""

UNKNOWN = Licence("other", "the licence of the base model", "", "")


def licence_of(record: Record) -> Licence:
    return LICENCES.get(record.weights.metadata.get("generation", "") if record.weights else "", UNKNOWN)


def notice(record: Record) -> str:
    """Return the notice that must accompany a derivative: the base model, the fact that it was changed, and the
    license.
    """
    licence = licence_of(record)
    base = Path(str(record.get("model.model_path", ""))).name
    kind = "a LoRA trained on" if record.get("model.training_mode") == "lora" else "a fine-tuned version of"
    where = f" ({licence.base})" if licence.base else ""
    text = f"{licence.name}: {licence.link}" if licence.link else f"{licence.name}; see where it was published"
    return (
        f"This is {kind} the base model {base}{where}, and differs from it by that training. As a derivative of the base model, it falls under the licence of the "
        f"base model and its conditions of use, and must be passed on with them.\n\n{text}"
    )


def licence_files(record: Record) -> list[Path]:
    """Return the license texts and notices that are stored with the base model."""
    path = Path(str(record.get("model.model_path", "")))
    if not path.is_absolute():
        return []
    folder = path if path.is_dir() else path.parent
    return sorted({found for pattern in NAMES for found in folder.glob(pattern) if found.is_file()})

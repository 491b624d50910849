"""Say what encoding is about to do, before it begins: how many samples it encodes, of which sizes, and how much disk space they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ltxcore.encode.standing import Standing
from ltxcore.encode.survey import Survey
from ltxcore.errors import LtxError, many
from ltxcore.logs import inform
from ltxcore.memory import gib
from ltxcore.models.base import base_of
from ltxcore.runs.disk_space import free_bytes, latent_bytes

SHOWN = 12
"""The largest number of sizes to list."""


def announce(seen: Survey, standing: Standing) -> None:
    """Tell the user what encoding is about to do."""
    for line in told(seen, standing):
        inform(line)


def told(seen: Survey, standing: Standing) -> Iterator[str]:
    """Yield the lines that say what encoding is about to do; none if everything is up to date.

    Args:
        seen: the survey of the dataset.
        standing: the state of the samples that can be made.
    """
    if not standing.encodes:
        return
    because = [f"{len(standing.missing):,} new"] if standing.missing else []
    because += [f"{len(names):,} since {why}" for why, names in standing.anew.items()]
    again = f" ({', '.join(because)})" if standing.anew else ""
    fresh = f", {len(standing.fresh):,} up to date" if standing.fresh else ""
    yield f"{seen.encoding.data.path}: {many(standing.encodes, 'sample', 'samples')} to encode{again}{fresh}"
    planned = [each for each in seen.planned if each.sample.name in standing.names]
    sizes = Counter("without video" if each.bucket is None else str(each.bucket) for each in planned)
    listed, others = sizes.most_common(SHOWN), sizes.most_common()[SHOWN:]
    if others:
        listed.append((f"other sizes ({len(others):,})", sum(count for _, count in others)))
    for size, count in listed:
        yield f"  {size:<15}  {many(count, 'sample', 'samples')}"
    try:
        widths = base_of(seen.encoding.codecs.path).token_widths if seen.encoding.codecs is not None else None
    except LtxError:  # the path names VAEs alone
        widths = None
    if widths is not None:
        free = free_bytes(seen.encoding.root)
        space = "" if free is None else f", where {gib(free)} are free"
        media = [each for each in planned if each.sample.name not in standing.of_captions]
        what = f"{gib(latent_bytes(media, seen, widths))} of latents, and the text features," if media else "text features"
        yield f"  {what} go to {seen.encoding.root}{space}"

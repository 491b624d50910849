"""Write the whole page, with first screen, sections, style and script, as one file that needs no other files."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from ltxcore.api import __version__
from ltxcore.api.runs import Record
from ltxplugins.tools.report.first import first_screen
from ltxplugins.tools.report.markup import Markup, joined, tag
from ltxplugins.tools.report.media import Shelf
from ltxplugins.tools.report.sections import curves, data_summary, duration, run_file, samples, trained

FOLDER = Path(__file__).parent

STATUS = {"finished": "finished", "stopped": "stopped before its end", "running": "not finished"}

PARTS = (
    ("answers", "Summary"),
    ("curves", "Curves"),
    ("samples", "Samples"),
    ("data", "Data"),
    ("trained", "What was trained"),
    ("run-file", "Run file"),
)


def page(record: Record, shelf: Shelf) -> str:
    """Return the whole page as HTML."""
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=f"ltx {__version__}"),
        tag("title", f"{record.name} · ltx"),
        tag("style", Markup((FOLDER / "page.css").read_text(encoding="utf-8"))),
    )
    parts = [first_screen(record, shelf), curves(record), samples(record, shelf), data_summary(record), trained(record), run_file(record)]
    body = tag("body", _header(record), tag("main", *parts), _footer(), tag("script", Markup(script)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _policy(script: str) -> str:
    """Return a security policy that allows no content from elsewhere and no script but our own, whatever a caption or a
    file name contains.
    """
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    media = "data: blob: file: 'self'"
    return f"default-src 'none'; script-src 'sha256-{hashed}'; style-src 'unsafe-inline'; img-src {media}; media-src {media}"


def _header(record: Record) -> Markup:
    status = str(record.status["status"])
    lora = record.get("model.training_mode") == "lora"
    what = record.adapters if lora else "Full fine-tuning"
    generated = [name for name, table in record.modalities.items() if table["is_generated"]]
    base = Path(str(record.get("model.model_path", ""))).name
    said = [f"{what} on {base}", f"{' and '.join(generated)} generated" if generated else None]
    said += [f"{record.last_step:,} of {record.total_steps:,} steps", duration(record.seconds) if record.seconds else None]
    ended, best = record.status.get("ended"), record.status.get("best")
    if ended:
        said.append(f"ended early, since {ended}")
    elif best and best["value"] is not None:
        said.append(f"lowest validation loss {best['value']:.4f} after step {best['step']:,}")
    links = tag("nav", *(tag("a", title, href=f"#{anchor}") for anchor, title in PARTS))
    title = tag("h1", record.name, tag("span", STATUS[status], class_=f"status {status}"))
    return tag("header", title, tag("p", joined(filter(None, said), " · ")), links)


def _footer() -> Markup:
    return tag("footer", f"Written by ltx {__version__} from the files beside it. Update it with `ltx report`.")

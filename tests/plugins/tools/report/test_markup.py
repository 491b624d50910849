"""HTML of pieces: nothing that is not markup becomes part of it."""

from __future__ import annotations

import json

from helpers.made_run import HOSTILE
from ltxplugins.tools.report.markup import Markup, data, joined, tag, text


def test_text_is_escaped_and_markup_is_not() -> None:
    assert text("<b>") == "&lt;b&gt;"
    assert text(Markup("<b>")) == "<b>"
    assert tag("p", "a & b", tag("i", "<"), None, class_="x", data_step=3, hidden=True, title=None, open=False) == (
        '<p class="x" data-step="3" hidden>a &amp; b<i>&lt;</i></p>'
    )
    assert tag("img", src='"><script>') == '<img src="&quot;&gt;&lt;script&gt;">'
    assert tag("rect", x=1) == '<rect x="1"/>'
    assert joined(["a", None, "<"], ", ") == "a, &lt;"


def test_a_value_for_scripts_cannot_end_its_element_and_is_the_same_when_read() -> None:
    written = data({"name": HOSTILE})
    assert written.startswith('<script type="application/json">')
    inner = written.removeprefix('<script type="application/json">').removesuffix("</script>")
    assert not set("<>&\u2028") & set(inner)
    assert json.loads(inner) == {"name": HOSTILE}

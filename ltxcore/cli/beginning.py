"""The parts of a template of `ltx plugins new`."""

from __future__ import annotations

import attrs


@attrs.frozen
class Beginning:
    """The template of a plugin of one kind, with `$name`, `$cls` and `$module` as placeholders.

    Attributes:
        does: what the plugin does, worded to follow "The KIND for ltx:".
        made: what the plugin does, worded to follow "the KIND, which".
        use: how a run file, or a command, names the plugin.
        method: the method to change.
        change: the purpose of changing it.
        module: the text of the plugin's module.
        test: the text of its tests.
        place: where `use` is written.
        language: the language of `use`.
    """

    does: str
    made: str
    use: str
    method: str
    change: str
    module: str
    test: str
    place: str = "In a run file"
    language: str = "toml"

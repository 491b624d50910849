"""What a template of `ltx plugins new` consists of."""

from __future__ import annotations

import attrs


@attrs.frozen
class Beginning:
    """A plugin of one kind, with `$name`, `$cls` and `$module` to be filled in.

    Attributes:
        does: what the plugin does, as it follows "The KIND for ltx:".
        made: what the plugin does, as it follows "the KIND, which".
        use: how a run file names the plugin.
        method: the method to change.
        change: the purpose of changing it.
        module: the text of the plugin's module.
        test: the text of its tests.
    """

    does: str
    made: str
    use: str
    method: str
    change: str
    module: str
    test: str

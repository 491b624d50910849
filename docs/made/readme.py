"""What the README takes from elsewhere: `python docs/made/readme.py` writes it, and a test compares.

The condition is the code of a built-in one; the table of what each mode learns is that of docs/reference/modes.md. The table of hardware is
`docs/made/memory.py`'s.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

from pages import DOCS, _table, between

README = DOCS.parent / "README.md"
CONDITION = DOCS.parent / "plugins" / "ltxplugins" / "conditions" / "first_frame.py"
MODES = DOCS / "reference" / "modes.md"
CODE = "<!-- made by docs/made/readme.py from plugins/ltxplugins/conditions/first_frame.py -->"
LEARNED = "<!-- made by docs/made/readme.py from docs/reference/modes.md -->"
END = "<!-- end -->"
HEAD = ("mode", "generated", "swapped", "base model", "trained", "trained, swapped")


def whole(text: str) -> str:
    """The README with what is made for it."""
    return between(between(text, CODE, END, f"```python\n{condition()}```\n"), LEARNED, END, _table(HEAD, learned()))


def condition() -> str:
    """The code of the condition, without the docstrings of its methods, which say where formulas come from."""
    text = CONDITION.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            left_out |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return "".join(line for number, line in enumerate(text.splitlines(keepends=True), 1) if number not in left_out)


def learned() -> Iterator[tuple[str, ...]]:
    """A row for each mode: what it generates, what is swapped for another clip's, and the three losses of each modality."""
    rows = re.findall(r"^\| \[`(\w+)`\]\(\S+\) \| (.*) \|$", MODES.read_text(encoding="utf-8"), re.MULTILINE)
    of_mode: dict[str, list[list[str]]] = {}
    for mode, cells in rows:
        if cells.count("|") == len(("generated", "swapped", "clips", "before", "after", "other")):
            of_mode.setdefault(mode, []).append(cells.split(" | "))
    for mode, each in of_mode.items():
        page = DOCS / "how-to" / "modes" / f"{mode}.md"
        title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        generated, swapped, _, *losses, _ = zip(*each, strict=True)
        numbers = (", ".join(f"{float(loss.split()[0]):.2f}" for loss in found) for found in losses)
        yield f"[{title}]({page.relative_to(README.parent).as_posix()})", ", ".join(generated), swapped[0], *numbers


def main() -> None:
    README.write_text(whole(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

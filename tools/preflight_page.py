"""Plants every bug in a clean stage, makes every check, and writes docs/preflight.md with what was caught.

Usage: python tools/preflight_page.py   (about ten minutes on one core)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "preflight.md"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from trimpot.preflight.check import Check, Result

CAUGHT, ALSO, UNHARMED = "●", "○", ""
CLEAN = "no bug"
INTRODUCTION = """# Preflight

Made by `tools/preflight_page.py`, which plants every bug and makes every check; do not edit it.

`trimpot preflight RECIPE` asks of every stage, before it trains, whether what is built learns what it is shown and
nothing else. Most of the list is Karpathy's
[Recipe for Training Neural Networks](https://karpathy.github.io/2019/04/25/recipe/), made into rules that pass or fail.
The cheap checks are made before every `trimpot run` as well: when one fails, nothing is trained, and one line for each
failure says what to do and how to skip it. `--thorough` adds the short runs. `--stage` and `--check` choose, `--json`
has it all, the decoded rows and logged predictions included.

```yaml
preflight: {skip: [duplicates]}   # in a recipe, kept with the run; or --set 'preflight.skip=[duplicates]'
```

A run keeps what it was told in `preflight.json`. A stage whose rows an earlier stage writes has them checked when it
begins; what needs its model is not. Later stages are checked on the recipe's own model. Checks of rounding are for
float32 weights. That training on several processes gives what one process gives is not checked yet.
"""
CHECKED = """## Checks

| # | Check | Asks | Passes when | Time limit | What to do |
| --- | --- | --- | --- | --- | --- |
"""
MATRIX = """## Planted bugs

Each bug is put into a stage of a tiny model that is clean without it (`tests/preflight/bugs.py`), then every check is
made. ● the check that must catch the bug did. ○ another check caught it too: attention across rows, say, changes
gradients, sampling and accumulation at once. Nothing is marked in the row without a bug.
"""


def preflight_page(found: Mapping[str, Mapping[str, Sequence[Result]]]) -> str:
    """The page as markdown. ``found``: by kind of stage, by name of the bug (CLEAN: none), what the checks said."""
    parts = [INTRODUCTION, checks_section(), MATRIX]
    parts += [matrix_section(kind, by_bug) for kind, by_bug in found.items()]
    return "\n".join(parts).rstrip() + "\n"


def checks_section() -> str:
    """The table of checks, numbered as the columns of the matrix are."""
    from trimpot.preflight.table import CHECKS

    lines = [_check_line(number, check) for number, check in enumerate(CHECKS.values(), start=1)]
    return CHECKED + "\n".join(lines) + "\n"


def _check_line(number: int, check: Check) -> str:
    thorough = " (`--thorough`)" if check.thorough else ""
    cells = (f"`{check.id}`{thorough}", check.what, check.rule, f"{check.seconds:g} s", check.mend)
    return f"| {number} | " + " | ".join(cells) + " |"


def matrix_section(kind: str, by_bug: Mapping[str, Sequence[Result]]) -> str:
    """One kind of stage: bugs in rows, checks by number in columns."""
    from tests.preflight.bugs import BUGS
    from trimpot.preflight.table import CHECKS

    own = {bug.name: bug for bug in BUGS}
    lines = [
        f"### {kind}\n",
        "| Planted bug | What it is | " + " | ".join(str(number) for number in range(1, len(CHECKS) + 1)) + " |",
        "| --- | --- |" + " --- |" * len(CHECKS),
    ]
    for name, results in by_bug.items():
        failed = {one.check for one in results if one.failed}
        caught = None if name == CLEAN else own[name].check
        marks = [(CAUGHT if check == caught else ALSO) if check in failed else UNHARMED for check in CHECKS]
        what = "the stage as it is" if name == CLEAN else own[name].what
        lines.append(f"| {name} | {what} | " + " | ".join(marks) + " |")
    return "\n".join(lines) + "\n"


def measure(kind: str) -> dict[str, Sequence[Result]]:
    """What every check says of the clean stage and of the stage with each bug."""
    from tests.preflight import bench
    from tests.preflight.bugs import BUGS
    from trimpot.preflight.run import run_checks
    from trimpot.preflight.table import CHECKS

    checks = list(CHECKS.values())
    found: dict[str, Sequence[Result]] = {CLEAN: run_checks(bench.built(kind), checks)}
    for number, bug in enumerate(BUGS, start=1):
        with bug.plant(kind) as stage:
            found[bug.name] = run_checks(stage, checks)
        print(f"{kind}: {number} of {len(BUGS)} bugs", file=sys.stderr)
    return found


def main() -> None:
    """Measures, refuses to write a page with a miss or a false alarm, writes it."""
    import torch

    from tests.preflight import bench
    from tests.preflight.bugs import BUGS
    from trimpot.store.atomic import write_text

    torch.set_num_threads(1)
    found = {kind: measure(kind) for kind in bench.STAGES}
    for kind, by_bug in found.items():
        wrong = [one.check for one in by_bug[CLEAN] if one.failed]
        missed = [bug.name for bug in BUGS if bug.check not in {one.check for one in by_bug[bug.name] if one.failed}]
        if wrong or missed:
            sys.exit(f"{kind}: failed without a bug: {wrong}; missed: {missed}")
    write_text(PAGE, preflight_page(found))


if __name__ == "__main__":
    main()

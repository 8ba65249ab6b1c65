"""One peer's process: runs a job and speaks with the suite in lines of JSON. Not for calling by hand.

After every step of a job that takes turns it writes {"step": true} and waits for a line; at the end it writes
{"result": …}. Everything else that it prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def main(arguments: list[str]) -> None:
    """``arguments``: module, peer, sizes as JSON, and "turns" for a job that takes turns."""
    module, peer, sizes, *turns = arguments
    # Libraries print: what this process says to the suite gets a way of its own.
    speak = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        speak.write(json.dumps(message) + "\n")

    def gate() -> None:
        say({"step": True})
        if not sys.stdin.readline():
            sys.exit("the suite has gone")

    run = importlib.import_module(f"benchmarks.{module}").run
    say({"result": run(peer, **json.loads(sizes), **({"gate": gate} if turns else {}))})


if __name__ == "__main__":
    main(sys.argv[1:])

"""Runs pytest many times without importing the same modules each time: ``python warm.py MODULE …``.

It imports the modules, writes ``ready``, and then forks for each line of standard input. The child runs pytest as the
line says; its exit status goes to standard output.
"""

import faulthandler
import gc
import importlib
import json
import os
import sys
from typing import Any


def main() -> None:
    gc.disable()
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()
    _answer("ready")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.exit(_tested(**json.loads(line)))
        _, status = os.waitpid(child, 0)
        _answer(os.waitstatus_to_exitcode(status))


def _answer(answer: object) -> None:
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()


def _tested(arguments: list[str], environ: dict[str, str], output: str, most: float) -> Any:
    """The exit status of pytest, which is ended after ``most`` seconds."""
    os.environ.update(environ)
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.dump_traceback_later(most, exit=True)
    return importlib.import_module("pytest").main(arguments)


if __name__ == "__main__":
    main()

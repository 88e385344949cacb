"""Compares the table of engine options with the engines' own argument parsers.

    scripts/soak engine_options                     every engine whose program is on PATH
    scripts/soak engine_options vllm tgi=help.txt   these; the second one's help is in a file
    scripts/soak engine_options vllm=/venv/bin/python sglang=/venv/bin/python

The last one asks the parser itself, of the engine that this Python has: whether it takes each flag
with a value of the table's type. Otherwise prints each flag or variable of the table that an
engine's help does not name. The exit status is 1 when anything is wrong, 2 when no engine could be
asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from trunkline.residency.engine_table import OPTIONS

# Engine -> how its help is asked for.
HELP: Mapping[str, tuple[str, ...]] = {
    "vllm": ("vllm", "serve", "--help=all"),
    "sglang": ("python3", "-m", "sglang.launch_server", "--help"),
    "tgi": ("text-generation-launcher", "--help"),
    "llamacpp": ("llama-server", "--help"),
    "lmdeploy": ("lmdeploy", "serve", "api_server", "--help"),
    "tensorrt-llm": ("trtllm-serve", "serve", "--help"),
    "ollama": ("ollama", "serve", "--help"),
    "litellm": ("litellm", "--help"),
}
# Variables that a server reads although its launcher's help does not name them.
UNNAMED = frozenset({"PREFIX_CACHING", "PREFILL_CHUNKING"})
_TIMEOUT = 300.0
_WORD = re.compile(r"(?<![\w-])(?:--?[A-Za-z][\w-]*|[A-Z][A-Z0-9]*_[A-Z0-9_]+)")


def spellings(engine: str) -> set[str]:
    """The engine's flags and variables in the table."""
    words = (option.spellings.get(engine, "").split() for option in OPTIONS)
    return {word.removeprefix("!") for row in words for word in row}


def missing(engine: str, text: str) -> list[str]:
    """What the table has and the help does not.

    Parsers that write "--[no-]flag" mean both.
    """
    text += re.sub(r"--\[no-\]", "--no-", text) + re.sub(r"--\[no-\]", "--", text)
    return sorted(spellings(engine) - UNNAMED - set(_WORD.findall(text)))


def help_of(engine: str) -> str | None:
    """What the engine prints; None when it is not installed."""
    command = HELP[engine]
    if shutil.which(command[0]) is None:
        return None
    wide = {**os.environ, "COLUMNS": "200"}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, env=wide
    )
    return result.stdout if result.returncode == 0 else None


def refused(engine: str, python: str) -> list[str]:
    """What the engine's own parser does not take as the table has it, asked through `python`."""
    options = [
        {
            "name": option.name,
            "type": option.type,
            "on": option.flags(engine),
            "off": option.contrary(engine),
        }
        for option in OPTIONS
        if engine in option.spellings
    ]
    result = subprocess.run(
        [python, str(Path(__file__).with_name("engine_parsers.py"))],
        input=json.dumps({"engine": engine, "options": options}),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if result.returncode:
        return [f"its parser cannot be asked: {result.stderr.strip()[-300:]}"]
    found: list[str] = json.loads(result.stdout)
    return found


def main(arguments: Sequence[str]) -> int:
    """Compare; returns the exit status."""
    asked = wrong = 0
    for argument in arguments or HELP:
        engine, _, file = argument.partition("=")
        if Path(file).name.startswith("python"):
            gone = refused(engine, file)
        else:
            text = Path(file).read_text(encoding="utf-8") if file else help_of(engine)
            if text is None:
                print(f"{engine:<14} not installed")
                continue
            gone = missing(engine, text)
        asked += 1
        wrong += bool(gone)
        print(f"{engine:<14} {len(spellings(engine))} spellings, wrong: {'; '.join(gone) or '-'}")
    return 2 if not asked else int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

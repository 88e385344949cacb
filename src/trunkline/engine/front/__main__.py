"""The front process of one model.

    python -m trunkline.engine.front --socket PATH --config JSON [--lifeline FD]

Listens on the Unix socket PATH for gateway workers, before it loads anything. `--lifeline` is the
reading end of a pipe whose other end the parent holds: when it closes, the front ends. Without it
the kernel ends the front with its parent (Linux). SIGTERM ends it at once; SIGINT is the parent's
to handle. Exit status 1: the model cannot be loaded; the reason is on stderr and was sent to the
gateway.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from trunkline.core.errors import TrunklineError
from trunkline.core.lineage import die_with_parent
from trunkline.engine.config import decode_config
from trunkline.engine.front import known_vocabulary


def main() -> int:
    """Entry of the process; the return value is its exit status."""
    parser = argparse.ArgumentParser(prog="trunkline-front", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--lifeline", type=int)
    arguments = parser.parse_args()
    if arguments.lifeline is None:
        die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=os.environ.get("TRUNKLINE_LOG_LEVEL", "WARNING"))
    try:
        config = decode_config(arguments.config)
        # What is imported is half of a front's start: it happens beside the threads that read.
        vocabulary = known_vocabulary.begin(config)
        from trunkline.engine.front import model_file

        reading = model_file.begin(config, vocabulary)
        from trunkline.engine.front.serving import run

        run(config, reading, arguments.socket, arguments.lifeline)
    except TrunklineError as error:
        sys.stderr.write(f"trunkline: {error.message}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"trunkline: {error}\n")
        return 1
    finally:
        arguments.socket.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

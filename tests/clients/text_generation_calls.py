"""Calls a server with TGI's own client and prints what came back as JSON.

    text_generation_calls.py URL

Runs in an environment of its own (scripts/setup_clients); tests/e2e/test_tgi_clients.py judges.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from text_generation import Client
from text_generation.errors import GenerationError, ValidationError


def main(url: str) -> None:
    """Whole answers, a stream, several rows, and what is refused."""
    client = Client(url, timeout=30)
    # The client asks for the prompt's tokens unless it is told not to.
    brief: dict[str, Any] = {"max_new_tokens": 64, "decoder_input_details": False}
    whole = client.generate("Say it", **brief)
    events = list(client.generate_stream("unicode", max_new_tokens=64))
    best = client.generate("rows", best_of=3, do_sample=True, **brief)
    # Not its streamed chat: since pydantic 2 it demands a field that no server of TGI's sends.
    chat: Any = client.chat(messages=[{"role": "user", "content": "Say it"}], max_tokens=64)
    raised = []
    for prompt, options in (("Say it", {"watermark": True}), ("fail", {})):
        try:
            client.generate(prompt, **brief, **options)
        except (GenerationError, ValidationError) as error:
            raised.append(type(error).__name__)
    told = {
        "whole": whole.generated_text,
        "reason": whole.details.finish_reason.value,
        "tokens": whole.details.generated_tokens,
        "stream": "".join(e.token.text for e in events if not e.token.special),
        "last": events[-1].generated_text,
        "best": sorted(
            [best.generated_text, *(o.generated_text for o in best.details.best_of_sequences)]
        ),
        "chat": chat.choices[0].message.content,
        "raised": raised,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])

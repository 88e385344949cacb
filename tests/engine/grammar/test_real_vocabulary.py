"""The same with a BPE vocabulary out of a GGUF file, where tokens cross what grammars divide."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest

from tests.engine.grammar.follow import ROW
from trunkline.core.types import Grammar
from trunkline.engine.frames import RowGrammar
from trunkline.engine.grammar.masker import Masker
from trunkline.engine.grammar.messages import outline
from trunkline.engine.grammar.vocabulary import outline_tokenizer
from trunkline.engine.grammar.worker import checked
from trunkline.text.gguf_tokenizer import load_tokenizer

CABOOSE = Path(__file__).parents[3] / "src/trunkline/models_bundled/caboose.gguf"
SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "string", "maxLength": 30},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"enum": ["red", "reddish", "blue"]}, "maxItems": 3},
    },
    "required": ["answer", "score", "tags"],
    "additionalProperties": False,
}


@pytest.mark.skipif(not CABOOSE.exists(), reason="the bundled model has not been made")
@pytest.mark.parametrize("seed", range(5))
def test_a_random_walk_over_real_tokens_is_valid(seed: int) -> None:
    tokenizer = load_tokenizer(CABOOSE)
    grammar = Grammar("json_schema", json.dumps(SCHEMA))
    of = Masker(tokenizer, max_rows=1)
    of.open(ROW, RowGrammar(checked(grammar, outline_tokenizer(outline(tokenizer)))))
    choose = random.Random(seed)
    text = b""
    while not of.ended(ROW) and len(text) < 4000:
        masks = of.masks([ROW])
        assert masks is not None
        bits = np.unpackbits(masks[0].view(np.uint8), count=tokenizer.vocab_size, bitorder="little")
        token = choose.choice(np.flatnonzero(bits).tolist())
        assert of.accept(ROW, token) is None
        text += b"" if token in tokenizer.eog else tokenizer.piece(token)
    of.shutdown()
    tokenizer.close()
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(text))

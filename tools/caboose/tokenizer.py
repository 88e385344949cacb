"""The byte-level BPE: trained on the corpus, digits one by one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from caboose.corpus.mix import examples
from caboose.template import CONTROL_TOKENS, TEXT_TOKENS, render

# libllama's name for this regex (llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_QWEN2).
PRE_TOKENIZER = "qwen2"
SPLIT_PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY_SIZE = 4096


def _texts(seed: int, count: int) -> Iterator[str]:
    for example in itertools.islice(examples(seed), count):
        text = "".join(piece for piece, _ in render(example))
        for token in (*CONTROL_TOKENS, *TEXT_TOKENS):
            text = text.replace(token, "\n")
        yield text


def train_tokenizer(
    seed: int, count: int = 30_000, size: int = VOCABULARY_SIZE
) -> tuple[Tokenizer, dict[str, Any]]:
    """Learns the merges on `count` examples; gives the tokenizer and its `tokenizer.json`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(CONTROL_TOKENS) - len(TEXT_TOKENS),
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, count), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in CONTROL_TOKENS]
    )
    tokenizer.add_tokens(
        [AddedToken(text, special=False, normalized=False) for text in TEXT_TOKENS]
    )
    if tokenizer.get_vocab_size() != size:
        raise ValueError(
            f"the corpus gave {tokenizer.get_vocab_size()} entries instead of {size}: "
            "train on more examples"
        )
    return tokenizer, json.loads(tokenizer.to_str())

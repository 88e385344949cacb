"""The byte-level BPE: trained on the corpus, digits one by one, words without their space."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from caboose.corpus import calls, objects, words
from caboose.corpus.mix import examples
from caboose.template import CONTROL_TOKENS, TEXT_TOKENS, render

# libllama's name for this regex (llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_QWEN2).
PRE_TOKENIZER = "qwen2"
SPLIT_PATTERN = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY_SIZE = 4096
# Frequent words that also get an entry with their leading space.
SPACED_WORDS = 400


def _content_words() -> set[str]:
    """What prompts are about, and answers copy: these words have one entry each."""
    lists = (
        words.NAMES,
        words.ADJECTIVES,
        words.THINGS,
        words.ANIMALS,
        words.CITIES,
        words.ROLES,
        words.VEHICLES,
        words.TIMES,
        words.COLOURS,
        words.VERBS,
        objects.FIELD_NAMES,
        calls.TOOL_WORDS,
    )
    return {word for words_of_a_kind in lists for word in words_of_a_kind}


def _texts(seed: int, count: int) -> list[str]:
    texts = []
    for example in itertools.islice(examples(seed), count):
        text = "".join(piece for piece, _ in render(example))
        for token in (*CONTROL_TOKENS, *TEXT_TOKENS):
            text = text.replace(token, "\n")
        texts.append(text)
    return texts


def _learn_words(texts: list[str], size: int) -> dict[str, Any]:
    """A BPE whose merges never join letters with what stands before them.

    So a word is the same entries after a space, a quote or an underscore, and copying it from a
    question into JSON or from a tool's name is copying, not translating.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.Split(Regex(r"\p{L}+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    return data


def _add_spaced_words(data: dict[str, Any], texts: list[str], most: int) -> None:
    """Appends ` word` entries for the most frequent words that only hold sentences together."""
    vocab: dict[str, int] = data["model"]["vocab"]
    content = _content_words()
    counts = Counter(word for text in texts for word in re.findall(r" ([A-Za-z]+)", text))
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    usable = [w for w in frequent if w in vocab and w not in content]
    for word in usable[:most]:
        vocab[f"Ġ{word}"] = len(vocab)
        data["model"]["merges"].append(["Ġ", word])


def train_tokenizer(
    seed: int, count: int = 30_000, size: int = VOCABULARY_SIZE, spaced: int = SPACED_WORDS
) -> tuple[Tokenizer, dict[str, Any]]:
    """Learns the merges on `count` examples; gives the tokenizer and its `tokenizer.json`."""
    texts = _texts(seed, count)
    specials = len(CONTROL_TOKENS) + len(TEXT_TOKENS)
    data = _learn_words(texts, size - specials - spaced)
    _add_spaced_words(data, texts, spaced)
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
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

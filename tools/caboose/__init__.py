"""Builds the bundled demo model: corpus, tokenizer, model, trainer and export."""

"""Text Generation Inference's own dialect: generate, stream, tokenize, info, errors."""

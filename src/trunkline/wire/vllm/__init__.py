"""What vLLM's server has beside OpenAI's dialect: tokenize, detokenize, load, version."""

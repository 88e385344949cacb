"""Ollama's dialect: generate, chat, and what its clients ask about models."""

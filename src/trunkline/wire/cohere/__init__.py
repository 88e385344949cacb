"""Cohere's chat, version 2, spoken to the service."""

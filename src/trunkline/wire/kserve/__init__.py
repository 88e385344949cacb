"""KServe's v2 protocol as far as it speaks of text: health, metadata, the generate extension."""

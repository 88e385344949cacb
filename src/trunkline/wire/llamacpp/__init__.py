"""llama.cpp's own dialect: completion, infill, tokens and templates, what its server says."""

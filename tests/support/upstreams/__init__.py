"""Stand-ins for servers that cannot run here: hosted APIs, TGI, Ollama.

Written from public documentation, each with its source; never with our own codecs. The vendors'
own clients judge them (tests/upstreams).
"""

"""Configuration files: `trunkline.yaml`, and LiteLLM's `config.yaml` as it is.

loaded = load("trunkline.yaml", os.environ)
loaded.config   # backends, routes, engines, server, keys: typed, complete, references resolved
loaded.notes    # what the file asks for and is not done
"""

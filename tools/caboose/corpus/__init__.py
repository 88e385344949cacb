"""The training text: everything is generated from a seed, nothing is collected."""

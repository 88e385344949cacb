"""Credentials for backends: `secrets` finds keys, `schemes` makes header fields of them.

`sigv4` signs for AWS, `gcp` gets access tokens of Google Cloud.
"""

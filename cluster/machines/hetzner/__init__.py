"""Hetzner Cloud: servers that are made, what the API offers, and what is left after a destroy."""

"""Texts, the live stream, what is shared."""

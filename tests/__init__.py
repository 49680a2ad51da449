"""Mirrors the rooms. Every folder has an __init__.py: without it `tests/api` would hide `api`."""

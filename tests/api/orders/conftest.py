"""Every test of the order book runs on both databases that it may live in."""

from tests.registry.conftest import database

__all__ = ["database"]

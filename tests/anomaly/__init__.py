"""Tests of the room `anomaly`."""

"""Meters that name their data."""

"""Drivers against misbehaving meters."""

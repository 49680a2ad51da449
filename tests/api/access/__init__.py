"""Tests of api.access."""

"""Tests of what routes read from registry and store."""

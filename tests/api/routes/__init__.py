"""Tests of the addresses."""

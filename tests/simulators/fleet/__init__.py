"""Tests of the fleet generator."""

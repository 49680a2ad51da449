"""Tests of the edge program."""

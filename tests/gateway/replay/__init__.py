"""Tests of gateway/replay."""

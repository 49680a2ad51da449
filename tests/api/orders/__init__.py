"""Tests of api.orders."""

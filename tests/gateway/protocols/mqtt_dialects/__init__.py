"""Tests of the MQTT dialects."""

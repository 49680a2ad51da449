"""Tests of the codecs: golden frames, round trips, refusals."""

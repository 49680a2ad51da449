"""REST over what the store has confirmed. Thin routes over plain functions."""

"""The shared words of Metergate: readings, quantities, messages, errors, settings, clock.

This room imports nothing of ours; every other room may import it.
"""

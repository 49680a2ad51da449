"""The front door: the command line, and the one place that wires the rooms together."""

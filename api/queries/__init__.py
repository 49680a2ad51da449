"""Plain functions that read registry and store; routes only call them. Each takes a connection and blocks."""

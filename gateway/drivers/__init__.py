"""The I/O: open, write, read until the codec is satisfied or the deadline passes, close."""

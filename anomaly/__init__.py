"""Interval matrix, rules, engine and back-test: what an index can tell.

Pure of files and clocks: time and rows come in as arguments. `files` reads and writes for the command line.
"""

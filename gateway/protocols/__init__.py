"""Codecs: bytes in, dataclass out. No sockets, ports, files, clock or log in here."""

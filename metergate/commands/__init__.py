"""The commands, one file each; `metergate.__main__` puts them on the front door."""

"""Say in words when the interpreter cannot serve; runs on any Python 3."""

import importlib.util
import sys

if sys.version_info < (3, 11):  # noqa: UP036 (this file is what tells owners of an older Python)
    sys.exit(f"Metergate needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11 …")
if importlib.util.find_spec("ensurepip") is None:
    sys.exit("This Python cannot make virtual environments. On Debian: apt-get install python3-venv")

"""The tables of work orders. Times are [ms UTC], volumes int64 in 10⁻⁶ of the house unit."""

from __future__ import annotations

"""The tables of the books beside `registry.models`. Times are [ms UTC], volumes int64 in 10⁻⁶ of the house unit."""

from __future__ import annotations

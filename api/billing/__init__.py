"""Billing: exact totals of a period, and a reason for every usage point that has none."""

"""Solves with I - P, one algorithm a file."""

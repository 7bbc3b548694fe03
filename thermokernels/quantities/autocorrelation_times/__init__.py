"""Autocorrelation times and functions, of any function and of the series that a trace records."""

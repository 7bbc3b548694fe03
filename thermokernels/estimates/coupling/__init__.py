"""Pairs of chains that meet: couplings, excursions, lag pairs, and their random numbers."""

"""Samples of models of any size: the samplers and their compiled scans."""

"""Solves on lumped chains of exchangeable sites."""

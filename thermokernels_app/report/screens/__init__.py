"""What a command prints: sentences and tables."""

"""What is asked of a chain, one quantity a file."""

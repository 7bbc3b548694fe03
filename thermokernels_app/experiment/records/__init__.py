"""What a run leaves behind: store, journal, lock, strict JSON, environment."""

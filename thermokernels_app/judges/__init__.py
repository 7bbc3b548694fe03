"""What holds a run to account: references, gradient checks, the battery, and the verdicts."""

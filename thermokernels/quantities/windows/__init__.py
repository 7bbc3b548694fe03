"""What a window of samples delivers, for any start and burn-in."""

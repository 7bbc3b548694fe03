"""State reduction: elimination without a subtraction, and what is solved with it."""

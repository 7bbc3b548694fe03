"""Every gate broken on purpose, one at a time, to see that it bites; production code is broken from outside and knows nothing of it."""

"""What every room uses: errors, tolerances, checks of arguments, threads, memory, checkpoints, digits."""

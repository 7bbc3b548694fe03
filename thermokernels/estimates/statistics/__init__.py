"""What is made of replicates: intervals, batch means, the signal, and whether to trust them."""

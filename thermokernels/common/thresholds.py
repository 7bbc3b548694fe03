"""What the preregistered experiment calls large, relevant and fast: the diagnosis of a model of one's own uses the same words."""

# Share of the probability that a basin has to hold.
MASS = 0.004

# Relevance from which the gradient is said to see a basin.
RELEVANCE = 0.03

# Sweeps within which a basin is crossed, both ways.
PASSAGE_SWEEPS = 250.0

"""The diagnosis of a model on a sampler: the numbers, the result, and its words."""

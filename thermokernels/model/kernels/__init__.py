"""The Gibbs samplers, a file for each, and the registry that says what each of them can do."""

"""What needs no experiment: looking at the installation, compiling ahead, reading models."""

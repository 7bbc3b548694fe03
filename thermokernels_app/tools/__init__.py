"""What needs no experiment: comparing traces, looking at the installation, compiling ahead, reading models."""

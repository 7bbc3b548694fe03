"""The commands of `thermo`, a file for each group: arguments in, tables, JSON and exit codes out; numerics are imported inside them."""

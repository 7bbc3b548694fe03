"""The program around the numerics: commands, reports, tools, selftest, the experiment and its judges."""

"""Models with exchangeable sites, lumped exactly: sums over classes, their spectrum, their windows."""

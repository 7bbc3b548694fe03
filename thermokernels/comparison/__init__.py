"""The usual estimators of autocorrelation times beside the exact time of the recorded series."""

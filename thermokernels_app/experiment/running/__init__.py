"""How a run is carried out: runner, campaign, tasks, workers, progress."""

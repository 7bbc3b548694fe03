"""Pictures of runs and models, and the page that holds those of a run; needs the extra `report` (matplotlib, Jinja2)."""

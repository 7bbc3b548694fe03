"""The preregistered run: design, teachers, training, cells, runner, store."""

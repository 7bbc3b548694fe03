"""The check of one checkpoint: a solution that the judge cannot verify stops the run."""

from dataclasses import replace

from thermokernels_app.experiment import cell
from thermokernels_app.experiment.design import Anchor, Design


def test_a_residual_above_its_gate_is_a_halt():
    sound = Design(training=replace(Design().training, steps=1), anchor=Anchor(split=3), directions=1)
    training = cell.train(sound, 4, 2)[2]
    record, _ = cell.check(sound, training, "init")
    assert record["gradient_check"]["value_reference"] == "frozen"
    assert "halt" not in record
    strict = replace(sound, thresholds=replace(sound.thresholds, solve=1e-300))
    record, _ = cell.check(strict, training, "init")
    assert record["halt"]["check"] == "gradient solution_residual"
    assert record["halt"]["detail"].endswith("at most 1e-300 is wanted")

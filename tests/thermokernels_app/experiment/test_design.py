"""The design object: its registered values, its hash, grids from TOML files."""

import math
from dataclasses import FrozenInstanceError, replace

import pytest

from thermokernels_app.experiment.design import GRIDS, Anchor, Design, Training, load_design

pytestmark = pytest.mark.small


def test_the_default_design_is_the_registered_one():
    design = Design().as_dict()
    assert design["seed"] == 0
    assert design["grid"] == {
        "m": [4, 5, 6],
        "split": [1, 2, 3, 4],
        "checkpoints": ["init", "half", "tenth", "final"],
        "codes": [1, 2, 3, 4],
    }
    assert design["basis"] == {"split": [2, 3], "checkpoints": ["half", "tenth", "final"]}
    assert design["anchor"] == {"m": 4, "split": 2, "checkpoint": "half"}
    assert design["teacher"] == {"codes": 4, "beta": 3.0}
    assert design["network"] == {
        "budget": 5,
        "width_per_split": 4,
        "variance_layer": 0.25,
        "variance_slope": 0.25,
        "variance_offset": 0.25,
    }
    assert design["training"] == {
        "steps": 2000,
        "learning_rate": 0.003,
        "decay_mean": 0.9,
        "decay_square": 0.999,
        "epsilon": 1e-8,
        "half": 0.5,
        "tenth": 0.1,
    }
    thresholds = design["thresholds"]
    assert {key: thresholds[key] for key in ("coupling_distance", "value", "difference", "complex")} == {
        "coupling_distance": 1e-6,
        "value": 1e-10,
        "difference": 1e-4,
        "complex": 1e-10,
    }
    assert {key: thresholds[key] for key in ("mass", "barrier", "passage_sweeps", "overlap", "overlap_rider")} == {
        "mass": 0.004,
        "barrier": math.log(2),
        "passage_sweeps": 250.0,
        "overlap": 0.03,
        "overlap_rider": [0.003, 0.01, 0.03, 0.1],
    }
    assert {key: thresholds[key] for key in ("reversibility", "row_sum", "stationarity", "symmetry", "cheeger", "solve", "hitting")} == {
        "reversibility": 1e-10,
        "row_sum": 1e-12,
        "stationarity": 1e-12,
        "symmetry": 1e-10,
        "cheeger": 1e-10,
        "solve": 1e-10,
        "hitting": 1e-8,
    }
    assert (thresholds["final_kl"], thresholds["gradient_norm"]) == (0.5, 1e-6)
    assert (design["window_sweeps"], design["directions"], design["cap_seconds"]) == (100.0, 5, 10800.0)
    assert design["steps"] == [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8]
    assert Design().n_cells == 192
    assert [(Design().rank(s), Design().width(s)) for s in (1, 2, 3, 4)] == [(4, 4), (3, 8), (2, 12), (1, 16)]


def test_the_hash_is_that_of_the_canonical_json():
    assert Design().digest() == "aea0bdf1f27bbda779adafe17faf0e5ed2880626d48a887c441a7ce9b4247796"
    assert load_design("default") == Design()


def test_every_change_changes_the_hash():
    others = [
        load_design(seed=1),
        load_design(cap=60),
        load_design("smoke"),
        Design(anchor=Anchor(m=5)),
        Design(training=Training(steps=1999)),
    ]
    assert len({design.digest() for design in [Design(), *others]}) == 6


def test_the_design_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        Design().grid.m = (4,)


def test_the_smoke_grid_is_small_and_keeps_basis_and_anchor():
    smoke = GRIDS["smoke"]
    assert smoke.n_cells == 32
    assert smoke.anchor.m in smoke.grid.m
    assert set(smoke.basis.split) <= set(smoke.grid.split)
    assert replace(smoke, grid=Design().grid) == Design()


def test_a_file_overrides_what_it_names(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('seed = 7\ncap_seconds = 60\n[grid]\nm = [4]\ncheckpoints = ["final"]\n[thresholds]\nmass = 0.01\n')
    design = load_design(path)
    assert (design.seed, design.cap_seconds, design.grid.m, design.grid.checkpoints, design.thresholds.mass) == (
        7,
        60.0,
        (4,),
        ("final",),
        0.01,
    )
    assert isinstance(design.cap_seconds, float)
    assert design.grid.split == (1, 2, 3, 4)
    assert load_design(path, seed=8, cap=5.0).seed == 8
    path.write_text("")
    assert load_design(path) == Design()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("typo = 1", "typo is no key of the design; its top level has seed, grid"),
        ("[grid]\nn = [4]", r"grid\.n is no key of the design; grid has m, split, checkpoints, codes"),
        ("grid = 3", "grid must be a table of m, split, checkpoints, codes; got 3"),
        ("[grid]\nm = []", r"grid\.m must be a list of at least one integer; got \[\]"),
        ("[grid]\nm = 4", r"grid\.m must be a list of at least one integer; got 4"),
        ("[grid]\nm = [4, 4]", r"grid\.m must not hold an entry twice"),
        ("[grid]\nm = [4, 5.5]", r"grid\.m\[1\] must be one integer; got 5\.5"),
        ("[grid]\nm = [true]", r"grid\.m\[0\] must be one integer; got True"),
        ("[grid]\nm = [3]", r"grid\.m must lie in 4\.\.8; got 3"),
        ("[grid]\nm = [2]\ncodes = [1, 2]\n[teacher]\ncodes = 2", r"grid\.m must lie in 4\.\.8; got 2"),
        ("[grid]\nsplit = [5]", r"grid\.split must lie in 1\.\.4; got 5"),
        ("[grid]\nsplit = [0]", r"grid\.split must lie in 1\.\.4; got 0"),
        ("[grid]\ncodes = [0]", r"grid\.codes must lie in 1\.\.4; got 0"),
        ('[grid]\ncheckpoints = ["end"]', r"grid\.checkpoints\[0\] must be one of 'init', 'half', 'tenth', 'final'; got 'end'"),
        ('[anchor]\ncheckpoint = "end"', r"anchor\.checkpoint must be one of 'init', 'half', 'tenth', 'final'; got 'end'"),
        ("[thresholds]\nmass = nan", r"thresholds\.mass must be one finite number; got nan"),
        ("[thresholds]\nmass = 0.7", r"thresholds\.mass must lie in 0\.\.0\.5; got 0\.7"),
        ('[thresholds]\nmass = "small"', r"thresholds\.mass must be one finite number; got 'small'"),
        ("[grid]\nm = [9]", r"grid\.m must lie in 4\.\.8; got 9"),
        ("[anchor]\nm = 7", r"anchor\.m must lie in 4\.\.6; got 7"),
        ("directions = 100000", r"directions must lie in 1\.\.1000; got 100000"),
        ("[training]\nlearning_rate = 0", r"training\.learning_rate must be positive; got 0\.0"),
        ("[training]\nsteps = -1", r"training\.steps must lie in 1\.\.1000000; got -1"),
        ("steps = [0.1, 0]", r"steps must be positive; got 0\.0"),
        ("seed = -1", r"seed must lie in 0\.\.4294967295; got -1"),
        ("seed =", "is not TOML"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_design(path)
    assert "\n" not in str(error.value)
    assert "grid.toml" in str(error.value)


def test_unknown_names_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="grid must be one of 'default', 'smoke' or a readable TOML file; 'defualt' is not"):
        load_design("defualt")
    with pytest.raises(ValueError, match="or a readable TOML file"):
        load_design(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not TOML"):
        load_design(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must lie in"),
        ({"seed": 2**32}, "seed must lie in"),
        ({"seed": 1.5}, "seed must be one integer; got 1.5"),
        ({"cap": 0}, "cap_seconds must lie in .*; got 0.0"),
        ({"cap": 1e12}, "cap_seconds must lie in .*; got 1000000000000.0"),
        ({"cap": math.inf}, "cap_seconds must be one finite number; got inf"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        load_design("default", **options)

"""The selftest: every gate there is has a case, every case is caught, and one that is not caught is said to be."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import adjoints
from thermokernels_app import main
from thermokernels_app.experiment.design import Design, load_design
from thermokernels_app.experiment.factorization_design import FactorizationDesign
from thermokernels_app.experiment.steering_design import SteeringDesign
from thermokernels_app.judges import battery, verdicts
from thermokernels_app.judges.records import MissingNumberError
from thermokernels_app.selftest import adjoint_terms, case, chains, checkpoints, factorization_rules, rules, run, steering_rules
from thermokernels_app.selftest.case import Case
from thermokernels_app.selftest.sound_records import Records

ROOT = Path(__file__).parents[3]


pytestmark = pytest.mark.xdist_group("selftest")


@pytest.fixture(scope="module")
def report():
    """What the command says of itself."""
    result = invoke("--json")
    report = json.loads(result.stdout)
    assert result.exit_code == (0 if report["verdict"] == "PASS" else 10)
    return report


@pytest.mark.long
def test_every_sabotage_is_caught_by_the_gate_that_is_named(report):
    assert [row for row in report["cases"] if not row["caught"]] == []
    assert all(row["gate"] in row["by"] and row["said"] for row in report["cases"])
    assert (report["verdict"], report["untripped"]) == ("PASS", [])
    assert {row["group"] for row in report["cases"]} == {
        "kernels",
        "bounds",
        "adjoints",
        "gradient check",
        "battery",
        "verdicts",
        "records",
    }


@pytest.mark.long
def test_every_gate_is_tripped_and_no_other_is_claimed(report):
    assert {row["gate"] for row in report["cases"]} == run.gates()


def test_every_term_that_a_derivation_labels_is_broken():
    assert adjoint_terms.labelled_terms() == set(adjoint_terms.TERMS)
    assert {file for file, _ in adjoint_terms.TERMS} >= {"variance_time", "signal_to_noise", "laws", "hypernetwork", "reduced_resolvent"}


def test_the_gates_of_the_battery_are_those_of_the_verdicts_and_of_the_design():
    names, thresholds = {name for name, _, _ in verdicts.GATES}, Design().as_dict()["thresholds"]
    chain = chains.gibbs_chain(chains.WEIGHTS)
    examined = battery.examine(chain, solver_residual=0.0, gap=0.0, conductances=[1.0], hitting_residuals=[0.0])
    assert {check.name for check in examined.checks} == names
    assert {key for _, _, key in verdicts.GATES} == set(battery.THRESHOLDS) <= set(thresholds)
    assert set(checkpoints.GATES.values()) <= set(thresholds)


def test_every_threshold_of_the_design_belongs_to_a_gate():
    used = {key for _, _, key in verdicts.GATES} | {key for _, key, _ in verdicts.FILTERS} | set(checkpoints.GATES.values())
    used |= {"coupling_distance", "overlap_rider", "final_kl", "gradient_norm"}  # P1 (b), the rider of P2, P4
    assert set(Design().as_dict()["thresholds"]) - used == {"rank"}  # of a singular value: P4 compares the rank itself


def test_every_way_to_halt_is_taken(monkeypatch):
    lines = set()
    for file in Path(verdicts.__file__).parent.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
        lines |= {(str(file), call.lineno) for call in calls if getattr(call.func, "id", None) == "MissingNumberError"}
    assert len(lines) > 10
    taken = set()

    def remember(self, *_):
        frame = sys._getframe(1)
        taken.add((frame.f_code.co_filename, frame.f_lineno))

    monkeypatch.setattr(MissingNumberError, "__init__", remember)
    groups = ((rules, Design()), (factorization_rules, FactorizationDesign()), (steering_rules, SteeringDesign()))
    for one in (one for group, design in groups for one in group.cases(design.as_dict())):
        one.broken()
    assert taken >= lines


@pytest.mark.parametrize("grid", ["default", "smoke"])
def test_the_sound_records_pass_all_verdicts(grid):
    design = load_design(grid).as_dict()
    records = Records(design)
    judged = verdicts.judge(design, records.cells, records.checkpoints, records.stationarity)
    assert {verdict["verdict"] for verdict in judged.values()} == {"PASS"}
    assert all(verdict["criteria"] for verdict in judged.values())
    assert records.stationarity
    assert rules.judged(design) == {}


def test_nothing_stays_broken():
    functions = [adjoints.q_struct, adjoints.overlaps._flip_overlaps, adjoints.hypernetwork._forward, adjoints.laws._pull_back]
    for one in adjoint_terms.cases(Design().as_dict()["thresholds"])[:4]:
        case.run(one)
    owner = type("Owner", (), {"value": 1})
    with case.patched(owner, "value", 2) as before:
        assert (before, owner.value) == (1, 2)
    with pytest.raises(KeyError), case.patched(owner, "value", 2):
        raise KeyError
    assert owner.value == 1
    assert functions == [adjoints.q_struct, adjoints.overlaps._flip_overlaps, adjoints.hypernetwork._forward, adjoints.laws._pull_back]


def silent():
    return {}


def speaks():
    return {"gate": "it is 2"}


def fails():
    raise KeyError("surprise")


@pytest.mark.parametrize(
    ("sound", "broken", "caught", "said"),
    [
        (silent, speaks, True, "it is 2"),
        (silent, silent, False, "nothing: the sabotage went unnoticed"),
        (silent, lambda: {"another": "it is 3"}, False, "nothing: the sabotage went unnoticed"),
        (speaks, speaks, False, "spoke without any sabotage: it is 2"),
        (silent, fails, False, "unexpected KeyError: 'surprise'"),
    ],
)
def test_a_case_is_caught_only_where_its_own_gate_speaks_because_of_it(sound, broken, caught, said):
    outcome = case.run(Case("gate", "something", sound, broken))
    assert (outcome.caught, outcome.said) == (caught, said)


def invoke(*arguments):
    return CliRunner().invoke(main.app, ["selftest", *arguments])


def test_what_is_not_caught_is_a_fail(monkeypatch):
    gate = chains.gate_of("agreement")
    monkeypatch.setattr(run, "cases", lambda *_: {"battery": [Case(gate, "one thing", silent, silent)]})
    monkeypatch.setattr(run, "gates", lambda *_: {gate, "a gate that nothing trips"})
    result = invoke()
    assert result.exit_code == 10
    assert re.search(r"battery: agreement +one thing +no +nothing: the sabotage went unnoticed", result.stdout)
    assert "tripped by nothing: a gate that nothing trips\n" in result.stdout
    assert "selftest: FAIL  0 of 1 caught, 0 gates" in result.stdout
    assert result.stderr == "battery (0 of 1 done)\n"

    report = json.loads(invoke("--json").stdout)
    assert (report["verdict"], report["untripped"]) == ("FAIL", sorted({gate, "a gate that nothing trips"}))
    monkeypatch.setattr(run, "cases", lambda *_: {"battery": [Case(gate, "one thing", silent, lambda: {gate: "no"})]})
    assert invoke("--json").exit_code == 10  # everything is caught, and still one gate is tripped by nothing
    monkeypatch.setattr(run, "gates", lambda *_: {gate})
    assert invoke().exit_code == 0


@pytest.mark.jax
def test_the_page_has_the_list_of_the_command():
    page = (ROOT / "docs" / "selftest.md").read_text(encoding="utf-8")
    assert invoke("--gates").stdout.strip() in page
    n_cases, n_gates = sum(map(len, run.cases().values())), len(run.gates())
    assert f"{n_cases} of {n_cases} caught, {n_gates} gates" in page

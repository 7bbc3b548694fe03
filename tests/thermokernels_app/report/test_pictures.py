"""Pictures and the page: drawn from real runs, whole or interrupted, and opened in a real browser."""

import json
import re
import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

import thermokernels as tk
from thermokernels_app import main
from thermokernels_app.experiment.design import load_design
from thermokernels_app.experiment.records import store
from thermokernels_app.experiment.running.runner import run as run_design

pytestmark = [pytest.mark.report, pytest.mark.xdist_group("pictures")]
pytest.importorskip("matplotlib", reason="needs the extra `report`")
pytest.importorskip("jinja2", reason="needs the extra `report`")

from thermokernels.diagnosis import measured  # noqa: E402
from thermokernels.plot.basins import values_of  # noqa: E402
from thermokernels.plot.style import COLOURS  # noqa: E402
from thermokernels_app.commands import pictures as commands  # noqa: E402
from thermokernels_app.report import page, pictures, style  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run_design(load_design("smoke"), folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return store.read_results(folder), store.read_arrays(folder)


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main.app, [str(argument) for argument in arguments])


def contrast(one, other):
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("paper", ["#ffffff", "#15181b"])
def test_colours_stand_out_on_both_papers(colour, paper):
    assert contrast(colour, paper) >= 3


def test_every_picture_of_a_run_is_a_file_of_either_kind(run):
    names = []
    for picture in pictures.of_run(*run):
        vector = style.as_file(picture.draw(True), "svg")
        assert ElementTree.fromstring(vector).tag.endswith("svg")
        assert vector == style.as_file(picture.draw(True), "svg"), "the same picture has the same bytes"
        assert style.as_file(picture.draw(True), "png").startswith(b"\x89PNG")
        assert picture.caption.endswith(".")
        names.append(picture.name)
    assert len(set(names)) == len(names)
    families = {name.partition("-m")[0] for name in names}
    assert families == {"qualifying-events", "q", "training", "ranks", "gradient-errors", "disconnectivity", "spectrum", "barriers"}


def test_a_map_shows_the_counts_of_the_verdict(run):
    from thermokernels_app.judges import verdicts

    document, _ = run
    figure = next(picture for picture in pictures.of_run(*run) if picture.name == "qualifying-events").draw(True)
    shown = [int(text.get_text()) for text in figure.axes[0].texts if text.get_text().isdigit()]
    counted = [verdicts.n_qual(cell["landscape"]["events"], document["design"]["thresholds"]) for cell in document["cells"]]
    assert sorted(shown) == sorted(counted)


def test_an_interrupted_run_has_pictures_too(run):
    document, arrays = run
    half = {**document, "status": "interrupted", "cells": document["cells"][::2], "checkpoints": []}
    drawn = [picture.name for picture in pictures.of_run(half, arrays)]
    assert "gradient-errors" not in drawn
    for picture in pictures.of_run(half, arrays):
        assert style.as_file(picture.draw(True), "svg")
    empty = {**half, "cells": []}
    for picture in pictures.of_run(empty, {}):
        assert style.as_file(picture.draw(True), "svg")


def test_a_halted_cell_is_hatched(run):
    document, arrays = run
    halted = {**document["cells"][0], "status": "halted"}
    changed = {**document, "cells": [halted, *document["cells"][1:]]}
    figure = next(picture for picture in pictures.of_run(changed, arrays) if picture.name == "q").draw(True)
    assert [patch.get_hatch() for patch in figure.axes[0].patches] == ["////"]


@pytest.fixture(scope="module")
def html(run):
    document, _ = run
    return page.render(document, document["verdicts"], pictures.of_run(*run))


def test_the_page_needs_nothing_from_elsewhere(html):
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', html)
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)[^)]*\)", html)


def test_ids_on_the_page_are_unique_and_references_lead_somewhere(html):
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(set(ids)) == len(ids)
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', html))
    assert references <= set(ids)


def test_the_page_says_every_verdict_and_criterion(html, run):
    import html as escapes

    text = escapes.unescape(html)
    for name, verdict in run[0]["verdicts"].items():
        assert f'<td>{name}</td><td class="{verdict["verdict"]}">' in text
        for criterion in verdict["criteria"]:
            assert criterion["name"] in text


def test_a_browser_shows_every_picture(html, run, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    # What the browser laid out comes back in the document itself.
    probe = """<script>window.addEventListener("load", () => {
        const seen = [...document.querySelectorAll("figure")].map(figure => {
            const box = figure.querySelector("svg").getBoundingClientRect();
            const ink = getComputedStyle(figure).color, paper = getComputedStyle(document.body).backgroundColor;
            const texts = [...figure.querySelectorAll("svg text")].filter(text => text.getBoundingClientRect().width > 0).length;
            return {id: figure.id, width: box.width, height: box.height, right: box.right, texts, ink, paper};
        });
        document.body.setAttribute("data-seen", JSON.stringify({seen, wide: document.documentElement.scrollWidth, view: innerWidth}));
    });</script></body>"""
    file = tmp_path / "report.html"
    file.write_text(html.replace("</body>", probe), encoding="utf-8")
    papers = set()
    for number, (width, scheme) in enumerate([(1200, 1), (1200, 0), (420, 1)]):
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
        options += ("--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / f'profile{number}'}")
        look = (f"--window-size={max(width, 500)},900", f"--blink-settings=preferredColorScheme={scheme}")
        command = [browser, *options, *look, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        found = json.loads(re.search(r'data-seen="([^"]*)"', dom)[1].replace("&quot;", '"'))
        assert [figure["id"] for figure in found["seen"]] == [f"figure-{picture.name}" for picture in pictures.of_run(*run)]
        assert found["wide"] <= found["view"], "nothing sticks out to the right"
        for figure in found["seen"]:
            assert figure["width"] > 250, figure
            assert figure["height"] > 80, figure
            assert figure["texts"] >= 3, figure
            assert figure["ink"] != figure["paper"]
        papers.add(found["seen"][0]["paper"])
    assert len(papers) == 2, "light and dark differ"


def test_the_page_says_what_was_frozen_and_amended(run):
    document = run[0]
    lines = ("frozen before the run as 0a1b", "AMENDED as 2c3d in design.seed; reason: <none>")
    html = page.render(document, document["verdicts"], [], lines)
    assert all(f'<p class="facts">{line}</p>' in html for line in (lines[0], lines[1].replace("<none>", "&lt;none&gt;")))


def test_a_report_of_an_altered_run_is_refused(folder, invoke, tmp_path):
    document = json.loads((folder / "results.json").read_text())
    document["verdicts"]["P1"]["reason"] = "a better one"
    (tmp_path / "results.json").write_text(json.dumps(document))
    result = invoke("report", tmp_path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "was changed after the run" in result.stderr


def test_plot_and_report_write_what_they_print(folder, invoke, tmp_path):
    result = invoke("plot", folder, "q", "disconnectivity", "--cell", "m4/s2/half/code1", "--colour", "v0h0", "--out", "drawn", "-f", "png")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["drawn/q.png", "drawn/disconnectivity-m4-s2-half-code1.png"]
    assert all((tmp_path / file).read_bytes().startswith(b"\x89PNG") for file in result.stdout.split())
    result = invoke("report", folder, "--out", "page.html")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_plot_of_a_model(invoke, tmp_path):
    np.save("W.npy", np.random.default_rng(0).normal(0, 1, (4, 4)))
    result = invoke("plot", "W.npy", "--out", ".")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["disconnectivity.svg", "spectrum.svg", "barriers.svg"]


def test_plot_goes_on_from_its_checkpoint(invoke, tmp_path, monkeypatch):
    """Interrupted before the measure, the same command draws the same picture without solving once more."""
    np.save("W.npy", np.random.default_rng(0).normal(0, 0.8, (7, 6)))
    assert invoke("plot", "W.npy", "spectrum", "--out", "whole", "-f", "png").exit_code == 0
    words = ("plot", "W.npy", "spectrum", "--out", "drawn", "-f", "png", "--checkpoint", "kept.npz")
    with monkeypatch.context() as patched:
        patched.setattr(measured, "modes_of", lambda time: (_ for _ in ()).throw(KeyboardInterrupt))
        stopped = invoke(*words)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert "finished parts are kept in kept.npz: the same command goes on from them" in stopped.stderr
    monkeypatch.setattr(measured, "with_solutions", lambda *args: pytest.fail("solved for once more"))
    assert invoke(*words).exit_code == 0
    assert (tmp_path / "drawn/spectrum.png").read_bytes() == (tmp_path / "whole/spectrum.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("RUN", "--checkpoint", "kept.npz"), "--checkpoint is for the pictures of a model"),
        (("RUN", "portrait"), "has no picture 'portrait'; it has qualifying-events"),
        (("RUN", "--format", "pdf"), "--format must be svg or png; got 'pdf'"),
        (("RUN", "--cell", "4/2"), "--cell must look like m6/s2/half/code1; got '4/2'"),
        (("RUN", "--cell", "m9/s2/half/code1"), "the run has no finished cell m9/s2/half/code1"),
        (("W.npy", "--cell", "m4/s2/half/code1"), "W.npy is a model file"),
        (("W.npy", "--colour", "v0"), "without fields x and -x are one state, on which v0 has no value"),
        (("W.npy", "--colour", "v9h0"), "the colour must name spins of the model, v0 to v3; got 'v9h0'"),
        (
            ("W.npy", "--colour", "blue"),
            "the colour must be energy, magnetisation, visible-magnetisation, mass, or a product",
        ),
        (("nowhere.npy",), "nowhere.npy"),
        (("empty",), "cannot be read"),
    ],
)
def test_bad_calls_are_one_sentence(folder, invoke, tmp_path, words, message):
    np.save("W.npy", np.eye(4))
    (tmp_path / "empty").mkdir()
    result = invoke("plot", *[folder if word == "RUN" else word for word in words], "--out", "drawn")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_the_extra_the_sentence_says_what_to_install(folder, invoke, monkeypatch):
    monkeypatch.setattr(commands, "find_spec", lambda name: None if name == "jinja2" else object())
    for command in ("plot", "report"):
        result = invoke(command, folder)
        assert result.exit_code == 2
        assert "pictures need jinja2, which is not installed: pip install '.[report]'" in result.stderr


def test_the_colour_of_a_model_with_fields():
    chain = tk.gibbs_chain(np.eye(2), b=[0.1, 0.2])
    np.testing.assert_array_equal(values_of(chain, "magnetisation"), chain.spins().sum(axis=1))
    np.testing.assert_array_equal(values_of(chain, "h1"), chain.spins()[:, 3])
    np.testing.assert_array_equal(values_of(chain, "v1h0"), chain.spins()[:, 1] * chain.spins()[:, 2])

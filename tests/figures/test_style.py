"""In studies of many sources every line of a figure can be told from the others, by colour and marker."""

import numpy as np
import pandas as pd
import pytest
from coda.figures.experiments import ONLINE, PLATES, online_curve, plates_curve
from coda.figures.plates import COLOURS
from coda.figures.style import (
    ALIGNED,
    HARMONISED,
    METHOD_COLOURS,
    PAGE,
    PALETTE,
    Drawing,
    look,
    new_figure,
    save_figure,
    scale_bar,
    style,
)
from coda.figures.training import training_curves
from coda.methods import ADAPTATIONS
from drawings import assert_readable, overlapping
from matplotlib.colors import to_hex, to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab


def experiment_scores(sources, steps=(1, 2, 4)):
    """Scores of adaptations from the first source to the others: more plates, and plate after plate."""
    random, rows = np.random.default_rng(0), []
    for target in sources[1:]:
        for step in steps:
            kinds = [
                ("plates", split, method) for split in PLATES for method in ("unadapted", "coda")
            ]
            kinds += [
                ("online", split, method) for split in ONLINE for method in ("unadapted", "coda")
            ]
            for experiment, split, method in [*kinds, ("online", "new", "before")]:
                row = {"experiment": experiment, "step": step, "split": split, "method": method}
                rows.append(row | {"target_source": target, "value": random.uniform(0.1, 0.6)})
    table = pd.DataFrame(rows).assign(train_source=sources[0], level="image", metric="accuracy")
    table = table.assign(n=100, seeds=1, pairs=1, reason=None)
    return table.assign(low=table["value"] - 0.03, high=table["value"] + 0.05)


@pytest.fixture(scope="module")
def scores():
    return experiment_scores([f"source_{number}" for number in range(1, 14)])


def lines_of(axes, style):
    return [line for line in axes.lines if line.get_linestyle() == style]


def test_sixty_looks_are_distinct_and_neighbours_share_nothing():
    looks = [look(number) for number in range(60)]
    assert len(set(looks)) == 60
    for one, other in zip(looks[:-1], looks[1:], strict=True):
        assert one[0] != other[0] and one[1] != other[1]


@pytest.mark.parametrize("draw", [plates_curve, online_curve])
def test_twelve_targets_look_different_and_as_the_legend_says(scores, draw):
    drawing = draw(scores)
    assert_readable(drawing.figure)
    (legend,) = drawing.figure.legends
    named = {
        text.get_text(): (to_hex(handle.get_color()), handle.get_marker())
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)
    }
    targets = {name: seen for name, seen in named.items() if name.startswith("target")}
    assert len(set(targets.values())) == len(targets) == 12
    table = drawing.table.set_index(["target_source", "method", "split"]).sort_index()
    splits = list(PLATES if draw is plates_curve else ONLINE)
    for axes, split in zip(drawing.figure.axes[1:], splits[1:], strict=True):
        for dashes, method in (("-", "coda"), ("--", "unadapted")):
            lines = lines_of(axes, dashes)
            assert len(lines) == 12
            for line in lines:
                seen = (to_hex(line.get_color()), line.get_marker())
                (name,) = [name for name, found in targets.items() if found == seen]
                source = name.removeprefix("target ").replace(" ", "_")
                assert line.get_ydata() == pytest.approx(
                    table.loc[(source, method, split), "value"]
                )


def test_a_new_plate_has_its_intervals_before_and_after(scores):
    drawing = online_curve(scores)
    bars = [
        segment[:, 1]
        for container in drawing.figure.axes[0].containers
        for segment in container.lines[2][0].get_segments()
    ]
    rows = drawing.table[drawing.table["split"].eq("new") & drawing.table["method"].ne("unadapted")]
    wanted = rows[["low", "high"]].sort_values("low").to_numpy(float)
    assert np.sort(bars, axis=0) == pytest.approx(np.sort(wanted, axis=0))
    assert len(bars) == 2 * 12 * 3


def test_every_line_of_sixty_adaptations_can_be_told_and_classifiers_stand_apart():
    random = np.random.default_rng(0)

    def logged(*quantities):
        table = pd.DataFrame({name: random.uniform(0.2, 1, 30) for name in quantities})
        return table.assign(epoch=range(30))

    dino = ("loss", "teacher_entropy", "feature_deviation", "learning_rate", "samples_per_second")
    runs = {"pretraining": logged(*dino, "knn_accuracy")}
    supervised = ("loss", "validation_accuracy", "learning_rate", "samples_per_second")
    runs |= {name: logged(*supervised) for name in ("task model", "supervised", "shuffled")}
    five = list(ADAPTATIONS)[:5]
    for target in range(2, 14):
        runs |= {f"{method} on source_{target}": logged(*dino) for method in five}
    assert len(runs) == 64
    drawing = training_curves(runs, prototypes=256)
    assert_readable(drawing.figure)
    assert drawing.figure.get_size_inches()[1] <= PAGE
    foundations, classifiers = drawing.figure.subfigs
    columns = 1 + len(five)
    assert len(foundations.axes) == 6 * columns and len(classifiers.axes) == 4
    blank = [axes for axes in foundations.axes if not axes.axison]
    assert len(blank) == len(five)  # they log no kNN accuracy
    for axes in drawing.figure.axes:
        seen = [(to_hex(line.get_color()), line.get_marker()) for line in axes.lines]
        assert len(set(seen)) == len(seen)
    for number, method in enumerate(("pretraining", *five)):
        first = foundations.axes[number]
        drawn = [line.get_ydata() for line in first.lines if len(line.get_ydata()) == 30]
        names = [name for name in runs if name.split(" on ")[0] == method]
        for values, name in zip(drawn, names, strict=True):
            assert values == pytest.approx(runs[name]["loss"].to_numpy())


@pytest.mark.parametrize(
    "name", ["$x^{$", "$\\frac{", "a$b$c_{", "\x00\x1b[2J", "細胞", "$" * 50, "\\"]
)
def test_any_name_is_drawn_as_text(tmp_path, name):
    with style():
        figure = new_figure(2.0)
        axes = figure.add_subplot()
        axes.plot([1, 10, 100], [0, 1, 2], label=name)
        axes.set(title=name, xlabel=name, xscale="log")
        axes.set_yticks([0, 1], [name, "b"])
        axes.text(1, 1, name)
        axes.legend()
    save_figure(Drawing(figure, pd.DataFrame({"name": [name]})), tmp_path / "figure")
    assert (tmp_path / "figure.pdf").stat().st_size > 0
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert "10" in labels and not any("$" in label for label in labels)


# Machado, Oliveira and Fernandes (2009), A physiologically-based model for simulation of color vision deficiency,
# IEEE TVCG 15: 1291-1298, severity 1.0; they act on linear RGB.
SEEN_BY = {
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanope": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
APART = 8.0  # CIEDE2000; 1 is just noticeable side by side


def seen(colours, kind):
    """Colours (N, 3) as a colour-blind reader sees them, in CIELAB."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(SEEN_BY[kind]).T, 0, 1)
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(shown[None])[0]


def nearest(colours, kind):
    lab = seen(colours, kind)
    distance = deltaE_ciede2000(lab[:, None], lab[None]) + 1e9 * np.eye(len(lab))
    return distance.min()


@pytest.mark.parametrize("kind", SEEN_BY)
@pytest.mark.parametrize(
    "colours",
    [PALETTE, COLOURS, [*METHOD_COLOURS.values(), ALIGNED, HARMONISED]],
    ids=["lines", "sites lost", "methods"],
)
def test_colour_blind_readers_can_tell_the_colours_apart(colours, kind):
    assert nearest(colours, kind) > APART


def test_the_simulation_notices_colours_that_merge():
    assert nearest(["#c00000", "#467000"], "deuteranope") < APART  # red and green of one lightness
    assert nearest(["#c00000", "#467000"], "tritanope") > APART
    for kind in SEEN_BY:  # greys stay as they are
        assert seen(["#808080"], kind) == pytest.approx(
            rgb2lab(np.full((1, 1, 3), 128 / 255))[0], abs=0.5
        )


@pytest.mark.parametrize("draw", [plates_curve, online_curve])
def test_experiments_of_eleven_sources_fit_a_page(draw):
    sources = [f"source_{number}" for number in range(1, 12)]
    scores = pd.concat(
        [experiment_scores([one, *(other for other in sources if other != one)]) for one in sources]
    )
    figure = draw(scores).figure
    assert_readable(figure)
    assert figure.get_size_inches()[1] <= PAGE + 1e-9
    names = [axes.yaxis.label for axes in figure.axes if axes.get_ylabel()]
    assert len(names) == 11 and not overlapping(names)


@pytest.mark.parametrize(
    ("um", "side", "length"), [(0.598, 448, 50), (1.3, 128, 50), (0.1, 64, 2), (5.0, 512, 500)]
)
def test_a_scale_bar_is_as_long_as_it_says_and_a_third_of_the_picture_at_most(um, side, length):
    axes = new_figure(2.0).add_subplot()
    axes.imshow(np.zeros((side, side)))
    limits = axes.get_xlim(), axes.get_ylim()
    scale_bar(axes, um)
    ((start, end), _) = axes.lines[0].get_data()
    assert (end - start) * um == pytest.approx(length)
    assert side / 3 / 2.5 < end - start <= side / 3
    assert axes.texts[0].get_text() == f"{length} µm"
    assert (axes.get_xlim(), axes.get_ylim()) == limits


def test_without_a_pixel_size_there_is_no_bar():
    axes = new_figure(2.0).add_subplot()
    axes.imshow(np.zeros((9, 9)))
    scale_bar(axes, None)
    assert not axes.lines and not axes.texts

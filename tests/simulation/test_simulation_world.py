"""The simulated truth: effects, layout, and that nothing but morphology tells the MoA."""

import numpy as np
import pytest
from coda.simulation.names import file_names, plate_names, well_names
from coda.simulation.world import (
    CELL_SD,
    DMSO,
    TRAITS,
    cell_traits,
    generator,
    make_compounds,
    moa_effect,
    plan_wells,
    well_traits,
)
from sklearn.linear_model import LogisticRegression

SETTINGS = {
    "moas": 8,
    "compounds_per_moa": 3,
    "wells_per_compound": 3,
    "dmso_wells": 8,
    "unlabelled_compounds": 4,
    "effect": [1.6, 3.2],
}
WELLS = well_names((16, 24))


def labelled(compounds):
    return [
        compound
        for compound in compounds
        if compound.moa and "lone" not in compound.moa and compound.control_type == "NA"
    ]


def test_generator_depends_on_seed_and_names_only():
    first = generator(1, "well", "source_3", "P1", "A01").random(4)
    generator(1, "anything else").random(100)
    assert np.array_equal(first, generator(1, "well", "source_3", "P1", "A01").random(4))
    others = [(2, "well", "source_3", "P1", "A01"), (1, "well", "source_3", "P1", "A02")]
    others += [(1, "well", "source_3", "P1A01"), (1, "well", "source_3P1", "A01")]
    assert all(generator(*names).random() != first[0] for names in others)


def test_a_moa_moves_five_traits_by_the_stated_units():
    for number in range(30):
        effect = moa_effect(f"moa {number}", 1.6, 3.2, seed=number)
        moved = np.abs(effect[effect != 0])
        assert len(moved) == 5 and len(effect) == len(TRAITS) == 17
        assert moved.min() >= 1.6 and moved.max() <= 3.2


def test_compounds_follow_their_moa_and_strangers_do_not():
    compounds = make_compounds(SETTINGS, seed=1)
    assert np.array_equal(compounds[-1].effect, np.zeros(17)) and compounds[-1].jcp == DMSO
    groups = {}
    for compound in labelled(compounds):
        groups.setdefault(compound.moa, []).append(compound.effect)
    assert len(groups) == 8 and all(len(group) == 3 for group in groups.values())
    for number, group in enumerate(groups.values(), start=1):
        pure = moa_effect(f"simulated mechanism {number:02d}", 1.6, 3.2, seed=1)
        strengths = [effect @ pure / (pure @ pure) for effect in group]
        assert strengths == pytest.approx([1.15, 0.85, 0.55], abs=0.25)
    silent = [c for c in compounds if c.moa is None and c.jcp != DMSO]
    for compound in silent:
        norm = np.linalg.norm(compound.effect)
        assert norm > 2
        for group in groups.values():
            assert compound.effect @ group[0] / norm / np.linalg.norm(group[0]) < 0.9


def test_without_effect_every_compound_is_dmso():
    compounds = make_compounds(SETTINGS | {"effect": [0, 0]}, seed=1)
    assert not any(compound.effect.any() for compound in compounds)


def test_noise_has_the_stated_size():
    dmso = make_compounds(SETTINGS, seed=1)[-1]
    means = np.array(
        [[well_traits(dmso, "source_5", f"P{p}", f"W{w}", 1) for w in range(30)] for p in range(30)]
    )
    assert (means - means.mean(axis=1, keepdims=True)).std() == pytest.approx(0.25, rel=0.05)
    assert means.mean(axis=1).std() == pytest.approx(0.3, rel=0.1)
    cells = cell_traits(np.zeros(17), 2000, generator(1, "cells"))
    assert cells.std() == pytest.approx(CELL_SD, rel=0.05) and cells.dtype == np.float32


def test_true_traits_separate_the_moas():
    """Site means of the true traits on a new plate: the world has an answer to find."""
    compounds = make_compounds(SETTINGS, seed=1)
    layout = plan_wells(compounds, SETTINGS, WELLS, seed=1)
    chosen = {well: c for well, c in layout.items() if c in labelled(compounds)}

    def plate(name):
        sites = [
            cell_traits(
                well_traits(c, "source_5", name, well, 1), 15, generator(1, "t", name, well)
            ).mean(axis=0)
            for well, c in chosen.items()
        ]
        return np.array(sites), [c.moa for c in chosen.values()]

    model = LogisticRegression(max_iter=1000).fit(*plate("P1"))
    assert model.score(*plate("P2")) > 0.9


def test_identifiers_are_unique_plainly_simulated_and_tell_nothing():
    correlations = []
    for seed in range(40):
        compounds = labelled(make_compounds(SETTINGS, seed))
        assert len({c.jcp for c in compounds}) == len({c.inchikey for c in compounds}) == 24
        assert all(c.name.startswith("sim-") and c.inchikey.startswith("SIM") for c in compounds)
        moas = [int(c.moa[-2:]) for c in compounds]
        for identifier in ("jcp", "inchikey", "broad_sample", "name"):
            order = np.argsort(np.argsort([getattr(c, identifier) for c in compounds]))
            correlations.append(np.corrcoef(order, moas)[0, 1])
    # 24 compounds: a chance correlation has sd 0.21, the mean over 40 seeds about 0.033.
    assert np.abs(np.reshape(correlations, (40, 4)).mean(axis=0)).max() < 0.12


def test_layout_is_in_reading_order_shared_and_random_in_the_moa():
    correlations = []
    for seed in range(40):
        compounds = make_compounds(SETTINGS, seed)
        layout = plan_wells(compounds, SETTINGS, WELLS, seed)
        assert list(layout) == sorted(layout, key=WELLS.index)
        assert len(layout) == (24 + 2 + 1 + 4) * 3 + 8
        moas = {c: int(c.moa[-2:]) for c in labelled(compounds)}
        pairs = [(WELLS.index(well), moas[c]) for well, c in layout.items() if c in moas]
        correlations.append(np.corrcoef(np.transpose(pairs))[0, 1])
    assert abs(np.mean(correlations)) < 0.06


def test_file_names_depend_on_the_place_only():
    plate = plate_names("source_8", 1, 1)
    names = file_names(plate, "C05", 2, seed=1)
    assert names == file_names(plate, "C05", 2, seed=1)
    assert len(set(names.values())) == 5
    # GUIDs are hashes: digits are as frequent as in any random number.
    guids = "".join(
        name[-40:-4] for well in WELLS[:40] for name in file_names(plate, well, 0, 1).values()
    ).replace("-", "")
    counts = np.array([guids.count(digit) for digit in "0123456789ABCDEF"])
    assert counts.sum() == 200 * 32
    assert ((counts - 400) ** 2 / 400).sum() < 45  # chi2 of 15 degrees, p about 1e-4

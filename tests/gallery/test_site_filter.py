"""What a choice of sites names must be there: a slip beside right entries would leave data out unseen."""

import pandas as pd
import pytest
from coda.errors import UserError
from coda.gallery.site_filter import check_choice

LABELS = pd.DataFrame(
    [
        ("JCP2022_000001", "dexamethasone", "glucocorticoid receptor agonist"),
        ("JCP2022_000002", "quinidine|quinine", None),
        ("JCP2022_000003", "TC-S-7004", "DYRK inhibitor"),
        ("JCP2022_000004", None, None),
    ],
    columns=["Metadata_JCP2022", "Metadata_pert_iname", "Metadata_moa"],
)
LAYOUT = pd.DataFrame(
    {"Metadata_Well": ["A01", "B2", "P24"], "Metadata_JCP2022": ["JCP2022_000001", "MINE_1", None]}
)


@pytest.mark.parametrize(
    ("wells", "compounds", "moas"),
    [
        (None, None, None),
        (["a1", "B02"], ["quinine", "Dexamethasone", "jcp2022_000004", "mine_1"], []),
        ([], None, ["DYRK inhibitor", "glucocorticoid receptor agonist"]),
    ],
)
def test_what_is_known_passes(wells, compounds, moas, capsys):
    check_choice(wells, compounds, moas, LAYOUT, LABELS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (([], ["quinine", "dexametasone"], None), "compounds names dexametasone.*mean dexamethasone"),
        ((None, ["TCS7004"], None), "compounds names TCS7004.*did you mean TC-S-7004"),
        ((None, ["xyz"], None), "compounds names xyz, .*; correct it or leave it out"),
        ((None, None, ["DYRK inhibitor", "dyrk inhibitor"]), "moas names dyrk.*mean DYRK inhibitor"),
        ((["A01", "Z99"], None, None), "wells names Z99.*AF48"),
        ((["A01", "AG01"], None, None), "wells names AG01.*AF48"),
        ((["A01", "1A"], None, None), "a well is written like A01"),
    ],
)  # fmt: skip
def test_what_is_unknown_is_refused_with_the_nearest_known(choice, words):
    with pytest.raises(UserError, match=words):
        check_choice(*choice, LAYOUT, LABELS)


def test_a_well_of_other_plates_is_told(capsys):
    check_choice(["A01", "AF48"], None, None, LAYOUT, LABELS)
    assert "this plate has no well AF48" in capsys.readouterr().err

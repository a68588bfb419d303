"""A dose that is spelt in several ways is told, whatever plates it is on; nothing else is."""

import pandas as pd
import pytest
from coda.gallery.doses import check_doses
from coda.gallery.platemap import read_platemap
from coda.report.input_notes import input_notes


def platemap(folder, name, *rows):
    path = folder / f"{name}.csv"
    path.write_text("\n".join(["well;compound;dose;control", *rows]) + "\n", "utf-8")
    return read_platemap(path, name)


def test_spellings_of_a_dose_are_told_within_a_plate_and_between_plates(tmp_path):
    first = platemap(tmp_path, "P1", "A01;x;10 uM;", "A02;x;10uM;", "A03;y;5 nM;", "A04;DMSO;;neg")
    second = platemap(
        tmp_path, "P2", "A01;x;10.0 µM;", "A02;y;5 NM;", "A03;z;5nM;", "A04;DMSO;;neg"
    )
    wells = pd.concat([first, second])
    assert len(set(wells["Metadata_JCP2022"])) == 7  # they stay treatments of their own
    told = check_doses(wells)
    assert told["message"].str.contains("spell it one way in the platemaps").all()
    x, y = told["message"]
    assert "'10 uM', '10.0 µM', '10uM', so 1 compound(s) (x)" in x
    assert "'5 NM', '5 nM', so 1 compound(s) (y)" in y
    assert len(check_doses(first)) == 1 and check_doses(second).empty
    assert "Told of the inputs: a dose is spelt '10 uM'" in input_notes(told)[0]


@pytest.mark.parametrize(
    "doses", [("10 uM", "10 nM"), ("1 uM", "10 uM"), ("10", "10 uM"), ("low", "high")]
)
def test_other_doses_and_compounds_are_none_of_them(tmp_path, doses):
    one, other = doses
    table = platemap(
        tmp_path, "P1", f"A01;x;{one};", f"A02;x;{other};", f"A03;X;{one} ;", "A04;w;;"
    )
    assert check_doses(table).empty


def test_tables_of_jump_have_no_doses():
    assert check_doses(pd.DataFrame({"Metadata_JCP2022": ["JCP2022_000001", None]})).empty
    assert check_doses(pd.DataFrame({"Metadata_JCP2022": [None, None]})).empty

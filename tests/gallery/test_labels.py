"""Labels: small tables by hand, and the real ones against a second calculation."""

import csv
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
from coda.errors import UserError
from coda.files import parse_table, read_table
from coda.gallery.labels import PLACEHOLDERS, label_compounds, sole
from hypothesis import given
from hypothesis import strategies as st

SHARED = Path("../shared/data/metadata")


def small_tables():
    """Two classes, a lone mechanism, controls, a name in capitals, lost stereochemistry."""
    rows = [  # sample, InChIKey, name, control type
        ("B1", "AAAAAAAAAAAAAA-UHFFFAOYSA-N", "alpha", None),
        ("B2", "BBBBBBBBBBBBBB-QWERTYUISA-N", "Beta", None),
        ("B3", "CCCCCCCCCCCCCC-UHFFFAOYSA-N", "gamma", "poscon_diverse"),
        ("B4", "DDDDDDDDDDDDDD-UHFFFAOYSA-N", "delta", None),
        ("B5", "EEEEEEEEEEEEEE-UHFFFAOYSA-N", "epsilon", "poscon_cp"),
        ("B6", "FFFFFFFFFFFFFF-UHFFFAOYSA-N", "lonely", None),
        ("B7", "AAAAAAAAAAAAAA-UHFFFAOYSA-N", "alpha", None),
        ("NA", "GGGGGGGGGGGGGG-UHFFFAOYSA-N", "DMSO", "negcon"),
        ("B9", "HHHHHHHHHHHHHH-UHFFFAOYSA-N", "elsewhere", None),
    ]
    target = pd.DataFrame(
        [
            (sample, key, name, "trt" if control is None else "control", control)
            for sample, key, name, control in rows
            for _ in range(2)  # a row a target
        ],
        columns=["broad_sample", "InChIKey", "pert_iname", "pert_type", "control_type"],
    )
    platemap = pd.DataFrame(
        {
            "well_position": [f"A{n:02d}" for n in range(1, 10)],
            "broad_sample": ["B1", "B2", "B3", "B4", "B5", "B6", "B7", None, None],
        }
    )
    compounds = pd.DataFrame(
        [
            ("JCP2022_000001", "AAAAAAAAAAAAAA-UHFFFAOYSA-N"),
            ("JCP2022_000002", "BBBBBBBBBBBBBB-UHFFFAOYSA-N"),
            ("JCP2022_000003", "CCCCCCCCCCCCCC-UHFFFAOYSA-N"),
            ("JCP2022_000004", "DDDDDDDDDDDDDD-UHFFFAOYSA-N"),
            ("JCP2022_000005", "EEEEEEEEEEEEEE-UHFFFAOYSA-N"),
            ("JCP2022_000006", "FFFFFFFFFFFFFF-UHFFFAOYSA-N"),
            ("JCP2022_033924", "GGGGGGGGGGGGGG-UHFFFAOYSA-N"),
            ("JCP2022_999999", None),
            ("JCP2022_000010", "ZZZZZZZZZZZZZZ-UHFFFAOYSA-N"),
        ],
        columns=["Metadata_JCP2022", "Metadata_InChIKey"],
    )
    drugs = pd.DataFrame(
        [
            ("ALPHA", "x inhibitor"),
            ("beta", "x inhibitor"),
            ("gamma", "y agonist|z blocker"),
            ("delta", "y agonist|z blocker"),
            ("epsilon", "x inhibitor"),
            ("lonely", "y agonist"),
            ("dmso", "x inhibitor"),
            ("elsewhere", "y agonist"),
        ],
        columns=["pert_iname", "moa"],
    )
    return {
        "compounds": compounds,
        "platemap": platemap,
        "target_compounds": target,
        "drugs": drugs,
    }


def test_labels_by_hand():
    table = label_compounds(**small_tables()).set_index("Metadata_JCP2022")
    assert table["Metadata_moa"].dropna().to_dict() == {
        "JCP2022_000001": "x inhibitor",
        "JCP2022_000002": "x inhibitor",
        "JCP2022_000003": "y agonist|z blocker",
        "JCP2022_000004": "y agonist|z blocker",
    }
    assert table["Metadata_pert_type"].to_dict() == {
        "JCP2022_000001": "trt",
        "JCP2022_000002": "trt",
        "JCP2022_000003": "poscon",
        "JCP2022_000004": "trt",
        "JCP2022_000005": "poscon",
        "JCP2022_000006": "trt",
        "JCP2022_033924": "negcon",
    }
    # JUMP's own key, not the platemap's
    assert table.loc["JCP2022_000002", "Metadata_InChIKey"] == "BBBBBBBBBBBBBB-UHFFFAOYSA-N"


@pytest.mark.parametrize("least", [1, 3])
def test_a_class_needs_its_number_of_compounds(least):
    tables = small_tables()
    if least == 3:
        with pytest.raises(UserError, match="No mechanism of action has 3 compounds"):
            label_compounds(**tables, min_compounds=least)
    else:
        assert label_compounds(**tables, min_compounds=1)["Metadata_moa"].nunique() == 3


def test_two_names_with_one_id_share_a_row(capsys):
    tables = small_tables()
    tables["compounds"].loc[5, "Metadata_InChIKey"] = "AAAAAAAAAAAAAA-UHFFFAOYSA-N"
    tables["target_compounds"].loc[
        tables["target_compounds"]["pert_iname"] == "lonely", "InChIKey"
    ] = "AAAAAAAAAAAAAA-UHFFFAOYSA-N"
    tables["compounds"] = tables["compounds"].drop(5)
    control = (tables["target_compounds"]["broad_sample"] == "B7").to_numpy()
    tables["target_compounds"].loc[control, ["pert_type", "control_type"]] = [
        "control",
        "poscon_orf",
    ]
    table = label_compounds(**tables).set_index("Metadata_JCP2022")
    assert table.index.is_unique
    assert table.loc["JCP2022_000001", "Metadata_pert_iname"] == "alpha|lonely"
    assert table.loc["JCP2022_000001", "Metadata_moa"] == "x inhibitor"
    assert table.loc["JCP2022_000001", "Metadata_pert_type"] == "poscon"  # one of its samples is
    assert "JCP2022_000001 stands for alpha, lonely; it is x inhibitor" in capsys.readouterr().err


def test_two_classes_with_one_id_leave_it_unlabelled():
    assert sole(pd.Series(["a", None, "a"])) == "a"
    assert sole(pd.Series(["a", "b"])) is None
    assert sole(pd.Series([None, None], dtype=object)) is None


def relabelled(capsys, **moas):
    """Labels by name where `small_tables` gives these names these mechanisms, and what is told."""
    tables = small_tables()
    rows = [(name, moa) for name, given in moas.items() for moa in given]
    others = tables["drugs"][~tables["drugs"]["pert_iname"].str.lower().isin(moas)]
    tables["drugs"] = pd.concat([others, pd.DataFrame(rows, columns=["pert_iname", "moa"])])
    table = label_compounds(**tables)
    return table.set_index("Metadata_pert_iname")["Metadata_moa"], capsys.readouterr().err


@pytest.mark.parametrize("order", [[None, "x inhibitor"], ["x inhibitor", None]])
def test_a_name_twice_has_the_moa_of_the_row_that_has_one(capsys, order):
    labels, told = relabelled(capsys, alpha=order)
    assert labels["alpha"] == labels["Beta"] == "x inhibitor" and "no moa" not in told


def test_a_name_with_two_mechanisms_has_no_label_and_is_named(capsys):
    labels, told = relabelled(
        capsys, gamma=["y agonist|z blocker", "x inhibitor"], lonely=["x inhibitor"]
    )
    assert pd.isna(labels["gamma"]) and labels["alpha"] == "x inhibitor"
    assert "1 compound(s) have several moa in tables.drugs and no label (gamma)" in told
    labels, told = relabelled(capsys, gamma=["z blocker|y agonist", "Y agonist | z blocker"])
    assert labels["gamma"] == labels["delta"] == "y agonist|z blocker"
    assert "several moa" not in told


@given(
    st.lists(
        st.sampled_from(["x inhibitor", "X Inhibitor", " x  inhibitor ", "X INHIBITOR"]),
        min_size=2,
        max_size=2,
    )
)
def test_spellings_of_a_mechanism_are_one(spellings):
    tables = small_tables()
    tables["drugs"].loc[[0, 1], "moa"] = spellings
    tables["drugs"].loc[[2, 3], "moa"] = ["y agonist|z blocker", "Z blocker|y agonist"]
    labels = label_compounds(**tables).set_index("Metadata_pert_iname")["Metadata_moa"]
    assert labels["alpha"] == labels["Beta"] and labels["gamma"] == labels["delta"]
    assert labels[["alpha", "gamma"]].notna().all() and labels.nunique() == 2


def test_other_spellings_are_told(capsys):
    _, told = relabelled(capsys, gamma=["Y agonist|z blocker"])
    assert "'Y agonist|z blocker' is also written 'y agonist|z blocker'" in told or (
        "'y agonist|z blocker' is also written 'Y agonist|z blocker'" in told
    )


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
def test_a_placeholder_is_no_compound_even_with_a_key(placeholder):
    tables = small_tables()
    tables["compounds"].loc[0, "Metadata_JCP2022"] = placeholder
    assert placeholder not in set(label_compounds(**tables)["Metadata_JCP2022"])


def test_what_cannot_be_joined_is_counted_and_named(capsys):
    tables = small_tables()
    tables["platemap"].loc[8, "broad_sample"] = "B77"
    tables["drugs"].loc[5, "moa"] = None
    tables["drugs"] = tables["drugs"].drop(3)
    tables["compounds"] = tables["compounds"].drop(4)
    with pytest.raises(UserError):
        label_compounds(**tables, min_compounds=3)
    label_compounds(**tables)
    told = capsys.readouterr().err
    assert "1 sample(s) are not in tables.target_compounds (B77)" in told
    assert "1 compound(s) are not in tables.drugs (delta)" in told
    assert "1 compound(s) have no moa in tables.drugs (lonely)" in told
    assert "1 compound(s) have no id in tables.compound (epsilon)" in told
    assert "1 compound(s) are joined by 14 letters (Beta)" in told


def test_tables_that_do_not_belong_together_are_refused():
    tables = small_tables()
    other = tables["platemap"].assign(broad_sample="X")
    with pytest.raises(UserError, match="no broad_sample in common"):
        label_compounds(**{**tables, "platemap": other})
    other = tables["compounds"].assign(Metadata_InChIKey="YYYYYYYYYYYYYY-UHFFFAOYSA-N")
    with pytest.raises(UserError, match="no InChIKey in common"):
        label_compounds(**{**tables, "compounds": other})


@pytest.fixture(scope="module")
def real():
    """The public tables; JUMP's compound table is rebuilt from the layout."""
    if not SHARED.exists():
        pytest.skip(f"the public tables are not in {SHARED}")
    files = {
        "platemap": "JUMP-Target-2_compound_platemap.tsv",
        "target_compounds": "JUMP-Target-2_compound_metadata.tsv",
        "drugs": "repurposing_drugs_20200324.txt",
    }
    tables = {name: parse_table((SHARED / file).read_bytes(), file) for name, file in files.items()}
    layout = read_table(SHARED / "target2_layout_well_jcp_inchikey.csv")
    tables["compounds"] = layout[["Metadata_JCP2022", "Metadata_InChIKey"]].drop_duplicates()
    return tables


def test_real_tables_give_the_classes_of_the_paper(real):
    table = label_compounds(**real)
    assert table["Metadata_moa"].nunique() == 54
    assert table["Metadata_moa"].notna().sum() == 134
    assert table["Metadata_JCP2022"].is_unique and len(table) == 302
    assert table["Metadata_pert_type"].value_counts().to_dict() == {
        "trt": 255,
        "poscon": 46,
        "negcon": 1,
    }
    negcon = table[table["Metadata_pert_type"] == "negcon"].iloc[0]
    assert negcon["Metadata_JCP2022"] == "JCP2022_033924" and pd.isna(negcon["Metadata_moa"])
    assert table["Metadata_moa"].dropna().groupby(table["Metadata_moa"]).size().min() >= 2


def test_real_labels_agree_with_a_plain_calculation(real):
    """The rule of the protocol in plain Python, by name and without any id."""
    with open(SHARED / "JUMP-Target-2_compound_metadata.tsv", newline="") as handle:
        metadata = list(csv.DictReader(handle, delimiter="\t"))
    with open(SHARED / "JUMP-Target-2_compound_platemap.tsv", newline="") as handle:
        planned = {row["broad_sample"] for row in csv.DictReader(handle, delimiter="\t")}
    with open(SHARED / "repurposing_drugs_20200324.txt", newline="", encoding="latin-1") as handle:
        lines = [line for line in handle if not line.startswith("!")]
    moas = {row["pert_iname"].lower(): row["moa"] for row in csv.DictReader(lines, delimiter="\t")}
    classes = defaultdict(set)
    for row in metadata:
        if row["broad_sample"] in planned and row["control_type"] != "poscon_cp":
            moa = moas.get(row["pert_iname"].lower())
            if moa:
                classes[moa].add(row["pert_iname"].lower())
    expected = {name: moa for moa, names in classes.items() if len(names) >= 2 for name in names}
    table = label_compounds(**real).dropna(subset="Metadata_moa")
    found = {
        name: moa
        for names, moa in zip(table["Metadata_pert_iname"], table["Metadata_moa"], strict=True)
        for name in names.lower().split("|")
        if name != "quinine"  # shares its id with quinidine, which alone has a class
    }
    assert found == expected and len(found) == 134


def test_keys_without_stereochemistry_give_the_same_labels(real):
    """Other releases have other second blocks; the first 14 letters are enough."""
    blurred = real["compounds"].copy()
    blurred["Metadata_InChIKey"] = blurred["Metadata_InChIKey"].str[:14] + "-XXXXXXXXXX-N"
    plain, joined = label_compounds(**real), label_compounds(**{**real, "compounds": blurred})
    pd.testing.assert_frame_equal(
        plain.drop(columns="Metadata_InChIKey"), joined.drop(columns="Metadata_InChIKey")
    )


def test_labelled_wells_of_real_plates(real):
    """A plate has 141 labelled wells: 134 compounds, six in two wells, and quinine's well."""
    wells = read_table(SHARED / "well_target2_real_8sources.csv.gz").merge(
        label_compounds(**real), on="Metadata_JCP2022", how="left", validate="many_to_one"
    )
    assert wells["Metadata_pert_type"].notna().all()
    labelled = wells.groupby(["Metadata_Source", "Metadata_Plate"])["Metadata_moa"].count()
    assert len(labelled) == 119
    assert labelled.value_counts().to_dict() == {141: 111, 140: 4, 139: 4}
    controls = wells[wells["Metadata_pert_type"] == "negcon"]
    assert controls["Metadata_moa"].isna().all()
    plate = wells[wells["Metadata_Plate"] == "JCPQC016"]
    assert (plate["Metadata_pert_type"] == "negcon").sum() == 64
    assert plate.dropna(subset="Metadata_moa")["Metadata_JCP2022"].nunique() == 134

"""Paths and ids as users write them."""

from pathlib import Path

import pytest
from coda.errors import UserError
from coda.gallery.plates import read_sample_sheet
from coda.paths import check_name, expanded_path
from configs import checked


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PLATES", "/data/plates")
    monkeypatch.delenv("NOWHERE", raising=False)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/coda", "/home/me/coda"),
        ("$HOME/coda", "/home/me/coda"),
        ("${PLATES}/a", "/data/plates/a"),
        ("results/~", "results/~"),
        ("a$", "a$"),
        ("s3://bucket/$PLATES", "s3://bucket/$PLATES"),
    ],
)
def test_homes_and_variables_are_replaced(written, meant):
    assert expanded_path(written, "results") == meant


@pytest.mark.parametrize("written", ["$NOWHERE/coda", "${NOWHERE}/coda", "~no_such_user/coda"])
def test_what_is_not_there_is_refused_by_its_key(written):
    with pytest.raises(UserError, match="^gallery.root is .*write the path"):
        expanded_path(written, "gallery.root")


def test_every_path_of_the_config_is_expanded():
    config = checked(
        results="~/coda",
        sample_sheet="$PLATES/sheet.csv",
        gallery__root="~",
        tables__well="~/w.csv",
    )
    assert config["results"] == "/home/me/coda"
    assert config["sample_sheet"] == "/data/plates/sheet.csv"
    assert config["gallery"]["root"] == "/home/me"
    assert config["tables"]["well"] == "/home/me/w.csv"
    assert config["tables"]["drugs"].startswith("https://")
    with pytest.raises(UserError, match="tables.plate is .*NOWHERE is not set"):
        checked(tables__plate="$NOWHERE/plate.csv")


@pytest.mark.parametrize("name", ["a{b}", "{source}", "x}"])
def test_braces_in_results_are_refused(name):
    with pytest.raises(UserError, match="braces"):
        checked(results=f"results/{name}")


@pytest.mark.parametrize("name", ["../../etc", "a/b", ".hidden", "", "a b", "ä", "a\n"])
def test_what_could_leave_its_folder_is_no_id(name):
    with pytest.raises(UserError, match="is no id"):
        check_name(name, "the sample sheet")
    with pytest.raises(UserError, match="In sources"):
        checked(sources={name: {"validation_plate": None}})


def test_paths_in_a_sample_sheet_are_expanded(tmp_path):
    sheet = Path(tmp_path, "sheet.csv")
    columns = "Metadata_Source,Metadata_Batch,Metadata_Plate,root,load_data,layout\n"
    sheet.write_text(columns + "lab,b,P1,~/plates,,$PLATES/layout.csv\nlab,b,P2,,,\n")
    table = read_sample_sheet(sheet, "TARGET2")
    assert table["root"].tolist()[0] == "/home/me/plates" and table["root"].isna()[1]
    assert table["layout"].tolist()[0] == "/data/plates/layout.csv"
    sheet.write_text(columns + "lab,b,P1,$NOWHERE,,\n")
    with pytest.raises(UserError, match="root in the sample sheet .*NOWHERE is not set"):
        read_sample_sheet(sheet, "TARGET2")


@pytest.mark.parametrize("results", ["", "/", "//", " ", "a\nb", "results "])
def test_results_are_a_folder_and_never_the_root_of_the_disk(results):
    with pytest.raises(UserError, match="results is .*; name a folder"):
        checked(results=results)


@pytest.mark.parametrize("name", ["P1.partial", "P1.lock"])
def test_names_of_unfinished_downloads_are_no_ids(name):
    with pytest.raises(UserError, match="another name"):
        check_name(name, "the sample sheet")


def test_no_source_is_called_as_the_mean_of_all_is():
    with pytest.raises(UserError, match="means all sources"):
        checked(sources__all={"validation_plate": None})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused_wherever_it_stands(value):
    for key in ("pretrain__learning_rate", "gallery__max_lost", "sources__source_3__um_per_pixel"):
        with pytest.raises(UserError, match=key.rsplit("__")[-1]):
            checked(**{key: value})


def test_a_pixel_size_in_nanometres_is_refused():
    with pytest.raises(UserError, match="um_per_pixel is wrong: 598.*micrometres"):
        checked(sources__source_3__um_per_pixel=598)


def test_sources_that_differ_in_case_alone_are_refused():
    with pytest.raises(UserError, match="source_3 and Source_3, which differ in case alone"):
        checked(sources__Source_3={"validation_plate": None})


def test_names_that_are_too_long_for_files_are_refused():
    check_name("P" * 100, "sources")
    with pytest.raises(UserError, match="up to 100 letters"):
        check_name("P" * 101, "sources")

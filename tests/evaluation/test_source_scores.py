"""Sources scored one by one, in files, and compared afterwards: the same tables as all at once."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from coda.errors import UserError
from coda.evaluation.estimates import ACCURACY, Estimate, Key, compare
from coda.evaluation.metrics import Score
from coda.evaluation.scores import SourceScores, compare_scores, score_predictions, score_source
from coda.evaluation.units import LEVELS
from coda.files import read_table, write_table
from coda.methods import METHODS
from predictions import write_world


def by_source(files):
    """Names that sort otherwise than their numbers, as in a study of all labs."""
    return {
        name: [file for file in files if file["train_source"] == name]
        for name in sorted({file["train_source"] for file in files})
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two seeds; one method never predicts a class in one direction and has no answer in the other."""
    folder = tmp_path_factory.mktemp("world")
    files, plates = write_world(folder, seeds=(2, 10), sources=("source_2", "source_10"))
    for file in files:
        if file["method"] == "oda":
            table = read_table(file["path"])
            table["Logit_moa 1"] = -100.0
            if file["train_source"] == "source_2":
                table["Reason"] = "no DMSO well"
            write_table(table, file["path"])
    return files, plates


def test_parts_in_files_give_the_tables_of_all_at_once(world, tmp_path):
    files, plates = world
    at_once = score_predictions(files, plates, replicates=40, seed=3)
    assert {"no DMSO well", "counts 0 for 1 class(es) never predicted"} <= {*at_once.summary["reason"]}  # fmt: skip
    for name, own in by_source(files).items():
        score_source(own, plates, replicates=40, seed=3).save(tmp_path / name)
    apart = compare_scores([SourceScores.load(tmp_path / name) for name in by_source(files)])
    for table in ("metrics", "summary", "by_plate"):
        paths = [tmp_path / f"{table}_{how}.csv" for how in ("at_once", "apart")]
        for path, found in zip(paths, (at_once, apart), strict=True):
            write_table(getattr(found, table), path)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_sources_that_differ_in_sites_or_classes_are_refused(world, tmp_path):
    _, plates = world
    parts = {name: [] for name in ("source_2", "source_10")}
    for name, dropped in (("source_2", None), ("source_10", "site"), ("source_10", "class")):
        own = []
        for file in (file for file in world[0] if file["train_source"] == name and file["seed"] == 2):  # fmt: skip
            table = read_table(file["path"])
            if dropped == "site":
                table = table.iloc[1:]
            if dropped == "class":
                table = table.drop(columns="Logit_moa 1").query("Metadata_moa != 'moa 1'")
            path = tmp_path / str(dropped) / file["method"] / f"{file['target_source']}.parquet"
            write_table(table, path)
            own.append(file | {"path": str(path)})
        parts[name].append(score_source(own, plates, replicates=10))
    for other, words in zip(parts["source_10"], ("different sites", "classes"), strict=True):
        with pytest.raises(UserError, match=words):
            compare_scores([other, parts["source_2"][0]])


def test_differences_do_not_fill_the_memory():
    """Each method has up to six: held as replicates they would be twelve times the accuracies."""
    random = np.random.default_rng(0)
    drawn = random.normal(size=(2 * len(METHODS) * len(LEVELS), 2000))
    rows = iter(drawn)
    estimates = {
        Key("a", "b", 1, method, "adapted", level): {
            ACCURACY: Estimate(
                Score(0.5), next(rows), 9, over_compounds=next(rows), compounds=frozenset(range(90))
            )
        }
        for method, level in product(METHODS, LEVELS)
    }
    tracemalloc.start()
    compare(estimates)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert sum(len(by) for by in estimates.values()) > 5 * len(estimates)
    assert grown < drawn.nbytes / 4
    key = Key("a", "b", 1, "coda", "adapted", "image")
    gain = estimates[key]["difference", "oda"]
    ends = [estimates[key._replace(method=name)][ACCURACY] for name in ("coda", "oda")]
    assert (gain.replicates == ends[0].replicates - ends[1].replicates).all()
    assert (gain.over_compounds == ends[0].over_compounds - ends[1].over_compounds).all()

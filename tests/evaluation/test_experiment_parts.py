"""Which rows of a file of predictions an experiment scores."""

import pandas as pd
import pytest
from coda.evaluation.experiment_parts import Pair
from coda.evaluation.experiment_scores import score_experiments
from coda.files import write_table
from predictions import write_predictions
from score_tables import HOME, TARGET, told


def test_plates_of_one_name_in_two_sources_are_two(tmp_path):
    """The chain's predictions hold the training source's plate beside those of the target."""
    plain, home, chain = (
        write_predictions(tmp_path, number, source, ["P1"], f"{number}.parquet", skill)
        for number, (source, skill) in enumerate([(TARGET, 1), (HOME, 3), (TARGET, 0.2)])
    )
    parts = [pd.read_parquet(home), pd.read_parquet(chain)]
    write_table(pd.concat(parts), chain)
    files = {
        ("standard", "unadapted", TARGET): plain,
        ("standard", "unadapted", HOME): home,
        ("online_1", "coda", TARGET): chain,
    }
    pair = Pair(HOME, TARGET, 1, ("P1",), (), [("B1", "P1")], files, {})
    scores = score_experiments([pair], ["online"], [], replicates=100)
    for split, table in zip(("home", "new"), parts, strict=True):
        guess = table.filter(like="Logit_").idxmax(axis=1).str.removeprefix("Logit_")
        kept = table["Metadata_moa"].notna()
        wanted = (guess == table["Metadata_moa"])[kept].mean()
        assert told(scores, "online", 1, "coda", split)["value"] == pytest.approx(wanted)

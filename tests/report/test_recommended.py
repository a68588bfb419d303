"""The sentences on what a lab should use."""

import numpy as np
import pandas as pd
from coda.report.recommendation import recommended


def table(**columns) -> pd.DataFrame:
    rows = {
        "train_source": "source_5",
        "target_source": "source_3",
        "method": ["unadapted", "coda"],
        "agreement": [0.2, 0.415],
        "control_distance": [0.1, 0.05],
        "confidence": [0.04, 0.96],
        "seeds": 1,
        "chosen": [False, True],
        "reason": None,
    }
    return pd.DataFrame(rows | columns)


def test_it_names_the_method_and_how_sure_that_is():
    (said,) = recommended(table())
    assert said.startswith("For source 3, use CODA: of 2 methods, ")
    assert "(0.41 on a scale from 0 to 1, unadapted 0.20)" in said and "in 96 % of" in said
    assert "negative controls" in said
    (said,) = recommended(table(chosen=[True, False]))
    assert "use Unadapted" in said and "on a scale" not in said and "in 4 % of" in said
    assert "negative controls" not in recommended(table(control_distance=np.nan))[0]


def test_each_pair_has_a_sentence_and_names_its_training_source_where_there_are_several():
    both = pd.concat([table(), table(train_source="source_8")])
    one, two = recommended(both)
    assert "source 3 (trained on source 5)" in one and "source 3 (trained on source 8)" in two


def test_without_replicates_it_says_why_nothing_is_recommended():
    (said,) = recommended(table(chosen=False, reason="One plate has no replicates."))
    assert said == (
        "For source 3 no method can be recommended without labels: One plate has no replicates."
    )

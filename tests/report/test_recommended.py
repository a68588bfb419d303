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
    ((said, (why,)),) = recommended(table())
    assert said == "For source 3: use CODA." and why.startswith("Source 3: of 2 methods, ")
    assert "(0.41 on a scale from 0 to 1, unadapted 0.20)" in why and "in 96 % of" in why
    assert "negative controls" in why
    ((said, (why,)),) = recommended(table(chosen=[True, False]))
    assert "use Unadapted" in said and "on a scale" not in why and "in 4 % of" in why
    ((_, (why,)),) = recommended(table(control_distance=np.nan))
    assert "negative controls" not in why


def test_targets_with_one_answer_share_a_sentence_and_each_has_its_evidence():
    others = table(target_source="source_11"), table(target_source="source_8", chosen=[True, False])
    (one, reasons), (other, _) = recommended(pd.concat([table(), *others]))
    assert one == "For source 3 and source 11: use CODA." and len(reasons) == 2
    assert other == "For source 8: use Unadapted."


def test_a_pair_names_its_training_source_where_there_are_several():
    both = pd.concat([table(), table(train_source="source_8")])
    (one, _), (two, _) = recommended(both)
    assert one == "For source 3, trained on source 5: use CODA."
    assert two == "For source 3, trained on source 8: use CODA."


def test_without_replicates_it_says_why_nothing_is_recommended():
    ((said, why),) = recommended(table(chosen=False, reason="One plate has no replicates."))
    assert said == "For source 3: no method can be recommended without labels."
    assert why == ["Source 3: One plate has no replicates."]
    only = table(chosen=True)[:1]
    assert recommended(only) == [("For source 3: Unadapted is the only method that was run.", [])]

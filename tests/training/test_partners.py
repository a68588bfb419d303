import numpy as np
import pandas as pd
import pytest
from coda.errors import UserError
from coda.training.partners import find_partners
from hypothesis import given, settings
from hypothesis import strategies as st

KEYS = ["Metadata_Source", "Metadata_Batch", "Metadata_Plate", "Metadata_Well"]


def make_table(rows) -> pd.DataFrame:
    names = [*KEYS, "Metadata_JCP2022", "Metadata_Site"]
    return pd.DataFrame(rows, columns=names, dtype=object)


def admitted(table: pd.DataFrame, site: int, rules: list[str]) -> tuple[str, set[int]]:
    """The slow way: search the table for the sites that the first fitting rule admits."""
    compound = table["Metadata_JCP2022"].where(
        table["Metadata_JCP2022"].notna(), table[KEYS].agg("/".join, axis=1)
    )
    groups = {
        "source": table["Metadata_Source"],
        "batch": table[KEYS[:2]].agg("/".join, axis=1),
        "plate": table[KEYS[:3]].agg("/".join, axis=1),
        "well": table[KEYS].agg("/".join, axis=1),
        "site": pd.Series(range(len(table))).astype(str),
    }
    for rule in rules:
        within = groups["well"] if rule == "site" else compound
        fits = (within == within[site]) & (groups[rule] != groups[rule][site])
        if fits.any():
            return rule, set(np.flatnonzero(fits))
    return "none", {site}


tables = st.lists(
    st.tuples(
        st.sampled_from(["s1", "s2"]),
        st.sampled_from(["b1", "b2"]),
        st.sampled_from(["p1", "p2", "p3"]),
        st.sampled_from(["A01", "A02", "A03"]),
        st.sampled_from(["c1", "c2", None]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
).map(make_table)
orders = st.lists(
    st.sampled_from(["source", "batch", "plate", "well", "site"]), unique=True, max_size=5
)


@settings(max_examples=150, deadline=None)
@given(tables, orders, st.integers(0, 2**32 - 1))
def test_draws_are_exactly_those_a_search_admits(table, rules, seed):
    # A well holds one compound, as on a plate.
    table["Metadata_JCP2022"] = table.groupby(KEYS)["Metadata_JCP2022"].transform(
        lambda c: c.iloc[0]
    )
    partners = find_partners(table, rules)
    random = np.random.default_rng(seed)
    sites = np.arange(len(table))
    drawn = np.stack([partners.draw(sites, random) for _ in range(40)])
    for site in sites:
        rule, allowed = admitted(table, site, rules)
        assert partners.rule[site] == rule
        assert set(drawn[:, site]) <= allowed


def test_every_admitted_partner_is_drawn_equally_often():
    table = make_table([("s", f"b{n % 4}", f"p{n}", "A01", "c", 0) for n in range(20)])
    partners = find_partners(table, ["batch"])
    drawn = partners.draw(np.zeros(30_000, int), np.random.default_rng(1))
    counts = np.bincount(drawn, minlength=20)
    allowed = [n for n in range(20) if n % 4]
    assert counts[[n for n in range(20) if n % 4 == 0]].sum() == 0
    assert np.abs(counts[allowed] - 2000).max() < 5 * np.sqrt(2000)


def test_same_batch_partner_only_where_no_other_batch_has_the_compound():
    table = make_table(
        [
            ("s", "b1", "p1", "A01", "c", 0),
            ("s", "b1", "p2", "A01", "c", 0),
            ("s", "b2", "p3", "A01", "d", 0),
        ]
    )
    partners = find_partners(table, ["batch", "plate", "well", "site"])
    assert list(partners.rule) == ["plate", "plate", "none"]
    assert "2 sites from another plate" in partners.describe()
    assert "1 sites from themselves" in partners.describe()


def test_single_plate_falls_back_on_wells_then_sites():
    rows = [
        ("s", "b", "p", well, compound, site)
        for well, compound in (("A01", "c"), ("A02", "c"), ("A03", "d"))
        for site in (0, 1)
    ]
    partners = find_partners(make_table(rows), ["batch", "plate", "well", "site"])
    assert list(partners.rule) == ["well"] * 4 + ["site"] * 2


def test_without_rules_every_site_is_its_own_partner():
    table = make_table([("s", "b", f"p{n}", "A01", "c", 0) for n in range(9)])
    sites = np.arange(9)
    assert (find_partners(table, []).draw(sites, np.random.default_rng(0)) == sites).all()


def test_draws_follow_from_the_generator():
    table = make_table([("s", f"b{n % 3}", f"p{n}", "A01", "c", 0) for n in range(30)])
    partners, sites = find_partners(table, ["batch"]), np.arange(30)
    first, again = (partners.draw(sites, np.random.default_rng(7)) for _ in range(2))
    assert (first == again).all()


def test_unknown_rule_is_named():
    with pytest.raises(UserError, match="plat"):
        find_partners(make_table([("s", "b", "p", "A01", "c", 0)]), ["plat"])

from lint_rules import faults

SAID = """Config file config.yaml is extended.
Lints for snakefile rules/one.smk:
    * Mixed rules and functions in same snakefile.:
      Small functions should be lambda expressions.

Lints for rule train (line 3, rules/one.smk):
    * No log directive defined:
      Without a log directive, all output is lost.

"""


def test_one_opinion_is_left_out_and_every_other_kept():
    said = faults(SAID)
    assert "Mixed" not in said and "one.smk:\n" not in said
    assert "rule train" in said and "No log directive" in said
    assert faults(SAID.split("Lints for rule")[0]) == ""

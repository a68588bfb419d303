"""Wells, rows and the plates that hold them."""

import pytest
from coda.errors import UserError
from coda.wells import plate_format, row_letters, well_place


def test_every_well_of_a_1536_well_plate_has_its_place():
    wells = [f"{row_letters(row)}{column + 1:02d}" for row in range(32) for column in range(48)]
    assert len(set(wells)) == 1536 and wells[0] == "A01" and wells[-1] == "AF48"
    assert [well_place(well) for well in wells] == [divmod(place, 48) for place in range(1536)]


@pytest.mark.parametrize("well", ["1A", "A001", "a01", "", "AAA01"])
def test_what_is_no_well_is_named(well):
    with pytest.raises(UserError, match=f"'{well}' is no well"):
        well_place(well)


def test_the_smallest_plate_that_holds_the_wells():
    assert plate_format(1, 1) == plate_format(8, 12) == (8, 12)
    assert plate_format(9, 1) == plate_format(1, 13) == (16, 24)
    assert plate_format(16, 25) == (32, 48)
    with pytest.raises(UserError, match="33 rows"):
        plate_format(33, 1)

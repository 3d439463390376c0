import tracemalloc

import numpy as np
import pytest

from diffmm_pyg.datasets.table import Table
from diffmm_pyg.errors import DataError


@pytest.mark.parametrize('values, match', [
    ([1, 'a'], "row 1, .*: the id 'a' is str, the first one int; store"),
    (['1', '2.0', '3'], "row 1, .*: the id '2.0' is a decimal number, others"),
    (['a', 2.], "row 1, .*: the id '2.0' is a float, neither an integer nor"),
    (['a', float('nan')], 'row 1, .*: the id is empty'),
    (['a', 'b' * 257], "row 1, .*: the id 'b{80}...' has 257 characters"),
    ([1, 2**64], 'row 1, .*: the id is an integer of more than 64 bits'),
    (['a', 'b\0'], 'row 1, .*: the id .* characters that are no text'),
    (['a', '\ud800'], 'row 1, .*: the id .* characters that are no text'),
])
def test_ids_name_the_row(values, match):
    table = Table('log', {'user': np.array(values, object)}, {'user': 'who'})
    with pytest.raises(DataError, match="'log', row 1, column 'who': "):
        table.ids('user')
    with pytest.raises(DataError, match=match):
        table.ids('user')


def test_messages_take_one_line_of_bounded_length():
    table = Table('log', {'timestamp': ['a\nb' * 100]}, {'timestamp': 'a\nb'})
    with pytest.raises(DataError) as info:
        table.times('timestamp')
    assert str(info.value).startswith(
        r"'log', row 0, column 'a\nb': 'a\nba\nb")
    assert len(str(info.value)) < 250


def test_ids_that_are_all_decimal_numbers_are_text():
    assert Table('log', {'user': ['1.0', '2.0']}).ids('user') == ['1.0', '2.0']


def test_ids_that_look_like_nothing_are_text():
    ids = ['nan', 'None', 'NA']
    assert Table('log', {'user': ids}).ids('user') == ids


def test_times_with_a_zone_and_in_objects():
    times = ['2024-01-01T02:00:00+02:00', '2024-01-01T00:00:01Z']
    table = Table('log', {'timestamp': np.array(times, object)})
    first, second = table.times('timestamp').tolist()
    assert second - first == 10**6


def test_one_long_value_does_not_widen_all():
    values = ['2024-01-01'] * 2000 + ['a' * 10**6]
    tracemalloc.start()
    with pytest.raises(DataError, match='row 2000'):
        Table('log', {'timestamp': values}).times('timestamp')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 10**6  # All of them that long would take 8 GB.

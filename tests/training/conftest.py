import pytest
from small import SHORT, small_data, small_fit


@pytest.fixture(scope='module')
def data():
    return small_data()


@pytest.fixture(scope='module')
def straight(data):
    return small_fit(data, **SHORT)

"""Fixtures of the tests of ``core``."""

import pytest

from fairseq_cgc.core.sample_convolution import FORCE
from fairseq_cgc.core.sample_methods import METHODS


@pytest.fixture(params=METHODS)
def method(request, monkeypatch):
    monkeypatch.setenv(FORCE, request.param)
    return request.param

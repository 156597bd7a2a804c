import sys

import pytest

from fairseq_cgc.core import UserError
from fairseq_cgc.vision import costs, list_models
from fairseq_cgc.vision.__main__ import main
from fairseq_cgc.vision.costs import Cost


@pytest.fixture
def counted(monkeypatch):
    """Replaces the counting: a model has a million multiply-adds for each letter of its name."""
    costs._plain_multiply_adds.cache_clear()
    names = []

    def cost(name, *, cgc=None):
        names.append((name, cgc))
        return Cost(25_560_000, 10**6 * len(name), 3_000_000 if "cgc" in name else 0)

    monkeypatch.setattr(costs, "cost", cost)
    yield names
    costs._plain_multiply_adds.cache_clear()


def test_all_models_and_variants(counted):
    lines = list(costs.lines())
    labels = [line.split()[0] for line in lines if line]
    for name in list_models():
        assert labels.count(name) == 1
    assert lines.count("") > 4
    assert any(line.startswith("G1 * G2 ") for line in lines)
    assert ("resnet110_cifar_cgc", {"combine": "product"}) in counted
    assert any(line.startswith("dcnv2_resnet50: ") for line in lines)
    assert max(map(len, lines)) <= 100


def test_cells(counted):
    rows = {
        line.split()[0]: line.split()[1:]
        for line in costs.lines(["resnet50", "resnet50_cgc"])
        if line.startswith("resnet")
    }
    assert rows["resnet50"] == ["25.56", "25.56", "8.0", "4000"]
    assert rows["resnet50_cgc"] == ["25.56", "25.59", "12.0", "4.000", "6", "3.00"]


def test_markdown(counted):
    lines = list(costs.lines(["resnet20_cifar_cgc"], markdown=True))
    rows = [line for line in lines if line.startswith("|")]
    assert [row.count("|") for row in rows] == [8, 8, 8]
    assert rows[2] == "| resnet20_cifar_cgc | 25.56 |  | 18.0 | 4.000 |  | 3.00 |"


def test_unknown_names_are_told_before_anything_is_counted(counted):
    with pytest.raises(UserError, match="there is no model 'resnet9'"):
        list(costs.lines(["resnet50", "resnet9"]))
    assert counted == []


def test_the_command(counted, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vision", "resnet8_cifar", "--markdown"])
    main()
    assert "| resnet8_cifar | 25.56 |" in capsys.readouterr().out


def test_unknown_names_end_the_command(counted, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vision", "resnet9"])
    with pytest.raises(UserError, match="^there is no model 'resnet9'; allowed are bam"):
        main()

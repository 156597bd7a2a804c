"""Which pairs are held out of a corpus for validation and test."""

import numpy as np
import pytest

from fairseq_cgc.mt.prepare.held_out import COPY, TRAIN, choose_pairs
from fairseq_cgc.support.errors import UserError


def choose(pairs, numbers, seed=1, fits=lambda source, target: True):
    return choose_pairs(pairs, numbers, seed, fits)


def _split(pairs, places):
    sets = {place: [] for place in (*range(places.max() + 1), COPY)}
    for pair, place in zip(pairs, places, strict=True):
        sets[int(place)].append(pair)
    return sets


def test_no_sentence_of_a_held_out_pair_stays_in_training():
    rng = np.random.default_rng(3)
    pairs = [(f"s{a}", f"t{b}") for a, b in rng.integers(0, 400, (400, 2))] * 2
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    places = choose(pairs, [20, 30])
    sets = _split(pairs, places)
    assert [len(sets[n]) for n in (1, 2)] == [20, 30]
    assert sorted(sets[COPY]) == sorted(sets[1] + sets[2])  # each is there twice
    for side in (0, 1):
        kept, one, two = ({pair[side] for pair in sets[n]} for n in (TRAIN, 1, 2))
        assert not kept & (one | two)
        assert not one & two
        assert len(one) == 20
    again = choose(pairs, [20, 30])
    assert (places == again).all()
    assert (places != choose(pairs, [20, 30], seed=2)).any()


def test_a_pair_whose_sentence_occurs_in_another_is_not_chosen():
    pairs = [("a", "x"), ("a", "y"), ("b", "y"), ("c", "z"), ("d", "w")]
    assert choose(pairs, [2]).tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(UserError, match="hold out 3 pairs, but must hold out at most 2: of 5"):
        choose(pairs, [3])


def test_hundreds_of_sets_can_be_held_out():
    places = choose([(f"s{number}", f"t{number}") for number in range(300)], [1] * 299)
    assert sorted(places) == list(range(300))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ein Hund.", "ein  hund", True),
        ("„Ja“", '"Ja"', True),
        ("ﬁn", "fin", True),
        ("a\tb", "a b", True),
        ("Ein Hund", "Ein Hundchen", False),
        ("1990", "1991", False),
        ("!", "?", False),
        ("+", "-", False),
        ("का", "की", False),
    ],
)
def test_what_counts_as_the_same_sentence(one, other, same):
    pairs = [(one, "x"), (other, "y"), ("c", "z"), ("d", "w")]
    most = 2 if same else 3
    assert (choose(pairs, [most]) != TRAIN).sum() == most
    with pytest.raises(UserError, match=f"at most {most}"):
        choose(pairs, [most + 1])


def test_only_pairs_that_fit_are_chosen_and_one_is_left():
    pairs = [("a", "x"), ("b", "y"), ("c", "z")]
    fits = {"a": False, "b": True, "c": False}
    assert choose(pairs, [1], fits=lambda source, target: fits[source]).tolist() == [0, 1, 0]
    with pytest.raises(UserError, match="at most 2: of 3"):
        choose(pairs, [3])
    with pytest.raises(UserError, match="at most 0: of 0"):
        choose([], [1])

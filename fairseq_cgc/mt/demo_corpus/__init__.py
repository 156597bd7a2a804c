"""A German-English corpus that is made, not fetched, so that a first run needs no network.

Its sentences come from a seeded grammar with what makes German hard to translate word by word:
agreement in gender, case and number; the finite verb second in main clauses, first in questions
and last in subordinate ones; participles, infinitives and separated prefixes at the clause's end;
objects in front of the subject. What they say is nonsense more often than not.

Layers, lowest first: ``inflection`` (forms of words), ``verbs``, ``nouns``, ``adverbials`` (the
lexicon), ``grammar`` (a clause in both languages), ``phrases``, ``clauses``, ``sentences`` (random
choices), ``corpus`` (distinct pairs, files).
"""

from fairseq_cgc.mt.demo_corpus.corpus import MAX_PAIRS, generate_pairs, write_corpus

__all__ = ["MAX_PAIRS", "generate_pairs", "write_corpus"]

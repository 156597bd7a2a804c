"""The guided first run, on a German-English corpus that is generated rather than downloaded.

The sentences come from a seeded grammar with what makes German hard to translate word by word:
agreement in gender, case and number; the finite verb second in main clauses, first in questions
and last in subordinate ones; participles, infinitives and separated prefixes at the clause's end;
objects in front of the subject. Most sentences are nonsense.

Modules, lowest first: :mod:`.inflection` (forms of words), :mod:`.lexicon` (the words, from
``words/*.tsv``), :mod:`.grammar` (what a clause says), :mod:`.german` and :mod:`.english` (its
wording), :mod:`.noun_phrases`, :mod:`.clauses` and :mod:`.sentences` (random choices),
:mod:`.corpus` (distinct pairs, files), :mod:`.run` (corpus, training, evaluation, pictures).
"""

from fairseq_cgc.demo.corpus import MAX_PAIRS, generate_pairs, write_corpus

__all__ = ["MAX_PAIRS", "generate_pairs", "write_corpus"]

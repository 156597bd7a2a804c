"""The hypotheses of a batch in beam search: how they grow, end and are limited.

Shape letters: S sentences, R rows of a sentence (1 at the first step, then the beam), N = S x R,
V types of the target dictionary, K candidates of a sentence (twice the beam).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_cgc.inference.decoding import DecoderState
from fairseq_cgc.inference.dictionary import EOS, PAD, UNK
from fairseq_cgc.inference.model import Model
from fairseq_cgc.inference.search_options import SearchOptions

_NEVER = -math.inf
# Log-probabilities that a CPU computes at a time: 1 MiB, which stays in a core's cache.
_CHUNK = 2**18
# Groups into which the types are divided; only the best groups are searched.
_GROUPS = 256


class Hypothesis(NamedTuple):
    """One translation.

    Attributes:
        tokens: the numbers of its types, with the end of the sentence.
        score: the log-probability, divided by the length to the power of ``lenpen``.
        token_scores: the log-probability of each token.
        attention: target x source positions, the mean of the last layer's heads; None unless
            requested.
    """

    tokens: list[int]
    score: float
    token_scores: list[float]
    attention: Tensor | None


class Beams:
    """The hypotheses of a batch: those that still grow and those that have ended.

    Args:
        models: the models that translate together.
        options: the options of the search.
        states: the state of each model's decoder before the first step.
        limits: the largest number of tokens in each translation, without its end.
        lengths: the number of tokens in each source sentence.
        prefixes: the tokens that each translation begins with, if any.
    """

    def __init__(
        self,
        models: Sequence[Model],
        options: SearchOptions,
        states: Sequence[DecoderState],
        limits: list[int],
        lengths: list[int],
        prefixes: Sequence[Sequence[int]] | None,
    ) -> None:
        self._models, self._options, self._states = models, options, states
        self._limits, self._lengths, self._prefixes = limits, lengths, prefixes
        table = models[0].decoder.embed_tokens.weight
        device, self._types = table.device, len(table)
        self._beam = min(options.beam, self._types - 1)  # the padding is never chosen
        groups = min(_GROUPS, self._types)
        members = -(-self._types // groups)
        types = torch.arange(groups * members, device=device)
        # Groups x members: the types of each group, the last groups filled up with padding.
        self._groups = types.masked_fill(types >= self._types, PAD).view(members, groups).t()
        #: The numbers of the sentences that still grow.
        self.sentences = list(range(len(limits)))
        self._rows, self._step = 1, 0
        # N x step + 1: tokens and the sums of their log-probabilities. fairseq begins with EOS.
        self._tokens = torch.full((len(limits), 1), EOS, device=device)
        self._sums = torch.zeros(len(limits), 1, device=device)
        self._attention: Tensor | None = None  # N x step x T
        # N x V, float32: the log-probabilities of scores in bfloat16.
        self._log_probs = torch.empty(0, device=device)
        # S x 1: the first row of every sentence.
        self._first_rows = torch.arange(len(limits), device=device).unsqueeze(1)
        self._ended: list[list[Hypothesis]] = [[] for _ in limits]

    def advance(self) -> None:
        """Extend the best hypotheses of every sentence by a token, and keep those that end."""
        beam = self._beam
        scores, best = self._log_probabilities(self._next_scores())
        sums, tokens, rows = self._candidates(scores, best)
        if self._prefixes is not None:
            self._force_prefixes(scores, sums, tokens, rows)
        rows = rows + self._first_rows
        is_end = tokens.eq(EOS) & sums.gt(_NEVER)  # which is false for NaN
        ends = is_end.nonzero().tolist()  # a GPU is waited for here, and where hypotheses end
        self._keep([(s, k) for s, k in ends if k < beam], rows, sums)

        stay = [i for i, number in enumerate(self.sentences) if not self._is_finished(number)]
        chosen = None
        if len(stay) < len(self.sentences):
            self.sentences = [self.sentences[i] for i in stay]
            if not stay:
                return
            chosen = torch.tensor(stay, dtype=torch.long, device=rows.device)
            rows, sums, tokens, is_end = (x[chosen] for x in (rows, sums, tokens, is_end))
        if ends:  # the others take their places
            order = is_end.int().argsort(dim=1, stable=True)
            sums = sums.masked_fill(is_end, _NEVER)
            rows, sums, tokens = (x.gather(1, order) for x in (rows, sums, tokens))
        rows, sums, tokens = (x[:, :beam].flatten() for x in (rows, sums, tokens))
        self._continue(rows, sums, tokens, chosen)

    def best_of(self, number: int) -> list[Hypothesis]:
        """The hypotheses of a sentence, the best first."""
        found = sorted(self._ended[number], key=lambda hypothesis: -hypothesis.score)
        return found[: self._options.nbest]

    def _next_scores(self) -> Tensor:
        """Scores of the next token, N x V; their log-softmax is the models' log-probability."""
        found = []
        for model, state in zip(self._models, self._states, strict=True):
            found.append(model.decoder.step(self._tokens[:, -1], state, self._options.temperature))
        if len(found) == 1:
            return found[0]
        logs = torch.stack([scores.log_softmax(-1, dtype=torch.float32) for scores in found])
        return logs.logsumexp(0) - math.log(len(found))

    def _log_probabilities(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities within the limits of the options.

        Args:
            scores: N x V, of the next token; overwritten on a CPU.

        Returns:
            The log-probabilities, N x V, and the best of each group, N x groups. Group g has the
            types g, g + groups, g + 2 groups and so on.
        """
        on_cpu = scores.device.type == "cpu"
        logits = scores
        if not on_cpu:
            scores = scores.log_softmax(-1, dtype=torch.float32)
        elif scores.dtype != torch.float32:
            if len(self._log_probs) < len(scores):  # fresh memory at each step would be slow
                self._log_probs = torch.empty(scores.shape)
            scores = self._log_probs[: len(scores)]
        groups, members = self._groups.shape
        full = (members - 1) * groups  # types but for each group's last one
        best = scores.new_empty(len(scores), groups)
        some_rows = self._limit_some()
        size = max(1, _CHUNK // self._types) if on_cpu and not some_rows else len(scores)
        for raw, chunk, out in zip(*(x.split(size) for x in (logits, scores, best)), strict=True):
            if on_cpu:
                if scores is not logits:
                    chunk.copy_(raw)
                torch.log_softmax(chunk, -1, out=chunk)
            chunk[:, PAD] = _NEVER
            if self._options.unkpen:
                chunk[:, UNK] -= self._options.unkpen
            if self._step < self._options.min_len and self._prefixes is None:
                chunk[:, EOS] = _NEVER
            for limit in some_rows:
                limit(chunk)
            if full == 0:
                out.copy_(chunk)
                continue
            torch.amax(chunk[:, :full].unflatten(1, (-1, groups)), 1, out=out)
            last = out[:, : self._types - full]
            torch.maximum(last, chunk[:, full:], out=last)
        return scores, best.nan_to_num_(_NEVER, math.inf, _NEVER)

    def _limit_some(self) -> list[Callable[[Tensor], None]]:
        """The limits of this step that do not apply to all rows alike."""
        limits: list[Callable[[Tensor], None]] = []
        if any(self._step >= self._limits[number] for number in self.sentences):
            limits.append(self._end_at_the_limit)
        if self._options.match_source_len or (
            self._step < self._options.min_len and self._prefixes is not None
        ):
            limits.append(self._forbid_early_ends)
        if self._options.no_repeat_ngram_size > 0:
            limits.append(self._forbid_repeated_ngrams)
        return limits

    def _end_at_the_limit(self, scores: Tensor) -> None:
        rows = self._rows_where(lambda number: self._step >= self._limits[number])
        ends = 0.0 if self._options.match_source_len else scores[rows, EOS]
        scores[rows] = _NEVER
        scores[rows, EOS] = ends

    def _forbid_early_ends(self, scores: Tensor) -> None:
        least = math.inf if self._options.match_source_len else self._options.min_len

        def must_go_on(number: int) -> bool:
            least_length = min(least, self._limits[number])
            return self._step < least_length and not self._is_forced(number)

        scores[self._rows_where(must_go_on), EOS] = _NEVER

    def _forbid_repeated_ngrams(self, scores: Tensor) -> None:
        scores[repeated_ngrams(self._tokens, self._options.no_repeat_ngram_size)] = _NEVER

    def _candidates(self, scores: Tensor, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best continuations of every sentence.

        Args:
            scores: N x V, log-probabilities.
            best: N x groups, see :meth:`_log_probabilities`.

        Returns:
            S x K, the best first: sums of log-probabilities, tokens, and rows of the sentence.
        """
        count, sums = 2 * self._beam, self._sums[:, -1:]
        groups = self._groups
        within = (best + sums).view(len(self.sentences), -1)
        _, places = within.topk(min(count, within.shape[1]), sorted=False)
        rows = places // len(groups)  # S x K
        tokens = groups[places % len(groups)]  # S x K x members
        at = (rows + self._first_rows).unsqueeze(2)
        found = scores.view(-1)[at * self._types + tokens] + sums.view(-1)[at]
        found, chosen = found.flatten(1).topk(min(count, found[0].numel()))
        return (
            found,
            tokens.flatten(1).gather(1, chosen),
            rows.gather(1, chosen // groups.shape[1]),
        )

    def _force_prefixes(self, scores: Tensor, sums: Tensor, tokens: Tensor, rows: Tensor) -> None:
        """Make the next token of a prefix the only candidate of its sentence."""
        assert self._prefixes is not None
        for i, number in enumerate(self.sentences):
            if self._is_forced(number):
                token, first = self._prefixes[number][self._step], i * self._rows
                tokens[i], rows[i], sums[i] = token, 0, _NEVER
                # The end of the sentence in a prefix ends all hypotheses.
                alike = self._beam if token == EOS else 1
                sums[i, :alike] = scores[first, token] + self._sums[first, -1]

    def _is_forced(self, number: int) -> bool:
        prefix = () if self._prefixes is None else self._prefixes[number]
        return self._step < min(len(prefix), self._limits[number])

    def _rows_where(self, holds: Callable[[int], bool]) -> Tensor:
        """The rows of the sentences that meet a condition."""
        first = [i * self._rows for i, number in enumerate(self.sentences) if holds(number)]
        rows = [row for begin in first for row in range(begin, begin + self._rows)]
        return torch.tensor(rows, dtype=torch.long, device=self._tokens.device)

    def _is_finished(self, number: int) -> bool:
        return len(self._ended[number]) >= self._beam or self._step >= self._limits[number]

    def _keep(self, ends: list[tuple[int, int]], rows: Tensor, sums: Tensor) -> None:
        """Keep the candidates that end, given as (sentence, place), the better ones first."""
        if not ends:
            return
        where = tuple(torch.tensor(ends, device=rows.device).t())
        rows, sums = rows[where], sums[where]
        all_sums = torch.cat([self._sums[rows], sums.unsqueeze(1)], 1)
        scores = (
            sums if self._options.unnormalized else sums / (self._step + 1) ** self._options.lenpen
        )
        # All at once, because a GPU is waited for each time.
        tokens, parts = self._tokens[rows, 1:].tolist(), all_sums.diff().tolist()
        attention = self._attention_of(rows).cpu() if self._states[0].keep_weights else None
        for i, ((sentence, _), score) in enumerate(zip(ends, scores.tolist(), strict=True)):
            number = self.sentences[sentence]
            if len(self._ended[number]) < self._beam:
                weights = None if attention is None else attention[i, :, : self._lengths[number]]
                self._ended[number].append(Hypothesis([*tokens[i], EOS], score, parts[i], weights))

    def _attention_of(self, rows: Tensor) -> Tensor:
        """The attention weights of rows, up to the newest step: rows x steps x T."""
        newest = self._states[0].weights
        weights = [state.weights for state in self._states]
        assert newest is not None
        newest = torch.stack([w for w in weights if w is not None]).mean(0)[rows].unsqueeze(1)
        return newest if self._attention is None else torch.cat([self._attention[rows], newest], 1)

    def _continue(
        self, rows: Tensor, sums: Tensor, tokens: Tensor, sentences: Tensor | None
    ) -> None:
        """Let row i be the former row ``rows[i]`` with one more token."""
        if self._states[0].keep_weights:
            self._attention = self._attention_of(rows)
        self._tokens = torch.cat([self._tokens[rows], tokens.unsqueeze(1)], 1)
        self._sums = torch.cat([self._sums[rows], sums.unsqueeze(1)], 1)
        for state in self._states:
            state.reorder(rows, sentences)
        if self._rows != self._beam or sentences is not None:
            self._rows = self._beam
            self._first_rows = torch.arange(0, len(rows), self._rows, device=rows.device)[:, None]
        self._step += 1


def repeated_ngrams(tokens: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Find the tokens that would repeat an n-gram of their hypothesis.

    Args:
        tokens: N x steps, the hypotheses so far, with the token that fairseq begins with.
        size: n.

    Returns:
        The rows, and for each the token that must not follow. The end of the sentence is always
        allowed.
    """
    if tokens.shape[1] < size:
        return tokens.new_empty(0), tokens.new_empty(0)
    ngrams = tokens.unfold(1, size, 1)  # N x places x n
    newest = tokens[:, tokens.shape[1] - size + 1 :].unsqueeze(1)
    rows, places = ngrams[..., :-1].eq(newest).all(-1).nonzero(as_tuple=True)
    repeated = ngrams[rows, places, -1]
    is_word = repeated.ne(EOS)
    return rows[is_word], repeated[is_word]

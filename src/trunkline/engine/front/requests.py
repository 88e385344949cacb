"""One request at the front: its rows, and how the core's tokens become events."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, cast

from trunkline.core.errors import InternalError
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    FinishReason,
    Request,
    RowFinished,
    Timing,
    TokenLogprob,
    Usage,
)
from trunkline.engine.frames import GroupStarted, PromptScores, RowOutput
from trunkline.engine.front.prompt_report import PromptReport
from trunkline.engine.front.shape import Shape
from trunkline.text.lines import LineWatch
from trunkline.text.output import Output
from trunkline.text.output import RowOutput as RowReader
from trunkline.text.row_text import RowText, Shown
from trunkline.text.stop import StopMatcher, StopStrings
from trunkline.text.tokenizer import Tokenizer


class _Token(NamedTuple):
    id: int
    logprob: TokenLogprob | None


class _Row:
    """Invariant: `tokens[:received]` of the row have been taken, each once."""

    def __init__(
        self, text: RowText, reader: RowReader | None, lines: LineWatch | None = None
    ) -> None:
        self.text = text
        # Where its lines may end it.
        self.lines = lines
        # Tells thinking and tool calls apart; None: all is plain text.
        self.reader = reader
        self.received = 0
        self.epoch = 0
        self.finished = False
        # Fed to `text` and not shown yet.
        self.waiting: deque[_Token] = deque()
        # Shown, but without text so far: they go out with the next text.
        self.silent: list[_Token] = []


class Taken(NamedTuple):
    """What came of one output of the core."""

    events: Sequence[Event] = ()
    # The row ended here and must be aborted in the core.
    abort: bool = False


class GroupState:
    """Rows and counts of a request that the core works on."""

    def __init__(
        self,
        request: Request,
        tokenizer: Tokenizer,
        prompt_tokens: int,
        arrived: float,
        shape: Shape | None = None,
        prompt_ids: Sequence[int] = (),
    ) -> None:
        self._request = request
        self._report = PromptReport(request, tokenizer, prompt_ids)
        self._prompt_ids = tuple(prompt_ids) if request.return_prompt_ids else ()
        self._tokenizer = tokenizer
        self._prompt_tokens = prompt_tokens
        self._cached = 0
        self._arrived = arrived
        self._waited = 0.0
        self._first = 0.0
        self._completion_tokens = 0
        self._reasoning_tokens = 0
        self._shape = shape
        stops = StopStrings(request.stop) if request.stop else None
        self._rows = [self._row(stops) for _ in range(request.n)]
        self._open = request.n

    def _row(self, stops: StopStrings | None) -> _Row:
        request = self._request
        matcher = StopMatcher(stops, include_stop=request.include_stop) if stops else None
        reader = self._shape.reader(request) if self._shape is not None else None
        text = RowText(
            self._tokenizer,
            matcher,
            # Tags that are special tokens must reach the reader.
            skip_special_tokens=request.skip_special_tokens and reader is None,
            min_tokens=request.sampling.min_tokens,
        )
        return _Row(text, reader, LineWatch(request.lines) if request.lines else None)

    @property
    def finished(self) -> bool:
        """All rows are over."""
        return self._open == 0

    def started(self, note: GroupStarted) -> Sequence[Event]:
        """The group left the queue; what can be told of its prompt."""
        self._cached = note.cached
        self._waited = note.waited
        return self._report.started()

    def scored(self, scores: PromptScores) -> Sequence[Event]:
        """More can be told of the prompt. Raises `InternalError` when something is missing."""
        return self._report.scored(scores)

    def take(self, output: RowOutput, now: float) -> Taken:
        """Events of one output, in order; the last row's end brings `Completed`.

        Stale outputs (an older epoch, a token taken before, a finished row) give nothing. Raises
        `InternalError` when a token is missing.
        """
        row = self._rows[output.row]
        if row.finished or output.epoch < row.epoch:
            return Taken()
        row.epoch = output.epoch
        events: list[Event] = []
        if self._request.sampling.max_tokens == 0:
            self._end(events, output.row, "length", None, now)
            return Taken(events, abort=output.finish is None)
        if output.token >= 0:
            if output.sequence < row.received:
                return Taken()
            if output.sequence > row.received:
                raise InternalError(f"tokens of row {output.row} were lost in the engine")
            self._count(row, now)
            if not self._hides(output):
                shown = self._feed(row, output)
                if shown.stop is not None:
                    self._emit(events, output.row, row, shown, last=True)
                    self._end(events, output.row, "stop", shown.stop, now)
                    return Taken(events, abort=output.finish is None)
                shown, over = self._watched(row, shown, now)
                self._emit(events, output.row, row, shown, last=over)
                if over:
                    self._end(events, output.row, "length", None, now)
                    return Taken(events, abort=output.finish is None)
        if output.finish is not None:
            self._finish(events, output, row, now)
        return Taken(events)

    def _count(self, row: _Row, now: float) -> None:
        row.received += 1
        self._completion_tokens += 1
        if not self._first:
            self._first = now

    def _hides(self, output: RowOutput) -> bool:
        """True for the end-of-text or stop token that ended the row."""
        if output.finish != "stop":
            return False
        if self._stop_id(output) is not None:
            return not self._request.include_stop
        # Any other token is the last one of a grammar.
        return output.token in self._tokenizer.eog

    def _stop_id(self, output: RowOutput) -> int | None:
        sampling = self._request.sampling
        if output.token not in sampling.stop_token_ids:
            return None
        is_end = output.token in self._tokenizer.eog and not sampling.ignore_eos
        return None if is_end else output.token

    def _feed(self, row: _Row, output: RowOutput) -> Shown:
        row.waiting.append(_Token(output.token, self._logprob(output)))
        return row.text.feed(output.token)

    def _watched(self, row: _Row, shown: Shown, now: float) -> tuple[Shown, bool]:
        """What of `shown` its lines leave, and whether they end the row."""
        if row.lines is None or not shown.text:
            return shown, False
        text, over = row.lines.feed(shown.text, now - self._first)
        return shown._replace(text=text), over

    def _finish(self, events: list[Event], output: RowOutput, row: _Row, now: float) -> None:
        shown = row.text.finish()
        self._emit(events, output.row, row, shown, last=True)
        reason = cast(FinishReason, output.finish)
        stop: str | int | None = shown.stop
        if stop is not None:
            reason = "stop"
        elif reason == "stop":
            stop = self._stop_id(output)
        hidden = output if output.token >= 0 and self._hides(output) else None
        self._end(events, output.row, reason, stop, now, hidden)

    def _emit(
        self, events: list[Event], number: int, row: _Row, shown: Shown, *, last: bool
    ) -> None:
        row.silent += (row.waiting.popleft() for _ in range(shown.tokens))
        outputs = _read(row.reader, shown.text, last=last)
        if not outputs and not (last and row.silent):
            return
        events += [self._delta(number, row, output) for output in outputs or [Output()]]

    def _delta(self, number: int, row: _Row, output: Output) -> Delta:
        """The tokens that were silent go with the first of several outputs."""
        tokens, row.silent = row.silent, []
        logprobs = None
        if self._request.sampling.logprobs is not None:
            logprobs = tuple(token.logprob for token in tokens if token.logprob is not None)
        ids = tuple(token.id for token in tokens)
        if output.reasoning and not output.text and not output.tool_calls:
            self._reasoning_tokens += len(ids)
        return Delta(
            self._request.id,
            number,
            output.text,
            ids,
            logprobs,
            output.reasoning,
            output.tool_calls,
        )

    def _end(
        self,
        events: list[Event],
        number: int,
        reason: FinishReason,
        stop: str | int | None,
        now: float,
        hidden: RowOutput | None = None,
    ) -> None:
        row = self._rows[number]
        row.finished = True
        row.waiting.clear()
        self._open -= 1
        if row.reader is not None and stop is None:
            reason = row.reader.reason(reason)
        token = hidden.token if hidden is not None else None
        logprob = self._logprob(hidden) if hidden is not None else None
        events.append(RowFinished(self._request.id, number, reason, stop, token, logprob))
        if self._open == 0:
            usage = Usage(
                self._prompt_tokens,
                self._completion_tokens,
                self._cached,
                self._reasoning_tokens,
            )
            timing = self._timing(now)
            events.append(Completed(self._request.id, usage, timing, self._prompt_ids))

    def _timing(self, now: float) -> Timing:
        first = self._first or now
        prefill = max(0.0, first - self._arrived - self._waited)
        return Timing(self._waited, prefill, max(0.0, now - first))

    def _logprob(self, output: RowOutput) -> TokenLogprob | None:
        wanted = self._request.sampling.logprobs
        if wanted is None or output.logprob is None:
            return None
        data = self._tokenizer.piece(output.token)
        top = tuple(self._alternative(token, value) for token, value in output.top[:wanted])
        return TokenLogprob(_shown(data), data, output.token, output.logprob, top)

    def _alternative(self, token: int, logprob: float) -> tuple[str, bytes, int, float]:
        data = self._tokenizer.piece(token)
        return (_shown(data), data, token, logprob)


def _read(reader: RowReader | None, text: str, *, last: bool) -> list[Output]:
    """What may be shown now of the row's text, in order."""
    if reader is None:
        return [Output(text=text)] if text else []
    outputs = reader.feed(text) if text else []
    return outputs + reader.finish() if last else outputs


def _shown(data: bytes) -> str:
    return data.decode(errors="replace")

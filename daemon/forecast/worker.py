"""Edge: the process that runs the forecaster, and the loop's way to it.

Torch stays out of the daemon's memory, and whatever becomes of the forecaster, the loop gets an answer in time: the
present persists, with the reason said. Parent and child speak length-prefixed pickles over the child's own pipes; the
paths, most of an answer by far, lie in a file that is only memory and that both have open: a pipe of 64 KiB is slow.
"""

import asyncio
import contextlib
import ctypes
import importlib
import os
import pickle
import select
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import IO, TypeVar

import numpy as np
import structlog

from daemon.forecast.base import Forecaster, Horizon
from daemon.forecast.parcel import Packed, Ranges, packed, received, sent
from daemon.forecast.persist import Persist
from daemon.types import Forecast, History

RECURRENT = "daemon.forecast.ensemble:Recurrent"
UNAVAILABLE = "forecast_unavailable"
THREADS = 2
LARGEST_BYTES = 1 << 31
MOST_JOBS = 250
Answer = TypeVar("Answer")
_LENGTH = struct.Struct("!Q")
_WILD = 1e4
_CHILD = "from daemon.forecast.worker import main; main()"
_BUFFER_BYTES = 1 << 22
_MANY = 32
_MOST_UNLEARNED = 20_000
_LULL_SECONDS = 0.05
"""How long nobody must ask before learning begins: the next part of a sweep comes sooner."""
_PR_SET_PDEATHSIG = 1


class _Broken(Exception):
    """The child is dead, late or talks nonsense: it must be started again."""


@dataclass(slots=True, eq=False)
class _Ask:
    histories: Sequence[History]
    horizon: Horizon
    deadline: float
    answer: "asyncio.Future[list[Forecast]]"


class ForecastProcess:
    """A forecaster in a child process. ``target`` names its class, ``module:Class``, made without arguments.

    Asks that come while the child is busy go to it together. A child that dies, is late or answers nonsense is killed
    and started again, after a pause that doubles from ``pause_seconds`` with every failure in a row.
    """

    def __init__(
        self, target: str = RECURRENT, *, start_seconds: float = 60.0, pause_seconds: float = 1.0,
        longest_pause_seconds: float = 60.0,
    ) -> None:  # fmt: skip
        """Prepare; nothing runs before ``start``."""
        self._target = target
        self._start_seconds = start_seconds
        self._pause = (pause_seconds, longest_pause_seconds)
        self._pending: list[_Ask] = []
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._child: asyncio.subprocess.Process | None = None
        self._shared = -1
        self._keeper: asyncio.Task[None] | None = None
        self._fault = "not started"

    @property
    def pid(self) -> int | None:
        """The child that is ready to answer, if there is one."""
        return self._child.pid if self._child is not None and not self._fault else None

    async def start(self) -> None:
        """Start the child and wait until it is ready or has failed once. Never raises; starting twice does nothing."""
        if self._keeper is None:
            self._settled.clear()
            self._keeper = asyncio.create_task(self._keep())
        await self._settled.wait()

    async def stop(self) -> None:
        """End the child and wait until it is gone. Open asks are answered by persistence. Idempotent."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._bury()  # again, for the case that it was itself cut off
        self._fault = "stopped"
        self._refuse(self._pending)

    async def forecast(
        self, histories: Sequence[History], horizon: Horizon, timeout: float
    ) -> tuple[list[Forecast], str]:
        """Forecast a batch within ``timeout`` seconds: (one forecast a history, reason).

        The reason is "" when every forecast is the forecaster's own. A forecast that is not sound, or not there in
        time, is replaced by persistence's, whose ``reason`` begins with ``forecast_unavailable``. Never raises.
        """
        parts = [histories[place : place + MOST_JOBS] for place in range(0, len(histories), MOST_JOBS)]
        answers = await asyncio.gather(*(self._ask(part, horizon, timeout) for part in parts))
        found = [forecast for forecasts, _ in answers for forecast in forecasts]
        return found, next((reason for _, reason in answers if reason), "")

    async def _ask(self, histories: Sequence[History], horizon: Horizon, timeout: float) -> tuple[list[Forecast], str]:
        if self._fault:
            return _fallback(histories, horizon, self._fault), f"{UNAVAILABLE}: {self._fault}"
        loop = asyncio.get_running_loop()
        ask = _Ask(histories, horizon, loop.time() + timeout, loop.create_future())
        self._pending.append(ask)
        self._wake.set()
        try:
            answer = await asyncio.wait_for(ask.answer, timeout)
        except TimeoutError:
            return _fallback(histories, horizon, "late"), f"{UNAVAILABLE}: late"
        except _Broken as error:
            return _fallback(histories, horizon, str(error)), f"{UNAVAILABLE}: {error}"
        return await _aside(len(histories), _vetted, histories, horizon, answer)

    async def _keep(self) -> None:
        """Start the child, serve, and start it again, for as long as this runs."""
        log = structlog.get_logger()
        pause, longest = self._pause
        failures = 0
        while True:
            try:
                await self._launch()
                self._fault = ""
                self._settled.set()
                while True:
                    await self._serve_once()
                    failures = 0
            except Exception as error:  # a chore's border: whatever broke, the child is started again
                self._fault = _said(error)
            finally:
                self._fault = self._fault or "stopped"
                self._settled.set()
                self._refuse(self._pending)
                await self._bury()
            wait = min(pause * 2.0**failures, longest)
            failures += 1
            log.warning("forecaster starts again", reason=self._fault, after_seconds=wait)
            await asyncio.sleep(wait)

    async def _launch(self) -> None:
        threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self._shared = os.memfd_create("scaleahead-forecasts")
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", _CHILD, self._target, str(os.getpid()), str(self._shared),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_BUFFER_BYTES,
            pass_fds=(self._shared,),
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )  # fmt: skip
        try:
            answer = await asyncio.wait_for(self._read(), self._start_seconds)
        except TimeoutError as error:
            raise _Broken("the forecaster was not ready in time") from error
        if answer != "ready":
            raise _Broken(f"the forecaster did not start: {answer}")

    async def _serve_once(self) -> None:
        """Wait for asks, put the child one batch of them, and hand out its answer."""
        await self._wake.wait()
        asks = self._take()
        if not asks:
            return
        histories = [history for ask in asks for history in ask.histories]
        loop = asyncio.get_running_loop()
        left = max(max(ask.deadline for ask in asks) - loop.time(), 0.0)
        try:
            answer = await asyncio.wait_for(self._put((histories, asks[0].horizon), len(histories)), left)
            if not isinstance(answer, list) or len(answer) != len(histories):
                raise _Broken("the forecaster answered nonsense")
        except TimeoutError as error:
            self._refuse(asks, "late")
            raise _Broken("late") from error
        except BaseException as error:  # passed on: but those who wait must hear of it first
            self._refuse(asks, "stopped" if isinstance(error, asyncio.CancelledError) else _said(error))
            raise
        place = 0
        for ask in asks:
            if not ask.answer.done():
                ask.answer.set_result(answer[place : place + len(ask.histories)])
            place += len(ask.histories)

    def _take(self) -> list[_Ask]:
        """Take what can go together: asks of one horizon, up to ``MOST_JOBS`` jobs but at least one ask."""
        waiting = [ask for ask in self._pending if not ask.answer.done()]
        taken: list[_Ask] = []
        count = 0
        for ask in waiting:
            fits = not taken or (ask.horizon == taken[0].horizon and count + len(ask.histories) <= MOST_JOBS)
            if fits:
                taken.append(ask)
                count += len(ask.histories)
        self._pending = [ask for ask in waiting if ask not in taken]
        if not self._pending:
            self._wake.clear()
        return taken

    async def _put(self, request: object, jobs: int) -> object:
        child = self._child
        assert child is not None
        assert child.stdin is not None
        body = await _aside(jobs, pickle.dumps, request, 5)
        child.stdin.write(_LENGTH.pack(len(body)) + body)
        await child.stdin.drain()
        return await self._read(jobs)

    async def _read(self, jobs: int = 0) -> object:
        child = self._child
        assert child is not None
        assert child.stdout is not None
        (length,) = _LENGTH.unpack(await child.stdout.readexactly(_LENGTH.size))
        if length > LARGEST_BYTES:
            raise _Broken("the forecaster's answer is too long")
        body = await child.stdout.readexactly(length)
        try:
            return await _aside(jobs, received, body, self._shared)
        except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, IndexError, TypeError) as error:
            raise _Broken("the forecaster answered nonsense") from error

    def _refuse(self, asks: Sequence[_Ask], reason: str = "") -> None:
        for ask in asks:
            if not ask.answer.done():
                ask.answer.set_exception(_Broken(reason or self._fault))
        if asks is self._pending:
            self._pending = []

    async def _bury(self) -> None:
        """Kill the child, if there is one, and wait for its end, so that no zombie stays."""
        shared, self._shared = self._shared, -1
        if shared >= 0:
            os.close(shared)
        child = self._child
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()
        self._child = None


async def _aside(jobs: int, work: Callable[..., Answer], *given: object) -> Answer:
    """Do work on many jobs in a thread, so that the loop goes on meanwhile; on few it would not be worth it."""
    return await asyncio.to_thread(work, *given) if jobs > _MANY else work(*given)


def _said(error: BaseException) -> str:
    """Say what broke; a pipe that ended means that the process did, whatever the pipe says of bytes."""
    return str(error) if isinstance(error, _Broken) else "the forecaster's process ended"


def _fallback(histories: Sequence[History], horizon: Horizon, reason: str) -> list[Forecast]:
    return [
        replace(forecast, reason=f"{UNAVAILABLE}: {reason}") for forecast in Persist().predict(histories, horizon)
    ]  # fmt: skip


def _vetted(histories: Sequence[History], horizon: Horizon, answer: Sequence[object]) -> tuple[list[Forecast], str]:
    """Take each sound forecast, and persistence's for the others."""
    found: list[Forecast] = []
    reason = ""
    for history, each in zip(histories, answer, strict=True):
        forecast, ranges = (each.forecast(), each.ranges()) if isinstance(each, Packed) else (each, None)
        fault = unsound(history, forecast, ranges)
        if fault or not isinstance(forecast, Forecast):
            reason = f"{UNAVAILABLE}: {fault}"
            found.extend(_fallback([history], horizon, fault))
        else:
            found.append(forecast)
    return found, reason


def unsound(history: History, forecast: object, ranges: Ranges | None = None) -> str:
    """Say what is wrong with a forecast of a job, "" if nothing is: its frame, its chances, then each of its paths."""
    if isinstance(forecast, str):
        return forecast
    if not isinstance(forecast, Forecast) or forecast.job != history.job:
        return "not a forecast of this job"
    steps, probability = forecast.steps, forecast.probability
    if not len(steps) or (np.diff(steps) <= 0).any() or steps[0] <= forecast.at_step:
        return "its steps do not ascend from the present"
    if len(history) and forecast.at_step != int(history.step[-1]):
        return "it was not made from the newest step"
    if probability.ndim != 1 or not len(probability) or not (probability >= 0).all():
        return "its probabilities are not probabilities"
    if not abs(float(probability.sum()) - 1.0) < 1e-6:
        return "its probabilities do not sum to 1"
    shape = (len(probability), len(steps))
    columns = (*forecast.paths.values(), *forecast.deviations.values())
    names = (*forecast.paths, *forecast.deviations)
    misshapen = next((name for name, column in zip(names, columns, strict=True) if column.shape != shape), None)
    if misshapen is not None:
        return f"{misshapen} has the wrong shape"
    lows, highs = ranges or ([float(each.min()) for each in columns], [float(each.max()) for each in columns])
    for place, (name, low, high) in enumerate(zip(names, lows, highs, strict=True)):
        fault = _wild(name, history, low, high) if place < len(forecast.paths) else _no_deviation(name, low, high)
        if fault:
            return fault
    return ""


def _no_deviation(name: str, low: float, high: float) -> str:
    return "" if 0.0 <= low <= high < np.inf else f"the deviation of {name} is not one"


def _wild(name: str, history: History, low: float, high: float) -> str:
    """Say whether a path is not finite or, of a physical quantity, beyond reason: 10,000 times all seen."""
    if not (-np.inf < low and high < np.inf):
        return f"{name} is not finite"
    if name != "step_seconds" and not name.startswith("usage."):
        return ""
    if low < 0:
        return f"{name} is negative"
    seen = history.columns.get(name)
    known = float(np.fmax.reduce(seen, initial=0.0)) if seen is not None else 0.0
    return f"{name} is out of all reason" if known > 0 and high > _WILD * known else ""


def serve(target: str, requests: IO[bytes], answers: IO[bytes], shared: int) -> None:
    """Run in the child: make the forecaster, say "ready", then answer each request until the pipe ends.

    A request is (histories, horizon); the answer a list with a forecast, or a line on what went wrong, for each.
    The forecaster learns while nobody waits, in small batches, so that learning delays no answer.
    """

    def send(answer: Sequence[object]) -> None:
        body = sent(answer, shared)
        answers.write(_LENGTH.pack(len(body)) + body)
        answers.flush()

    module, _, name = target.partition(":")
    forecaster: Forecaster = getattr(importlib.import_module(module), name)()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(THREADS)
    send("ready")
    fresh: dict[str, History] = {}
    while head := requests.read(_LENGTH.size):
        histories, horizon = pickle.loads(requests.read(_LENGTH.unpack(head)[0]))
        send([packed(each) for each in _attempt(forecaster, histories, horizon)])
        fresh.update((history.job, history) for history in histories)
        lull = _LULL_SECONDS
        while fresh and (len(fresh) > _MOST_UNLEARNED or not select.select([requests], [], [], lull)[0]):
            _learn(forecaster, [fresh.pop(job) for job in list(fresh)[:_MANY]])
            lull = 0.0


def _learn(forecaster: Forecaster, histories: Sequence[History]) -> None:
    try:
        forecaster.observe(histories)
    except Exception:  # a request's border: what cannot be learned from must not end the forecaster
        _log_fault("learning failed", histories)


def _attempt(forecaster: Forecaster, histories: Sequence[History], horizon: Horizon) -> Sequence[object]:
    """Forecast a batch; if that fails, each job alone, so that one job's fault stays its own: its text in its place."""
    try:
        return forecaster.predict(histories, horizon)
    except Exception as error:  # a request's border
        _log_fault("forecast failed", histories)
        if len(histories) == 1:
            return [f"{type(error).__name__}: {error}".splitlines()[0][:200]]
    return [each for history in histories for each in _attempt(forecaster, [history], horizon)]


def _log_fault(event: str, histories: Sequence[History]) -> None:
    jobs = [history.job for history in histories[:5]]
    structlog.get_logger().error(event, jobs=jobs, traceback=traceback.format_exc(limit=-5))


def main() -> None:
    """Begin as a child: die with the parent, leave Ctrl-C to it, and keep what is printed out of the pipe."""
    target, parent = sys.argv[1], int(sys.argv[2])
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(target, sys.stdin.buffer, answers, int(sys.argv[3]))

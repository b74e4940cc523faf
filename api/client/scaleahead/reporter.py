"""Edge: what a training loop calls. Cheap, bounded, and never a reason for training to stop."""

import contextlib
import functools
import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from scaleahead.buffer import Buffer, Sample, tidy
from scaleahead.checkpoint import GRACE_SECONDS, Handshake, Release, Request
from scaleahead.hook import Hook
from scaleahead.notice import Asked, Cloud, Notices
from scaleahead.peers import Peers, Teller, rank0_url
from scaleahead.usage import Sampler
from scaleahead.wire import MOST_DECLARED, PROTOCOL, loss_state, reply

log = logging.getLogger("scaleahead")

P = ParamSpec("P")
R = TypeVar("R")
Save = Callable[[], Any]


class Noting(Protocol):
    """Takes note of what went wrong."""

    def note(self, error: Exception) -> None:
        """Count an error that was swallowed."""


def harmless(otherwise: Any = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep whatever goes wrong inside the client away from training: counted, logged once, ``otherwise`` returned."""

    def wrap(call: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(call)
        def tried(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return call(*args, **kwargs)
            except Exception as error:  # the border to somebody's training: nothing of ours may cross it
                cast(Noting, args[0]).note(error)
                return cast(R, otherwise)

        return tried

    return wrap


class Reporter:
    """Reports one run of a job and answers its hook.

    ``job``, ``hook_port``, ``host`` and ``token`` may come from ``SCALEAHEAD_JOB``, ``SCALEAHEAD_HOOK_PORT``,
    ``SCALEAHEAD_HOOK_HOST`` and ``SCALEAHEAD_TOKEN``. Without a job, or on a rank other than 0 (``RANK``), it is
    inactive and every call does nothing; another rank tells rank 0 (at ``MASTER_ADDR``) what it uses. Without a port
    nothing is served; port 0 takes a free one (see ``url``). ``SCALEAHEAD_SPOT`` (aws or gcp) has this machine's own
    spot notice watched for and turned into a checkpoint. ``usage`` is a callable giving a mapping; by default this
    process is looked at ten times a second. ``clock`` counts seconds, ``wall`` gives seconds since 1970. A taken port
    is logged and training goes on.

    ``certificate`` and ``key`` (PEM files; ``SCALEAHEAD_HOOK_CERT``, ``SCALEAHEAD_HOOK_KEY``) have the hook served over
    TLS. ``grace_seconds`` (``SCALEAHEAD_GRACE_SECONDS``, 30 unless given) is how long a run that has saved stands still
    beyond the deadline that came with the request.
    """

    def __init__(
        self,
        job: str | None = None,
        *,
        total_steps: int | None = None,
        hook_port: int | None = None,
        host: str | None = None,
        token: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        grace_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        usage: Callable[[], Mapping[str, float]] | Sampler | None = None,
        capacity: int = 4096,
        every_seconds: float = 0.2,
        declared: Sequence[tuple[int, Mapping[str, float]]] = (),
    ) -> None:
        environ = os.environ
        self.job = job or environ.get("SCALEAHEAD_JOB", "")
        self.active = bool(self.job) and environ.get("RANK", "0") == "0"
        self.run = uuid.uuid4().hex
        self.total_steps = total_steps
        self.errors = 0
        self.buffer = Buffer(capacity, every_seconds)
        self.handshake = Handshake(wall, _grace(grace_seconds))
        self._clock, self._wall = clock, wall
        self._pid = os.getpid()
        self._step = -1
        self._stepped_at: float | None = None
        self._loss: Any = None
        self._declared: dict[int, dict[str, float]] = {}
        self._lock = threading.Lock()
        self._hook: Hook | None = None
        self._notices: Notices | None = None
        self._sampler: Sampler | None = None
        self._usage: Callable[[], Mapping[str, float]] | None = None
        for from_step, hyperparameters in declared:
            self.declare(from_step, **hyperparameters)
        self.peers = Peers(int(environ.get("GROUP_RANK", "0")))
        self._teller: Teller | None = None
        if self.active:
            self._look(usage)
            self._serve(hook_port, host, token, certificate, key)
        elif self.job:
            self._tell(hook_port, token, usage)

    @harmless()
    def _tell(
        self, port: int | None, token: str | None, usage: Callable[[], Mapping[str, float]] | Sampler | None
    ) -> None:
        """Be another rank than 0: tell it what this one uses, and of this node's end."""
        url = rank0_url(port or int(os.environ.get("SCALEAHEAD_HOOK_PORT") or 0))
        if url is None:
            return
        if usage is None or isinstance(usage, Sampler):
            self._sampler = usage or Sampler()
            self._sampler.start()
            usage = self._sampler.take
        self._teller = Teller(url, token or os.environ.get("SCALEAHEAD_TOKEN") or None, usage).start()
        if os.environ.get("LOCAL_RANK") == "0":
            self._watch_notices(self._teller)

    def _watch_notices(self, run: Asked) -> None:
        cloud = os.environ.get("SCALEAHEAD_SPOT")
        if cloud in ("aws", "gcp"):
            self._notices = Notices(run, cast(Cloud, cloud), wall=self._wall).start()
        elif cloud:
            log.warning("SCALEAHEAD_SPOT is %r, spot notices go unseen - it must be aws or gcp", cloud)

    @harmless()
    def _look(self, usage: Callable[[], Mapping[str, float]] | Sampler | None) -> None:
        if usage is None or isinstance(usage, Sampler):
            self._sampler = usage or Sampler()
            self._sampler.start()
        else:
            self._usage = usage
        self._watch_notices(self)

    @harmless()
    def _serve(
        self, port: int | None, host: str | None, token: str | None, certificate: str | None, key: str | None
    ) -> None:
        given = os.environ.get
        if port is None and given("SCALEAHEAD_HOOK_PORT"):
            port = int(given("SCALEAHEAD_HOOK_PORT", ""))
        if port is None:
            return
        host = host or given("SCALEAHEAD_HOOK_HOST") or "127.0.0.1"
        token = token or given("SCALEAHEAD_TOKEN") or None
        certificate = certificate or given("SCALEAHEAD_HOOK_CERT") or None
        try:
            self._hook = Hook(self, host, port, token, certificate, key or given("SCALEAHEAD_HOOK_KEY") or None)
        except (OSError, OverflowError) as error:
            log.warning("the hook cannot listen on %s port %s, training goes on unseen: %s", host, port, error)
            return
        os.register_at_fork(after_in_child=self._hook.forget)

    # What the training loop calls.

    def step(
        self,
        step: int,
        hyperparameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        step_seconds: float | None = None,
    ) -> None:
        """Report that a step has ended. Tensors among the metrics are read later, without waiting for a device.

        ``hyperparameters`` left out stay as they were. ``step_seconds`` left out is the time since the last call.
        """
        if not self.active:
            return
        try:
            self._take(step, hyperparameters, metrics, step_seconds)
        except Exception as error:  # as in ``harmless``, without a wrapper's cost at every step
            self.note(error)

    @harmless()
    def loss(self, value: Any) -> None:
        """Give the loss of the step under way, as a number or a tensor; the next ``step`` reports it."""
        self._loss = value.detach() if hasattr(value, "detach") else value

    @harmless()
    def measured(self, metrics: Mapping[str, Any]) -> None:
        """Add metrics to the step reported last: what is known only after it, such as an evaluation's loss."""
        newest = self.buffer.newest
        if newest is not None:
            # A new mapping: the hook may be reading the old one.
            newest.metrics = {**newest.metrics, **tidy(metrics)}

    @harmless()
    def rest(self) -> None:
        """Say that what came since the last step was no training (an evaluation): the next is timed from here."""
        self._stepped_at = None if self._stepped_at is None else self._clock()

    @harmless()
    def declare(self, from_step: int, **hyperparameters: float) -> None:
        """Say ahead that from a step on these hyperparameters will hold."""
        values = {n: float(v) for n, v in tidy(hyperparameters).items() if math.isfinite(v)}
        with self._lock:
            known = self._declared.get(int(from_step), {})
            self._declared[int(from_step)] = {**known, **values}

    @harmless()
    def checkpoint_due(self) -> Request | None:
        """Give the request for a checkpoint that is still to be answered; cheap enough for every step."""
        return self.handshake.due() if self.active else None

    @harmless()
    def saved(self, id: str, step: int, uri: str | None = None, seconds: float | None = None) -> None:
        """Report a checkpoint, asked for or not. One that was asked for makes the run ``ready``: call ``hold`` next."""
        seconds = float(seconds) if seconds is not None and math.isfinite(seconds) else None
        self.buffer.settle()
        self.handshake.saved(str(id)[:100], int(step), None if uri is None else str(uri)[:1000], seconds)
        self.rest()

    @harmless(otherwise="nothing")
    def hold(self, timeout: float | None = None) -> Release:
        """Stand still while ``ready``, until the daemon lets go or the deadline has passed, so that no step is lost."""
        if not self.active or os.getpid() != self._pid:
            return "nothing"
        release = self.handshake.hold(timeout)
        self.rest()
        return release

    def at_step_end(
        self,
        step: int,
        hyperparameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        *,
        save: Save,
        periodic: bool = False,
        timeout: float | None = None,
    ) -> bool:
        """Report a step and do all that a checkpoint needs: save if one is due, acknowledge it, hold.

        ``save`` writes the checkpoint of the steps done so far and may return where it lies. ``periodic`` asks for one
        of the loop's own. Should ``save`` raise, it is logged and training goes on. Says whether it saved.
        """
        self.step(step, hyperparameters, metrics)
        due = self.checkpoint_due() is not None
        if not due and not periodic:
            return False
        return self.checkpoint(step, save, timeout)

    def checkpoint(self, step: int, save: Save, timeout: float | None = None) -> bool:
        """Save now, acknowledge, and hold if it was asked for. Says whether ``save`` succeeded."""
        began = self._clock()
        try:
            place = save()
        except Exception as error:  # the user's own function: training is worth more than one checkpoint
            log.warning("the checkpoint at step %s failed, training goes on: %s", step, error)
            self.handshake.failed()
            return False
        self.saved(f"step-{step}", step, None if place is None else str(place), self._clock() - began)
        self.hold(timeout)
        return True

    @contextlib.contextmanager
    def checkpointing(self, step: int, uri: str | None = None) -> Iterator[None]:
        """Time a block that saves, acknowledge it at its end, hold if it was asked for. The block's errors pass."""
        began = self._clock()
        self.checkpoint_due()
        try:
            yield
        except BaseException:
            self.handshake.failed()
            raise
        self.saved(f"step-{step}", step, uri, self._clock() - began)
        self.hold()

    @harmless()
    def done(self) -> None:
        """Say that training has reached its end. The hook goes on answering until ``close`` or the process's end."""
        self.buffer.settle()
        self.handshake.done()

    @harmless()
    def close(self) -> None:
        """Stop serving and looking."""
        self.active = False
        if self._sampler:
            self._sampler.close()
        if self._notices:
            self._notices.close()
        if self._teller:
            self._teller.close()
        if self._hook:
            self._hook.close()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Report ``done`` unless the block failed, and close."""
        if kind is None:
            self.done()
        self.close()

    # What can be asked.

    @property
    def url(self) -> str | None:
        """Give the hook's address to register, ``None`` if nothing is served."""
        return self._hook.url if self._hook else None

    @property
    def counts(self) -> dict[str, int]:
        """Count samples held, steps merged into others, samples dropped, and errors swallowed."""
        return {
            "held": len(self.buffer),
            "merged": self.buffer.merged,
            "dropped": self.buffer.dropped,
            "errors": self.errors,
        }

    @property
    def declared(self) -> list[dict[str, Any]]:
        """List what was declared and still matters: the entry in force, and those ahead, at most 256."""
        with self._lock:
            entries = sorted(self._declared.items())
        ahead = [at for at, _ in entries if at > self._step]
        first = max(0, len(entries) - len(ahead) - 1)
        return [{"from_step": at, "hyperparameters": v} for at, v in entries[first : first + MOST_DECLARED]]

    # What the hook calls.

    def body(self, after: int) -> bytes:
        """Write one reply of hook protocol 1, at most 64 KiB."""
        samples, end = self.buffer.after(after)
        state: str = self.handshake.state
        newest = self.buffer.newest
        if state == "training" and newest is not None and loss_state(newest.metrics) == "diverged":
            state = "diverged"
        head: dict[str, Any] = {"protocol": PROTOCOL, "job": self.job, "run": self.run}
        head |= {"declared": self.declared, "checkpoint": self.handshake.checkpoint, "state": state}
        if head["checkpoint"] is None:
            del head["checkpoint"]
        return reply(head, samples, end, self.total_steps)

    def prepare(self, request: Request) -> bool:
        """Ask the loop for a checkpoint."""
        return self.handshake.prepare(request, self._step)

    def proceed(self) -> None:
        """Let the loop go on."""
        self.handshake.proceed()

    def hear(self, said: Any) -> None:
        """Take what another rank uses. Raises ``ValueError`` with what is wrong."""
        self.peers.hear(said)

    def note(self, error: Exception) -> None:
        """Count an error that was swallowed; the first is logged."""
        self.errors += 1
        if self.errors == 1:
            log.warning("reporting failed, training goes on (further failures are only counted): %r", error)

    def _take(
        self,
        step: int,
        hyperparameters: Mapping[str, Any] | None,
        metrics: Mapping[str, Any] | None,
        step_seconds: float | None,
    ) -> None:
        if os.getpid() != self._pid:
            # A forked loading worker has a copy of us.
            return
        now = self._clock()
        if step_seconds is None and self._stepped_at is not None and step > self._step:
            step_seconds = (now - self._stepped_at) / (step - self._step)
        values = self.buffer.hyperparameters if hyperparameters is None else tidy(hyperparameters)
        measured = tidy(metrics)
        if self._loss is not None:
            measured.setdefault("loss", self._loss)
            self._loss = None
        timed = step_seconds is not None and step_seconds >= 0
        usage = self._used(exact=self.buffer.wants(values, now))
        self.buffer.add(
            Sample(
                step=int(step),
                at=self._wall(),
                hyperparameters=values,
                metrics=measured,
                usage=usage,
                seconds=step_seconds if step_seconds is not None and timed else 0.0,
                steps=int(timed),
            ),
            now,
        )
        self._step, self._stepped_at = int(step), self._clock()

    def _used(self, exact: bool) -> dict[str, float]:
        if self._sampler is not None:
            return self.peers.joined(self._sampler.take(exact))
        return self.peers.joined(self._usage()) if exact and self._usage is not None else {}


def _grace(seconds: float | None) -> float:
    given = seconds if seconds is not None else os.environ.get("SCALEAHEAD_GRACE_SECONDS") or GRACE_SECONDS
    try:
        wanted = float(given)
    except ValueError:
        wanted = math.nan
    if math.isfinite(wanted) and wanted >= 0:
        return wanted
    log.warning("a grace of %r seconds cannot be, %g stand - give a number of 0 or more", given, GRACE_SECONDS)
    return GRACE_SECONDS

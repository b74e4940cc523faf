"""Edge: gather everything one turn needs of a batch of jobs: history, drift, forecast, allocation, offers, options.

Reads only. The order of the methods is the order of an observation's way through the house.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, assert_never, cast

import structlog

from daemon import drift, engine, turn
from daemon.config import Timing
from daemon.fleets import Fleets, Known, Weighed, rate
from daemon.forecast.base import Forecaster, Horizon
from daemon.look import Look
from daemon.rewards import FORETOLD, PRESENT, Rewards
from daemon.sightings import Sighting, noticed
from daemon.sightings import known as spot_known
from daemon.speed import Speeds, learn
from daemon.store.base import Store
from daemon.types import Drift, Forecast, History, Job
from policies import guards
from policies.availability import Availability
from policies.base import Policy, shares
from policies.types import Option, Prices, RouteName, Settings, Situation
from providers import catalog, errors
from providers.base import Abroad, Provider
from providers.clock import Clock
from providers.types import Allocation, Grow, InPlace, Offer, Replace, Same, Shrink, Target

log = structlog.get_logger()

_ROUTES_TRIED = 6
_IN_ONE_GO = 4
_REFUSED_FOR = timedelta(minutes=30)
_UNANSWERED_FOR = timedelta(seconds=1)
_UNANSWERED_TURNS = 3
"""For how many turns a choice waits for a cloud that does not say whether there is a way, before others are taken."""
_T = TypeVar("_T")


class Forecasts(Protocol):
    """The forecaster behind its process border."""

    async def forecast(
        self, histories: Sequence[History], horizon: Horizon, timeout: float
    ) -> tuple[list[Forecast], str]:
        """Forecast a batch; the text says why a fallback answered, "" if none did."""


class PolicyLookup(Protocol):
    """Policies by name."""

    def get(self, name: str) -> tuple[Settings, Policy]:
        """Read one. Raises ``LookupError`` when there is none of that name."""

    def make(self, settings: Settings) -> Policy:
        """Make the policy of some settings. Raises ``LookupError`` for a kind that is not installed."""


class Watch:
    """Look at jobs. ``persist`` is the forecaster of the reactive twin and of policies that do not foresee.

    With ``rewards`` the two are mixed, as what their decisions came to has taught.
    """

    def __init__(
        self,
        store: Store,
        policies: PolicyLookup,
        providers: Mapping[str, Provider],
        forecasts: Forecasts,
        persist: Forecaster,
        clock: Clock,
        timing: Timing,
        threads: ThreadPoolExecutor,
        rewards: Rewards | None = None,
    ) -> None:
        self._store = store
        self._policies = policies
        self._providers = providers
        self._forecasts = forecasts
        self._persist = persist
        self._clock = clock
        self._timing = timing
        self._threads = threads
        self.rewards = rewards
        self._refused: dict[str, dict[str, tuple[str, datetime]]] = {}
        self._unanswered: dict[str, int] = {}
        self._here: dict[str, tuple[str, datetime]] = {}
        self._changed: dict[str, datetime] = {}
        self._shortages: dict[tuple[str, str], datetime] = {}
        self._unscored: dict[str, Forecast] = {}
        self._fleets = Fleets()
        self._sightings: dict[str, Sighting] = {}
        self.horizon = Horizon()

    async def look(self, known: Sequence[Known]) -> list[Look]:
        """Look at a batch of jobs, in the same order."""
        names = [k.job.name for k in known]
        histories, drifts = await self._run(self._read, known)
        forecasts = await self._forecast([histories[name] for name in names])
        for name, forecast in zip(names, forecasts, strict=True):
            self._unscored.setdefault(name, forecast)
        present = await self._run(self._persist.predict, [histories[name] for name in names], self.horizon)
        await self._run(lambda: self._store.telemetry.save_forecasts(forecasts, drifts))
        weighed = await self._each(
            lambda k, forecast, persisting: self._guarded(
                k, histories[k.job.name], drifts[k.job.name], forecast, persisting
            ),
            list(zip(known, forecasts, present, strict=True)),
        )
        await self._run(self._noted, weighed)
        shares = await self._run(self._fleets.shares, [one for one in weighed if isinstance(one, Weighed)])
        return await self._each(lambda one: self._concluded(one, shares), [(one,) for one in weighed])

    async def allocation(self, target: Target) -> Allocation:
        """Ask the cloud what a target is now. Raises ``ProviderError``."""
        return await self._run(self._describe, target)

    def weigh_only(self, look: Look, settings: Settings, policy: Policy, offers: Sequence[Offer], spent: float) -> Look:
        """Weigh offers for a look that has forecast and allocation, without asking any cloud for a way."""
        now = self._clock.now()
        priced = self._priced(offers, settings.prices)
        weighed = engine.weigh(self._case(look, look.forecast, settings, priced, spent, now, _speeds(look, priced)))
        seen = turn.situation(look, settings, weighed.options, (), {}, {}, spent, now, stale=False)
        return replace(look, options=weighed.options, plan=weighed.plan, choice=turn.choose(policy, seen))

    def short_of(self, provider: str, offer: str, minutes: float) -> None:
        """Remember that a cloud had none of an offer."""
        now = self._clock.now()
        self._shortages[provider, offer] = now + timedelta(minutes=minutes)
        if offer.endswith("@spot"):
            self._note(offer, False, now)

    def forget(self, job: str) -> None:
        """Forget a job that was removed: another of its name must not inherit its past."""
        self._refused.pop(job, None)
        self._unanswered.pop(job, None)
        self._here.pop(job, None)
        self._changed.pop(job, None)
        self._unscored.pop(job, None)
        self._fleets.forget(job)
        if self.rewards is not None:
            self.rewards.forget(job)

    def promised(self, job: Job, offer: Offer) -> None:
        """Note that a job is on its way to an offer."""
        self._fleets.promised(job, offer.price.usd_per_hour if offer.price else 0.0)

    # One turn's reading, in order.

    def _read(self, known: Sequence[Known]) -> tuple[dict[str, History], dict[str, Drift]]:
        histories, before = self._store.telemetry.histories([k.job.name for k in known]), self._store.telemetry.drifts()
        return histories, {
            k.job.name: self._checked(k, before.get(k.job.name, Drift()), histories[k.job.name]) for k in known
        }

    def _checked(self, known: Known, before: Drift, history: History) -> Drift:
        """Score a forecast once it is a lead time old: what it said of the time that a move must see ahead."""
        name = known.job.name
        forecast = self._unscored.get(name)
        lead = timedelta(seconds=turn.move_cost(known.status, self._timing).lead())
        if forecast is None or not len(history) or self._clock.now() - forecast.made_at < lead:
            return before
        self._unscored.pop(name, None)
        return drift.check(before, forecast, history)

    async def _forecast(self, histories: list[History]) -> list[Forecast]:
        seconds = self._clock.real_seconds(self._timing.forecast_seconds)
        forecasts, reason = await self._forecasts.forecast(histories, self.horizon, max(seconds, 5.0))
        if reason:
            log.warning("forecasting with the fallback", reason=reason)
        now = self._clock.now()
        return [replace(f, made_at=now, reason=f.reason or reason) for f in forecasts]

    def _guarded(
        self, known: Known, history: History, margin: Drift, forecast: Forecast, present: Forecast
    ) -> Look | Weighed:
        try:
            return self._looked(known, history, margin, forecast, present)
        except Exception as error:  # border: one job's turn; a policy is somebody else's code.
            return _failed(Look(known.job, known.status, history, margin, forecast=forecast), error)

    def _looked(
        self, known: Known, history: History, margin: Drift, forecast: Forecast, present: Forecast
    ) -> Look | Weighed:
        look = Look(known.job, known.status, history, margin, forecast=forecast)
        try:
            settings, policy = self._policies.get(known.job.policy)
        except LookupError:
            return replace(look, reason=f"policy {known.job.policy!r} is gone; only observing - write it again")
        if known.job.target is None:
            return replace(look, reason="no target; forecasting only - register the job with a target")
        try:
            allocation = self._describe(known.job.target)
        except errors.ProviderError as error:
            return replace(look, reason=f"the cloud does not show the machine: {error}")
        look = replace(look, allocation=allocation)
        self._fleets.costs(known.job, allocation)
        if not len(history):
            return replace(look, reason="nothing has been observed yet")
        return self._weighed(look, known, settings, policy, present)

    def _weighed(
        self, look: Look, known: Known, settings: Settings, policy: Policy, present: Forecast
    ) -> Look | Weighed:
        now = self._clock.now()
        assert look.allocation is not None
        self._sight(look.allocation, now)
        known = self._noticed(known, look.allocation, now)
        spent = self._store.ledger.spent(look.job.name)
        try:
            found = self._offers(look.job, look.allocation.target)
        except errors.ProviderError as error:
            return replace(look, reason=f"the cloud lists no offers: {error}")
        offers = self._priced(found, settings.prices)
        foresees = policy.foresees and look.drift.trusted
        speeds = _speeds(look, offers)
        case = self._case(look, look.forecast if foresees else present, settings, offers, spent, now, speeds)
        rewarded = self._rewarded(look, self.rewards, present) if foresees and self.rewards is not None else None
        main = rewarded or case.forecast
        alone, *twins = engine.weigh_each(case, [case.forecast, *([present] if foresees else [])])
        weighed = alone if rewarded is None else engine.weigh(replace(case, forecast=rewarded))
        foretold = (case, alone.options) if rewarded is not None else None
        stale = turn.is_stale(look.status, self._timing, now)
        reason = "" if look.drift.trusted else f"prediction is switched off for this job: {look.drift.reason}"
        look = replace(look, plan=weighed.plan, reason=reason, forecast=main, settings=settings)
        cap = policy.cap(settings) if shares(policy) else None
        seen = self._situation(look, known, settings, weighed.options, spent, stale, cap)
        shadow = twins[0].options if twins else weighed.options
        return Weighed(replace(look, situation=seen), known, policy, seen, shadow, foretold)

    def _noticed(self, known: Known, here: Allocation, now: datetime) -> Known:
        """Take a machine that somebody else changed as what the job has; the cooldown runs anew from then on.

        Kept in memory: a change while no daemon ran is taken over without a cooldown.
        """
        name, offer = known.job.name, here.offer.id
        before, seen_at = self._here.get(name, (offer, now))
        self._here[name] = (offer, now)
        ours = known.acting or any(moved >= seen_at for moved in known.moves)
        if offer != before and not ours:
            self._changed[name] = now
            self._store.audit.note("somebody", "machine changed", name, {"before": before, "now": offer})
        changed = self._changed.get(name)
        return known if changed is None else replace(known, moves=(*known.moves, changed))

    def _noted(self, found: Sequence[Look | Weighed]) -> None:
        """Keep what the jobs of fleets cost an hour, so that their cap holds where an intent is committed."""
        fleets: dict[str, dict[str, float]] = {}
        for one in found:
            look = one.look if isinstance(one, Weighed) else one
            with suppress(LookupError):
                settings, policy = self._policies.get(look.job.policy)
                if shares(policy) and look.allocation is not None:
                    offer = self._priced([look.allocation.offer], settings.prices)[0]
                    fleets.setdefault(settings.name, {})[look.job.name] = rate(look.allocation, offer)
        for name, rates in fleets.items():
            self._store.actions.costs(name, rates)

    def _rewarded(self, look: Look, rewards: Rewards, present: Forecast) -> Forecast:
        """Mix the experts' forecasts by their weights; what a job that is done came to refines them first."""
        assert look.forecast is not None
        assert look.allocation is not None
        rewards.saw(look.job, look.history, look.allocation.offer)
        if look.status.state == "done":
            rewards.ended(look.job)
        return rewards.mixed(look.job, look.forecast, present)

    def _concluded(self, one: Look | Weighed, shares: Mapping[str, float | Exception]) -> Look:
        if isinstance(one, Look):
            return one
        part = shares.get(one.look.job.name)
        try:
            if isinstance(part, Exception):
                raise part
            look = self._routed(one.look, one.policy, replace(one.situation, share_usd_per_hour=part))
            assert look.choice is not None
            if not one.known.acting:
                self._fleets.chosen(one.look.job, one.policy, look.choice)
            assert look.situation is not None
            twin = replace(look.situation, options=one.shadow)
            shadow = guards.preferred(one.policy, twin)
            if one.foretold is not None and self.rewards is not None:
                case, options = one.foretold
                alone = guards.preferred(one.policy, replace(look.situation, options=options))
                self.rewards.decided(look.job, case, {FORETOLD: alone.option.offer.id, PRESENT: shadow.option.offer.id})
            return replace(look, shadow=shadow)
        except Exception as error:  # border: one job's turn; a policy is somebody else's code.
            return _failed(replace(one.look, settings=None, situation=None), error)

    def _case(
        self, look: Look, forecast: Forecast | None, settings: Settings, offers: Sequence[Offer], spent: float,
        now: datetime, speeds: Speeds,
    ) -> engine.Case:  # fmt: skip
        assert look.allocation is not None
        assert forecast is not None
        current = self._priced([look.allocation.offer], settings.prices)[0]
        move = turn.move_cost(look.status, self._timing)
        return turn.case(
            look.job, look.status, replace(look.allocation, offer=current), look.history, forecast, look.drift,
            settings, offers, move, spent, now, speeds, self.sighted(),
        )  # fmt: skip

    def _routed(self, look: Look, policy: Policy, seen: Situation) -> Look:
        """Choose, then look whether there really is a way; choose again without the offers that have none.

        What the cloud says goes into the situation, so that the choice follows from it alone.
        """
        assert look.allocation is not None
        provider = self._providers[look.allocation.target.provider]
        ways: dict[str, RouteName] = {}
        for _ in range(_ROUTES_TRIED):
            choice = turn.choose(policy, seen)
            taken = choice.option.offer
            if choice.option.route in ("stay", "release") or ways.get(taken.id) == choice.option.route:
                return replace(look, options=seen.options, choice=choice, situation=seen)
            refusal, way = _way(provider, look.allocation, taken, look.job)
            if refusal is not None and refusal.unanswered and self._waits(look.job.name, seen):
                seen = replace(seen, unavailable={**_all_but_stay(seen, taken), taken.id: refusal.why})
                return replace(look, options=seen.options, choice=turn.choose(policy, seen), situation=seen)
            if refusal is None:
                self._unanswered.pop(look.job.name, None)
            if refusal is None and way == choice.option.route:
                return replace(look, options=seen.options, choice=choice, situation=seen)
            if refusal is None:
                ways[taken.id] = way
                seen = replace(seen, options=_by(seen.options, taken, way))
            else:
                self._refused.setdefault(look.job.name, {})[taken.id] = (refusal.why, seen.now + refusal.lasts)
                if refusal.short and taken.buying == "spot":
                    self._note(taken.id, False, seen.now)
                seen = replace(seen, unavailable={**seen.unavailable, taken.id: refusal.why})
        enough = {o.offer.id: "every better offer was refused by its pre-flight" for o in seen.options[1:]}
        seen = replace(seen, unavailable={**enough, **seen.unavailable})
        return replace(look, options=seen.options, choice=turn.choose(policy, seen), situation=seen)

    def _waits(self, job: str, seen: Situation) -> bool:
        """Whether to stay for a cloud's answer, since the next best is a poor guess; not for ever, nor where it cannot.

        Turns in a row are counted in which a job's choice had no answer.
        """
        times = self._unanswered[job] = self._unanswered.get(job, 0) + 1
        return times <= _UNANSWERED_TURNS and not guards.must_leave(seen)

    def _situation(
        self, look: Look, known: Known, settings: Settings, options: Sequence[Option], spent: float, stale: bool,
        cap: float | None,
    ) -> Situation:  # fmt: skip
        now = self._clock.now()
        name, provider = look.job.name, look.job.target.provider if look.job.target else ""
        refused = {o: why for o, (why, until) in list(self._refused.get(name, {}).items()) if until > now}
        short = {offer: until for (cloud, offer), until in list(self._shortages.items()) if cloud == provider}
        move = turn.move_cost(look.status, self._timing)
        seen = turn.situation(look, settings, options, known.moves, short, refused, spent, now, stale, move)
        return replace(seen, availability=self.sighted(), fleet_usd_per_hour=cap)

    def sighted(self) -> dict[str, Availability]:
        """Give what is known of the availability of spot offers now, by id. Kept in memory only."""
        return spot_known(dict(self._sightings), self._clock.now())

    def _sight(self, allocation: Allocation, now: datetime) -> None:
        """Note that the spot capacity under a job is there, or is taken back."""
        if allocation.offer.buying == "spot" and allocation.state in ("running", "terminated"):
            there = allocation.state == "running" and not turn.reclaimed(allocation, now)
            self._note(allocation.offer.id, there, now)

    def _note(self, offer: str, up: bool, now: datetime) -> None:
        self._sightings[offer] = noticed(self._sightings.get(offer), up, now)

    def _describe(self, target: Target) -> Allocation:
        provider = self._providers.get(target.provider)
        if provider is None:
            raise errors.Invalid(f"no provider {target.provider!r} is configured - add it under providers")
        return provider.describe(target)

    def _offers(self, job: Job, target: Target) -> list[Offer]:
        """List what a job's target could become, and what its recipe lets it be replaced by at other providers."""
        provider = self._providers[target.provider]
        found = list(provider.offers(target))
        if job.recipe is not None and job.recipe.places and hasattr(provider, "abroad"):
            found += cast(Abroad, provider).abroad(target, job.recipe)
        return found

    def _priced(self, offers: Sequence[Offer], prices: Prices) -> list[Offer]:
        now = self._clock.now()
        return [catalog.overlay(offer, prices.discount, prices.override, now) for offer in offers]

    async def _each(self, function: Callable[..., _T], jobs: Sequence[tuple[Any, ...]]) -> list[_T]:
        """Do something for each job, a few in one go: handing one to a thread takes as long as half its guards."""
        parts = [jobs[start : start + _IN_ONE_GO] for start in range(0, len(jobs), _IN_ONE_GO)]
        done = await asyncio.gather(*(self._run(lambda part: [function(*one) for one in part], part) for part in parts))
        return [one for part in done for one in part]

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _failed(look: Look, error: Exception) -> Look:
    log.error("a job could not be weighed", job=look.job.name, exc_info=error)
    why = f"weighing it failed ({type(error).__name__}); nothing is changed - see the log"
    return replace(look, reason=why)


def _by(options: Sequence[Option], offer: Offer, way: RouteName) -> tuple[Option, ...]:
    """Write the way there really is into the option of an offer."""
    return tuple(replace(o, route=way) if o.offer.id == offer.id and not o.stays else o for o in options)


def _speeds(look: Look, offers: Sequence[Offer]) -> Speeds:
    assert look.allocation is not None
    return learn(look.history, look.allocation.offer, offers)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why there is no way to an offer, and for how long that is believed."""

    why: str
    lasts: timedelta = _REFUSED_FOR
    short: bool = False
    unanswered: bool = False


def _all_but_stay(seen: Situation, wanted: Offer) -> dict[str, str]:
    why = f"not taken in place of {wanted.id}, about which the cloud gives no answer at this moment"
    return {option.offer.id: why for option in seen.options[1:]} | dict(seen.unavailable)


def _way(provider: Provider, allocation: Allocation, offer: Offer, job: Job) -> tuple[_Refusal | None, RouteName]:
    """Ask the provider for the way to an offer: why there is none, or its name."""
    try:
        way = provider.route(allocation, offer)
    except errors.Transient as error:
        # No answer is no refusal: it is asked about again next turn.
        return _Refusal(str(error), _UNANSWERED_FOR, unanswered=True), "stay"
    except errors.ProviderError as error:
        return _Refusal(str(error), short=isinstance(error, errors.NoCapacity)), "stay"
    match way:
        case Replace(reason) if job.recipe is None:
            return _Refusal(f"needs a new machine ({reason}), and the job has no launch recipe"), "stay"
        case Replace():
            return None, "replace"
        case InPlace():
            return None, "in_place"
        case Grow():
            return None, "grow"
        case Shrink():
            return None, "shrink"
        case Same():
            return _Refusal("it is what runs now"), "stay"
        case _:
            assert_never(way)

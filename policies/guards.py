"""Pure decisions: the guards that thin the options before a policy sees them, and the whole decision around it.

A guard is ``guard(situation, option) -> Rejection | None``. Staying is never asked about: it is always possible. The
order of ``GUARDS`` is the order in which people read why an option was refused: the first limit it ran into counts.
When staying itself does not fit, the guards of timing (rate, cooldown, quiet times, payback) yield, and so does the
deadline's; caps, allow and deny lists and the memory floors never do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase

from policies import quiet as quiet_times
from policies.base import Policy, judges
from policies.types import Choice, Option, Rejection, Settings, Situation
from providers.types import Offer

Guard = Callable[[Situation, Option], Rejection | None]

ABSURD_USD_PER_NODE_HOUR = 1000.0
"""No machine on sale in 2026 costs as much; a price above it is an error of the catalog."""
LIKELIER_THAN_NOT = 0.5
PAYBACK_SHARE = 0.25
NEED_RATE = 3
LEAST_SHARE = 1e-6
"""How many times ``max_per_hour`` moves are allowed while staying does not fit."""


def usd(amount: float) -> str:
    """Write dollars, small amounts with four digits."""
    digits = 2 if abs(amount) >= 0.1 or amount == 0 else 4
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{digits}f}"


def percent(share: float) -> str:
    """Write a share as per cent with as many digits as tell it from zero, down to what anybody cares about."""
    return "under 0.0001 %" if 0 < share < LEAST_SHARE else f"{share * 100:.3g} %"


def fits(settings: Settings, option: Option) -> bool:
    """Say whether an option's chance of not fitting is known and within what the policy asks."""
    return option.misfit <= 1 - settings.safety.memory_quantile + 1e-12


def must_leave(situation: Situation) -> bool:
    """Say whether staying does not fit: its chance of not fitting is known to be too high, or the job was killed."""
    allowed = 1 - situation.settings.safety.memory_quantile + 1e-12
    return situation.killed or situation.stay.misfit > allowed


def matches(offer: Offer, pattern: str) -> bool:
    """Match a glob with an offer's id, also without its node count or way of buying, and with region for zone."""
    return any(fnmatchcase(name, pattern) for name in _names(offer))


def _names(offer: Offer) -> list[str]:
    full = offer.id
    provider, place, rest = full.split("/", 2)
    rests = [rest]
    if offer.buying != "on_demand":
        rests.append(rest.removesuffix(f"@{offer.buying}"))
    if offer.nodes > 1:
        rests += [one.removeprefix(f"{offer.nodes}x ") for one in rests]
    places = [place] if place == offer.region else [place, offer.region]
    return [f"{provider}/{where}/{what}" for where in places for what in rests]


def _refuse(option: Option, limit: str, detail: str) -> Rejection:
    return Rejection(option.offer.id, limit, detail)


# Guards of place, price and safety. None of these yields to need, unless its docstring says so.


def price(situation: Situation, option: Option) -> Rejection | None:
    """Refuse an offer whose price is missing, absurd or too old."""
    listed = option.offer.price
    if listed is None:
        return _refuse(option, "price", "no sourced price is known - refresh the prices or set an override")
    for figure in (listed.usd_per_hour, option.usd_per_hour):
        if not 0 < figure <= ABSURD_USD_PER_NODE_HOUR * option.offer.nodes:
            return _refuse(option, "price", f"a price of {figure:g} dollars an hour cannot be right")
    oldest = situation.settings.prices.max_age_hours
    if not option.price_age_hours <= oldest:
        return _refuse(
            option, "price", f"its price is {option.price_age_hours:.0f} h old, more than the {oldest:.0f} h allowed"
        )
    return None


def unavailable(situation: Situation, option: Option) -> Rejection | None:
    """Refuse an offer that the cloud's pre-flight refused."""
    why = situation.unavailable.get(option.offer.id) if situation.unavailable else None
    return None if why is None else _refuse(option, "unavailable", why)


def shortage(situation: Situation, option: Option) -> Rejection | None:
    """Refuse an offer that the cloud lately had none of."""
    until = situation.shortages.get(option.offer.id) if situation.shortages else None
    if until is None or until <= situation.now:
        return None
    return _refuse(option, "shortage", f"the cloud had none of it; it is tried again after {until:%H:%M} UTC")


def allow(situation: Situation, option: Option) -> Rejection | None:
    """Refuse an offer that no allowed pattern matches."""
    patterns = situation.settings.limits.allow
    if "*" in patterns or any(matches(option.offer, pattern) for pattern in patterns):
        return None
    return _refuse(option, "allow", f"none of the allowed patterns matches it: {', '.join(patterns)}")


def deny(situation: Situation, option: Option) -> Rejection | None:
    """Refuse an offer that a denied pattern matches."""
    for pattern in situation.settings.limits.deny:
        if matches(option.offer, pattern):
            return _refuse(option, "deny", f"the denied pattern {pattern} matches it")
    return None


def gpus(situation: Situation, option: Option) -> Rejection | None:
    """Refuse too few or too many GPUs, counted over all nodes."""
    count = option.offer.resources.gpus * option.offer.nodes
    limits = situation.settings.limits
    if limits.gpus_min is not None and count < limits.gpus_min:
        return _refuse(option, "gpus", f"it has {count} GPUs, fewer than the {limits.gpus_min} asked for")
    if limits.gpus_max is not None and count > limits.gpus_max:
        return _refuse(option, "gpus", f"it has {count} GPUs, more than the {limits.gpus_max} allowed")
    return None


def usd_per_hour(situation: Situation, option: Option) -> Rejection | None:
    """Refuse what costs more an hour than the cap."""
    cap = situation.settings.limits.usd_per_hour
    if cap is None or option.usd_per_hour <= cap:
        return None
    return _refuse(option, "usd_per_hour", f"{usd(option.usd_per_hour)} an hour is over the cap of {usd(cap)}")


def share(situation: Situation, option: Option) -> Rejection | None:
    """Refuse what costs more an hour than this job's part of its fleet's budget."""
    part = situation.share_usd_per_hour
    if part is None or option.usd_per_hour <= part * (1 + 1e-9):
        return None
    return _refuse(option, "share", f"{usd(option.usd_per_hour)} an hour is over this job's share of {usd(part)}")


def spot(situation: Situation, option: Option) -> Rejection | None:
    """Refuse a way of buying that the policy does not want."""
    rule = situation.settings.capacity.spot
    is_spot = option.offer.buying == "spot"
    if rule == "never" and is_spot:
        return _refuse(option, "spot", "it is spot capacity, and the policy says spot: never")
    if rule == "only" and not is_spot:
        return _refuse(option, "spot", "it is not spot capacity, and the policy says spot: only")
    return None


def memory_floor(situation: Situation, option: Option) -> Rejection | None:
    """Refuse less memory than the job has shown to need."""
    has = option.offer.resources
    for name, floor, got in (
        ("memory", situation.memory_floor_gib, has.memory_gib),
        ("GPU memory", situation.gpu_memory_floor_gib, has.gpu_memory_gib),
    ):
        if got < floor:
            detail = f"{got:.1f} GiB of {name} is under the {floor:.1f} GiB the job has shown to need"
            return _refuse(option, "memory_floor", detail)
    return None


def memory(situation: Situation, option: Option) -> Rejection | None:
    """Refuse an option whose chance of not fitting is unknown or above what the policy's quantile leaves."""
    if fits(situation.settings, option):
        return None
    if math.isnan(option.misfit):
        return _refuse(option, "memory", "whether the job fits is not known")
    what = (option.misfit_resource or "memory").removesuffix("_gib").replace("_", " ")
    allowed = 1 - situation.settings.safety.memory_quantile
    detail = f"the chance that {what} does not suffice is {percent(option.misfit)}, over {percent(allowed)}"
    return _refuse(option, "memory", detail)


def deadline(situation: Situation, option: Option) -> Rejection | None:
    """Refuse what is likelier late than allowed, and than staying. Yields to need: a killed job is later still."""
    allowed = situation.settings.safety.deadline_risk
    if option.late <= max(allowed, situation.stay.late) or must_leave(situation):
        return None
    detail = f"the chance of missing the deadline is {percent(option.late)}, over {percent(allowed)}"
    return _refuse(option, "deadline", detail)


def budget(situation: Situation, option: Option) -> Rejection | None:
    """Refuse what is likelier over the job's budget than allowed, and than staying."""
    allowed = situation.settings.safety.budget_risk
    if option.over_budget <= max(allowed, situation.stay.over_budget):
        return None
    detail = f"the chance of exceeding the budget is {percent(option.over_budget)}, over {percent(allowed)}"
    return _refuse(option, "budget", detail)


def usd_total(situation: Situation, option: Option) -> Rejection | None:
    """Refuse what ends over the total cap, unless it ends below staying; once it is spent, refuse every dearer hour."""
    cap = situation.settings.limits.usd_total
    if cap is None:
        return None
    spent, stay = situation.spent_usd, situation.stay
    if spent >= cap:
        if option.usd_per_hour <= stay.usd_per_hour:
            return None
        return _refuse(option, "usd_total", f"{usd(spent)} is spent of {usd(cap)}; only cheaper hours are allowed")
    end = spent + option.usd.quantile(1 - situation.settings.safety.budget_risk)
    if end <= cap or option.usd.mean < stay.usd.mean:
        return None
    return _refuse(option, "usd_total", f"it would end at {usd(end)}, over the cap of {usd(cap)}")


def stale(situation: Situation, option: Option) -> Rejection | None:
    """Refuse every move of a job that is not heard of; of a killed one only what takes something away.

    Moving a live job stops it, and a larger machine would rest on a forecast without recent facts (FAULTS D10).
    """
    if not situation.stale:
        return None
    if not situation.killed:
        return _refuse(option, "stale", "the job has not been heard of lately, so nothing is stopped or taken away")
    less = _takes_away(situation.stay.offer, option.offer)
    if less is None:
        return None
    return _refuse(option, "stale", f"the job has not been heard of lately, and it would get less {less}")


def _takes_away(old: Offer, new: Offer) -> str | None:
    a, b = old.resources, new.resources
    pairs = (
        ("CPU", a.cpu_cores * old.nodes, b.cpu_cores * new.nodes),
        ("memory", a.memory_gib, b.memory_gib),
        ("GPUs", a.gpus * old.nodes, b.gpus * new.nodes),
        ("GPU memory", a.gpu_memory_gib, b.gpu_memory_gib),
        ("nodes", old.nodes, new.nodes),
    )
    return next((name for name, had, gets in pairs if gets < had), None)


def gaps(situation: Situation, option: Option) -> Rejection | None:
    """Refuse to take anything away while observations are known to be missing: they might have shown the need for it.

    So losing observations never adds a move down (FAULTS I7). Yields to need: then a move gives what is lacking.
    """
    if not situation.missing or must_leave(situation):
        return None
    less = _takes_away(situation.stay.offer, option.offer)
    if less is None:
        return None
    rows = f"{situation.missing} of the newest observations are missing"
    return _refuse(option, "gaps", f"{rows}, and it would get less {less}")


def checkpoint(situation: Situation, option: Option) -> Rejection | None:
    """Refuse to move a job that cannot save its work. A killed job has nothing left to save."""
    needless = situation.settings.checkpoint == "not_needed" or situation.killed
    if needless or situation.can_checkpoint:
        return None
    detail = "the job does not answer prepare - serve it, or set checkpoint: not_needed"
    return _refuse(option, "checkpoint", detail)


def finish(situation: Situation, option: Option) -> Rejection | None:
    """Refuse to move a job that is likelier to finish where it is than to need the move before its end."""
    left = situation.stay.hours.quantile(0.5) * 3600
    if situation.killed or situation.stay.misfit >= LIKELIER_THAN_NOT or not 0 < left < option.lead_seconds:
        return None
    detail = f"the job is done in {left:.0f} s, and a move takes up to {option.lead_seconds:.0f} s"
    return _refuse(option, "finish", detail)


# Guards of timing. All of these yield to need, the rate up to a ceiling.


def max_per_hour(situation: Situation, option: Option) -> Rejection | None:
    """Refuse more moves an hour than allowed; under need, more than three times as many."""
    recent = sum(at > situation.now - timedelta(hours=1) for at in situation.moves)
    most = situation.settings.moves.max_per_hour * (NEED_RATE if must_leave(situation) else 1)
    if recent < most:
        return None
    return _refuse(option, "max_per_hour", f"the job was moved {recent} times in the last hour, at most {most} allowed")


def cooldown(situation: Situation, option: Option) -> Rejection | None:
    """Refuse to move again soon after a move. A move recorded in the future (a clock set back) counts as just now."""
    if must_leave(situation) or not situation.moves:
        return None
    minutes = max((situation.now - max(situation.moves)).total_seconds(), 0.0) / 60
    least = situation.settings.moves.cooldown_minutes
    if minutes >= least:
        return None
    return _refuse(option, "cooldown", f"the last move was {minutes:.1f} min ago, the cooldown is {least:g} min")


def quiet(situation: Situation, option: Option) -> Rejection | None:
    """Refuse to move in quiet times."""
    if must_leave(situation):
        return None
    for text in situation.settings.moves.quiet:
        if quiet_times.read(text).covers(situation.now):
            return _refuse(option, "quiet", f"it is a quiet time now: {text}")
    return None


def payback(situation: Situation, option: Option) -> Rejection | None:
    """Refuse a move whose saving, the move's own cost taken off, is not surely worth it.

    It must exceed a quarter of that cost once more: what a move costs is itself an estimate, and moving for pennies is
    what people mind most.

    Yields to need, and to a move that makes a deadline or budget likely which staying would miss.
    """
    if must_leave(situation) or rescues(situation, option):
        return None
    level = situation.settings.moves.payback_quantile
    sure = option.saving.quantile(level)
    value = situation.settings.value_of_time_usd_per_hour
    least = PAYBACK_SHARE * (option.move_usd + value * option.pause_seconds / 3600)
    if sure > least:
        return None
    detail = f"moving now saves {usd(sure)} at the {percent(level)} quantile (mean {usd(option.saving.mean)})"
    return _refuse(option, "payback", f"{detail}; it must be above {usd(least)}, a share of what the move costs")


def rescues(situation: Situation, option: Option) -> bool:
    """Say whether an option holds the deadline or the budget, each with the certainty asked for, where staying fails.

    It must not fail the other of the two.
    """
    safety, stay = situation.settings.safety, situation.stay
    holds = option.late <= safety.deadline_risk and option.over_budget <= safety.budget_risk
    return holds and (stay.late > safety.deadline_risk or stay.over_budget > safety.budget_risk)


LIMITS: tuple[Guard, ...] = (
    price,
    unavailable,
    shortage,
    allow,
    deny,
    gpus,
    usd_per_hour,
    share,
    spot,
    memory_floor,
    memory,
    deadline,
    budget,
    usd_total,
    stale,
    gaps,
    checkpoint,
    finish,
)
TIMING: tuple[Guard, ...] = (max_per_hour, cooldown, quiet)
GUARDS: tuple[Guard, ...] = (*LIMITS, *TIMING, payback)


@dataclass(frozen=True, slots=True)
class Thinned:
    """What the guards left: options to be had now, options for later, and why each of the others is neither."""

    ready: tuple[Option, ...]
    later: tuple[Option, ...]
    rejected: tuple[Rejection, ...]


def thin(situation: Situation, limits: Sequence[Guard] = LIMITS, last: Guard = payback) -> Thinned:
    """Run every option but staying through the limits, then through the guards of timing and payback."""
    ready: list[Option] = []
    later: list[Option] = []
    rejected: list[Rejection] = []
    timing = _first(situation, situation.stay, TIMING)  # these look at the moment only, so they are asked once
    for option in situation.options[1:]:
        refusal = _first(situation, option, limits)
        if refusal is None:
            if option.due_seconds is not None and option.due_seconds > 0:
                later.append(option)
            refusal = replace(timing, offer=option.offer.id) if timing else last(situation, option)
        if refusal is None:
            ready.append(option)
        else:
            rejected.append(refusal)
    later.sort(key=lambda option: option.due_seconds or 0.0)
    return Thinned(tuple(ready), tuple(later), tuple(rejected))


def _first(situation: Situation, option: Option, guards: Sequence[Guard]) -> Rejection | None:
    for guard in guards:
        refusal = guard(situation, option)
        if refusal is not None:
            return refusal
    return None


def decide(policy: Policy, situation: Situation) -> Choice:
    """Thin the options, ask the policy, check its answer and say what became of every other option.

    A policy that answers with something it was not given is overruled: nothing changes. One that stays where the job
    does not fit, although an allowed option does, is overruled as well. What the policy raises goes through.
    """
    left, choice = _decided(policy, situation)
    return _explain(situation, left, choice)


def preferred(policy: Policy, situation: Situation) -> Choice:
    """Decide as ``decide`` does, without saying what became of the other options."""
    return replace(_decided(policy, situation)[1], rejected=())


def _decided(policy: Policy, situation: Situation) -> tuple[Thinned, Choice]:
    last = policy.payback if judges(policy) else payback
    left = thin(situation, LIMITS, last)
    if not left.ready and must_leave(situation):
        left = _least_bad(situation, left)
    choice = _ask(policy, situation, left)
    if situation.settings.capacity.on_shortage == "wait" and not must_leave(situation):
        choice = _wait_for_wished(policy, situation, choice, last)
    return left, choice


def _ask(policy: Policy, situation: Situation, left: Thinned) -> Choice:
    stay = situation.stay
    choice = policy.choose(replace(situation, options=(stay, *left.ready), later=left.later))
    if situation.release is not None and choice.option == situation.release:
        return _released(situation, choice)
    given = (stay, *left.ready)
    if not any(choice.option is one for one in given) and choice.option not in given:
        taken = choice.option.offer.id
        return Choice(
            stay, f"no change, because the policy {situation.settings.kind} took {taken}, which it was not given"
        )
    if choice.option.stays and left.ready and must_leave(situation):
        best = min(left.ready, key=lambda option: (option.misfit, option.objective.mean))
        reason = f"moving to {best.offer.id}, because staying does not fit, although the policy would stay"
        return Choice(best, f"{reason}: {choice.reason}")
    return choice


def _released(situation: Situation, choice: Choice) -> Choice:
    """Let a job's machine go only where its work can be saved first; what the job cannot be asked is not done."""
    refused = stale(situation, choice.option) or checkpoint(situation, choice.option)
    if refused is None:
        return choice
    return Choice(situation.stay, f"no change, because the machine cannot be let go safely: {refused.detail}")


def _least_bad(situation: Situation, left: Thinned) -> Thinned:
    """Where nothing fits as surely as asked: offer the option least likely not to fit, if that at least halves it."""
    here = 1.0 if situation.killed else situation.stay.misfit
    without = tuple(guard for guard in LIMITS if guard is not memory)
    loose = thin(situation, without)
    better = [option for option in loose.ready if option.misfit <= here / 2]
    if not better:
        return left
    best = min(better, key=lambda option: (option.misfit, option.objective.mean))
    return Thinned((best,), (), tuple(one for one in left.rejected if one.offer != best.offer.id))


def _wait_for_wished(policy: Policy, situation: Situation, choice: Choice, last: Guard) -> Choice:
    """Under ``on_shortage: wait``: stay rather than take the next best while the best is short."""
    if not situation.shortages:
        return choice
    plenty = replace(situation, shortages={})
    wished = _ask(policy, plenty, thin(plenty, LIMITS, last)).option
    refused = shortage(situation, wished)
    if wished.stays or refused is None:
        return choice
    return Choice(situation.stay, f"no change, because {wished.offer.id} is wanted and {refused.detail}")


def _explain(situation: Situation, left: Thinned, choice: Choice) -> Choice:
    said = {one.offer: one for one in (*choice.rejected, *left.rejected)}
    chosen = choice.option
    taken = next((option for option in situation.options if option is chosen), None)
    rejected: list[Rejection] = []
    for option in situation.options:
        if option is taken or (taken is None and option == chosen):
            continue
        must = _left(situation) if option.stays else None
        rejected.append(must or said.get(option.offer.id) or _lost(option, chosen))
    return Choice(chosen, choice.reason, tuple(rejected), choice.advice)


def _left(situation: Situation) -> Rejection | None:
    if situation.killed:
        return _refuse(situation.stay, "memory", "the job was killed here for memory")
    return memory(situation, situation.stay)


def _lost(option: Option, chosen: Option) -> Rejection:
    if chosen.stays and option.due_seconds:
        return _refuse(option, "later", f"the plan moves there in {option.due_seconds:.0f} s, not now")
    mine, best = option.objective.mean, chosen.objective.mean
    if mine >= best:
        return _refuse(
            option, "dearer", f"{usd(mine)} to the finish, time valued, against {usd(best)} of the one taken"
        )
    return _refuse(option, "passed_over", f"{usd(mine)} to the finish, but another was preferred: see the reason")

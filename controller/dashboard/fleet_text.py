"""Puts the state of the fleet into words, for the page and for the shell. It does not use AWS."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.autoscaling.boots import Boot, medians
from controller.autoscaling.fleet_state import Decision, OpenBatches
from controller.autoscaling.wording import some
from controller.dashboard.bill import Bill, BillItem
from controller.dashboard.fleet_view import FleetAnswer, InstanceView

STATES = {
    "pending": "starting",
    "running": "booting",
    "ready": "ready",
    "draining": "draining",
    "shutting-down": "shutting down",
    "stopping": "stopping",
    "stopped": "stopped",
}
"""Maps the states of an instance to words for people, in the order of an instance's life."""

STAGES = {
    "detect": "Detect",
    "api": "API",
    "pending": "Pending",
    "boot": "Boot",
    "model": "Model",
    "total": "Total",
}
"""Maps the stages of a boot and their sum to words for people."""


def headline(answer: FleetAnswer) -> str:
    backlog, batches = sum(answer.queue.values()), answer.batches
    images = [some(backlog, "image waits", "images wait") if backlog else "Nothing waits"]
    if batches.open:
        left = some(batches.images_left, "image", "images")
        images.append(f"{at_least(batches)}{left} left of {some(batches.open, 'batch', 'batches')}")
    nothing = "no instance up" if backlog or batches.open else "nothing runs"
    return f"{', '.join(images)}, {instances_up(answer) or nothing}"


def at_least(batches: OpenBatches) -> str:
    """Returns what is said before the number of images that are left."""
    return "at least " if batches.listing else ""


def instances_up(answer: FleetAnswer) -> str:
    """Returns what the instances do that are not gone, or "" if there are none."""
    states = Counter(instance.state for instance in answer.instances)
    starting, ending = states["pending"] + states["running"], states["shutting-down"] + states["stopping"]
    if not answer.up:
        return f"{some(ending, 'instance', 'instances')} shutting down" if ending else ""
    instances = some(answer.up, "instance", "instances")
    if not starting:
        return f"{instances} up"
    return f"{instances} starting" if starting == answer.up else f"{instances}, {starting} of them starting"


def idle_hint(answer: FleetAnswer) -> str:
    """Returns which setting launches fewer instances, if some had nothing to do, and otherwise ""."""
    idle = len([i for i in answer.instances if i.model and not i.images])
    if answer.scaling != "queue" or any(answer.queue.values()) or not 0 < idle < len(answer.instances):
        return ""
    return (
        f"{some(idle, 'instance has', 'instances have')} not answered an image, because the others were done"
        f" first. A MAX_IMAGES_PER_INSTANCE of more than {answer.max_images_per_instance} launches fewer."
    )


def by_state(instances: Sequence[InstanceView]) -> str:
    found = Counter(instance.state for instance in instances)
    return ", ".join(f"{found[state]:,} {word}" for state, word in STATES.items() if found[state])


@dataclass(frozen=True)
class Told:
    """A decision of the autoscaler, in words for people."""

    at: datetime
    done: str
    """What was done, as a sentence, or "" if nothing was."""
    why: list[str]
    """The reasons, as sentences."""


def told(decisions: Sequence[Decision], most: int) -> list[Told]:
    """Returns up to `most` decisions in words. They are ordered like `decisions`, newest first.

    If consecutive decisions did nothing and their reasons differ only in numbers, only the newest is kept.
    """
    found: list[Told] = []
    shape = None
    for decision in decisions:
        done = done_by(decision)
        same = (bool(done), re.sub(r"[\d,:]+", "", " ".join(decision.why)))
        if done or same != shape:
            found.append(Told(decision.at, done, [sentence(why) for why in decision.why]))
        shape = same
        if len(found) == most:
            break
    return found


def done_by(decision: Decision) -> str:
    acts = {
        "started": decision.started,
        "launched": decision.launched,
        "stopped": decision.stopped,
        "terminated": decision.terminated,
    }
    parts = [f"{act} {some(len(ids), 'instance', 'instances')}" for act, ids in acts.items() if ids]
    return sentence(", ".join([*parts[:-2], " and ".join(parts[-2:])])) if parts else ""


def sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "…")) else ".")


def duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{int(minutes)} min {int(seconds % 60)} s"
    return f"{int(hours)} h {int(minutes % 60)} min" if hours < 48 else f"{hours / 24:.0f} days"


def dollars(amount: float) -> str:
    """Formats an amount with two decimals, or with four or six if it is small."""
    decimals = 2 if amount >= 1 or not amount else 4 if amount >= 0.001 else 6
    return f"${amount:,.{decimals}f}"


def amount(item: BillItem) -> str:
    """Returns the seconds or the number of calls of a row of the bill, with the unit."""
    return duration(item.amount) if item.unit == "seconds" else some(int(item.amount), "call", "calls")


def image_count(money: Bill) -> str:
    return some(money.images, "image", "images")


def percent(share: float | None) -> str:
    """Returns a share in percent, or a dash if it is not known."""
    return "–" if share is None else f"{100 * share:.1f}%"


def clock(at: datetime, today: datetime) -> str:
    """Formats a time in UTC. The date is included unless it is that of `today`."""
    return f"{at:%H:%M:%S}" if at.date() == today.date() else f"{at:%d %b %H:%M:%S}"


def stage(seconds: float | None) -> str:
    """Formats the seconds of a stage of a boot. A dash stands for None."""
    return "–" if seconds is None else f"{seconds:.2f} s"


def stage_medians(boots: Sequence[Boot]) -> dict[str, dict[str, float]]:
    """Returns the medians of launches and of starts, each by the name of the stage, if there are any."""
    found = {"launches": medians(boots, started=False), "starts": medians(boots, started=True)}
    return {name: stages for name, stages in found.items() if stages}


def as_text(answer: FleetAnswer) -> str:
    """Returns the state of the fleet as plain text, for a shell."""
    money = answer.money
    charged = "" if money.charged else " on AWS"
    cost = f"{dollars(money.dollars)}{charged} for {image_count(money)}"
    if money.dollars_per_1000_images is not None:
        cost += f", {dollars(money.dollars_per_1000_images)} per 1,000"
    lines = [
        headline(answer),
        "queue      " + ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in answer.queue.items()),
        f"cost       {cost}",
    ]
    if (batches := answer.batches).open:
        lines.insert(
            2, f"batches    {batches.open:,} open, {at_least(batches)}{batches.images_left:,} images left"
        )
    for item in money.items:
        about = [item.name, amount(item), dollars(item.dollars), percent(item.share)]
        lines.append("           " + "  ".join(about))
    for i in answer.instances:
        state, images = STATES.get(i.state, i.state), some(i.images, "image", "images")
        about = [i.instance_id, state, duration(i.age_seconds), images, i.classifies_with]
        lines.append("instance   " + "  ".join(filter(None, about)))
    if hint := idle_hint(answer):
        lines.append(f"           {hint}")
    for name, stages in stage_medians(answer.boots).items():
        lines.append(f"{name:<10} " + ", ".join(f"{part} {stage(s)}" for part, s in stages.items()))
    for d in told(answer.decisions, 10):
        lines.append(f"{clock(d.at, answer.at):<10} {' '.join([d.done, *d.why]).strip()}")
    return "\n".join(lines) + "\n"

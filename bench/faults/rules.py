"""Rules that say which calls of AWS go wrong, and how."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from threading import Lock
from typing import Any


class Action(Enum):
    """An action that the endpoint takes on a call that matches a rule."""

    REFUSE = "refuse"
    """It is answered with an error, and not carried out."""
    EMPTY = "empty"
    """It is answered as if there were no messages."""
    DELAY = "delay"
    """It is carried out late."""
    LOSE = "lose"
    """It is carried out, and the connection is cut instead of a reply."""
    KILL_BEFORE = "kill before"
    """Its process is killed, and it is not carried out."""
    KILL_AFTER = "kill after"
    """It is carried out, and its process is killed before it has the reply."""
    CUT_BODY = "cut body"
    """It is carried out, and the connection is cut in the middle of the reply's body."""
    TWICE = "twice"
    """It is carried out twice, as when the network repeats it, and the second reply is sent."""
    PAUSE_AFTER = "pause after"
    """It is carried out, and its process is stopped for a while before it reads the reply."""


@dataclass(frozen=True)
class Call:
    """A call of AWS, as the endpoint sees it."""

    service: str
    operation: str
    tier: str
    """`controller` or `worker`, by the access key."""
    path: str = ""
    body: bytes = b""
    place: str = ""
    """What is called: a bucket, with the folder in it where the bucket has folders, or a queue."""


@dataclass
class Rule:
    """Calls that match all that is given, and what happens to them. Empty fields match every call."""

    fault: str
    """The name of the fault, as the printed table has it."""
    action: Action
    service: str = ""
    operation: str = ""
    tier: str = ""
    path: str = ""
    """The end of the path of the call."""
    body: str = ""
    """A part of the body of the call."""
    place: str = ""
    probability: float = 1.0
    skip: int = 0
    """How many matching calls pass before the first one is hit."""
    most: int = 1_000_000
    """How many calls are hit at most."""
    lasts: float = 30.0
    """Seconds until the rule ends."""
    seconds: float = 0.0
    """How long a call is delayed, or its process is paused."""
    status: int = 0
    """The HTTP status of a refusal."""
    code: str = ""
    """The error code of a refusal."""
    seed: int = 0
    """What the calls that are hit are drawn from, if the probability is below 1."""

    def __post_init__(self) -> None:
        self.action = Action(self.action)
        self._draw = random.Random(self.seed)

    def matches(self, call: Call) -> bool:
        return (
            self.service in ("", call.service)
            and self.operation in ("", call.operation)
            and self.tier in ("", call.tier)
            and self.place in ("", call.place)
            and call.path.endswith(self.path)
            and self.body.encode() in call.body
        )

    def hits(self, call: Call) -> bool:
        """Returns whether this call is hit. Counts the calls that match."""
        if not self.most or not self.matches(call):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self._draw.random() >= self.probability:
            return False
        self.most -= 1
        return True

    def as_json(self) -> dict[str, Any]:
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**found, "action": self.action.value}


@dataclass(frozen=True)
class Hit:
    """Something that went wrong."""

    at: float
    """Seconds since the epoch."""
    fault: str
    where: str = ""
    """The operation that was hit, or "" if it was none."""
    tier: str = ""


@dataclass
class Rules:
    """The rules that are in force, and what they have hit."""

    clock: Callable[[], float] = time.monotonic
    hit: list[Hit] = field(default_factory=list)
    calls: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """How many calls there were, by tier, service, operation and place, whether they were hit or not."""

    def __post_init__(self) -> None:
        self._rules: list[tuple[float, Rule]] = []
        self._lock = Lock()

    def add(self, rule: Mapping[str, Any]) -> None:
        """Puts a rule in force. Raises TypeError or ValueError when it is malformed."""
        new = Rule(**rule)
        with self._lock:
            self._rules.append((self.clock() + new.lasts, new))

    def record(self, call: Call) -> None:
        with self._lock:
            self.calls[call.tier, call.service, call.operation, call.place] += 1

    def lift(self) -> None:
        """Ends all rules."""
        with self._lock:
            self._rules = []

    def drawn_for(self, call: Call) -> Rule | None:
        """Returns the rule that hits this call, if any."""
        with self._lock:
            now = self.clock()
            self._rules = [(until, rule) for until, rule in self._rules if until > now and rule.most]
            return next((rule for _, rule in self._rules if rule.hits(call)), None)

    @property
    def in_force(self) -> bool:
        """Whether any rule may be in force."""
        return bool(self._rules)

    def note(self, rule: Rule, call: Call) -> None:
        self.hit.append(Hit(time.time(), rule.fault, call.operation, call.tier))

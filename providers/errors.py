"""Values: the error tree of the clouds. Each provider maps its SDK's errors to it in one file of its own.

ProviderError
├── Transient             the same call may succeed later; nothing is known to have happened
│   ├── Throttled         too many requests
│   ├── Unavailable       the cloud answers with a fault of its own
│   ├── Busy              something else must end first: another update, pods that are leaving
│   └── AnswerLost        sent, no answer: it may or may not have happened; describe before repeating
├── Refused               the same call will not succeed; nothing happened
│   ├── Incompatible      this machine cannot become that offer in place
│   ├── QuotaExceeded     a named quota is too low
│   ├── NotPermitted      the credentials lack a named permission
│   ├── WrongState        the resource is not in the state the call needs; describe again
│   └── Invalid           the request is malformed; a defect or a bad configuration
├── NoCapacity            the cloud has none of it now; another offer may do
├── NotFound              no such resource now; believed gone only after several sightings
└── NoPrice               no sourced price; the offer is refused
"""


class ProviderError(Exception):
    """Any fault of a cloud. ``str()`` is one line that says what is wrong and, where known, how to mend it."""


class Transient(ProviderError):
    """The same call may succeed later."""


class Throttled(Transient):
    """Too many requests; wait before the next."""


class Unavailable(Transient):
    """The cloud's own fault."""


class Busy(Transient):
    """Something else must end first; the text names it. The call was not made, or only a part of it."""


class AnswerLost(Transient):
    """The call was sent and no answer came: describe before repeating it."""


class Refused(ProviderError):
    """The same call will not succeed."""


class Incompatible(Refused):
    """This machine cannot become that offer in place."""


class QuotaExceeded(Refused):
    """A quota is too low; the text names it."""


class NotPermitted(Refused):
    """The credentials lack a permission; the text names it."""


class WrongState(Refused):
    """The resource is not in the state that the call needs."""


class Invalid(Refused):
    """The request is malformed."""


class NoCapacity(ProviderError):
    """The cloud has none of it now."""


class NotFound(ProviderError):
    """No such resource, for now."""


class NoPrice(ProviderError):
    """No sourced price is known for an offer."""

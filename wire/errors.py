"""What can be wrong with something that travelled. Every error says what was wrong and where."""


class WireError(Exception):
    """Base of all errors of this package."""


class BadTopic(WireError):
    """A topic that is not part of the contract (or an id that no topic can carry)."""


class BadPayload(WireError):
    """A payload that the contract does not allow.

    `reason` is a short stable code for counting (`not_json`, `unknown_schema`, `invalid`);
    the message says what was found and where.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

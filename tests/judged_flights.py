"""What a judge says of a flight, in a word, and messages of which one was changed: for tests of judging."""

import msgspec

S = 1_000_000_000
NAMES = ("I1", "I2", "I3", "I4", "I5", "I6", "I7")


def words(judgement) -> dict[str, str]:
    return {name: verdict.word for name, verdict in judgement.verdicts.items()}


def violations(judgement, name: str) -> list[str]:
    """Return the violations of a promise, after making sure that no other is broken."""
    assert [key for key, verdict in judgement.verdicts.items() if verdict.violations] == [name]
    assert not judgement.has_held
    return [violation.text for violation in judgement.verdicts[name].first]


def changed(messages, n: int, **fields):
    """Return messages with one of them changed."""
    return [*messages[:n], msgspec.structs.replace(messages[n], **fields), *messages[n + 1 :]]


def with_modality(answers, n: int, **fields):
    """Return answers, in one of which the first modality is changed."""
    first, *others = answers[n].modalities
    return changed(answers, n, modalities=(msgspec.structs.replace(first, **fields), *others))

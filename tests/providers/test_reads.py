"""What a cloud's answer to a read says of the permission that it needs."""

from collections.abc import Mapping

import pytest

from providers.errors import Busy, NotFound, NotPermitted, ProviderError
from providers.reads import NOWHERE, Read, tried

SOMEWHERE: Read = ("cloud:Look", "cloud", "look", {"name": "here"})
ELSEWHERE: Read = ("cloud:Find", "cloud", "find", {"name": NOWHERE})


def answers(error: ProviderError, method: str = "look"):
    def ask(service: str, asked: str, arguments: Mapping[str, object]) -> object:
        if asked == method:
            raise error
        return {}

    return ask


def test_what_is_refused_is_told_in_the_clouds_words_and_the_rest_is_asked_all_the_same():
    found = tried([SOMEWHERE, ELSEWHERE], answers(NotPermitted("you may not look")))
    assert found == {"cloud:Look": "you may not look", "cloud:Find": None}


def test_to_hear_that_a_made_up_name_is_not_there_takes_the_permission():
    assert tried([ELSEWHERE], answers(NotFound("no such thing"), "find")) == {"cloud:Find": None}


@pytest.mark.parametrize("error", [NotFound("no such project"), Busy("another call first")])
def test_a_cloud_that_cannot_be_asked_is_told_as_such(error: ProviderError):
    with pytest.raises(type(error)):
        tried([SOMEWHERE], answers(error))

"""Options of the provider."""

import pytest

from providers.errors import Invalid
from providers.gcp.provider import Gcp, connect
from providers.registry import connect_all


def test_it_is_an_installed_kind():
    (found,) = connect_all({"gcp": {"project": "p"}}).values()
    assert isinstance(found, Gcp)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "needs project"),
        (
            {"project": "p", "zone": "a"},
            "has no option zone - it has project, endpoint, kubeconfig, contexts, most_nodes",
        ),
        ({"project": "p", "most_nodes": 0}, "a whole number from 1 on"),
        ({"project": "p", "most_nodes": True}, "a whole number from 1 on"),
        ({"project": "p", "contexts": ["a"]}, "gives for a cluster's name"),
        ({"project": "p", "contexts": {"a": "b"}}, "no kubeconfig that holds them"),
        ({"project": "p", "endpoint": 3}, "endpoint of provider 'gcp' is a text, not 3"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, object], text: str):
    with pytest.raises(Invalid, match=text):
        connect("gcp", options)

from importlib.metadata import EntryPoint

import pytest

from bench import registry
from bench.cards import ModelCard
from bench.errors import CheckError, InputError


def test_finds_and_loads_what_a_plugin_registers(plugins):
    assert registry.get("models", "plain") is plugins.Plain
    assert "ask" in registry.names("tasks")
    assert registry.distribution_of("models", "plain") == "fake-plugins"


def test_a_wrong_name_is_answered_with_the_nearest(plugins):
    with pytest.raises(InputError, match=r"unknown model 'plian'\. Did you mean 'plain'\?"):
        registry.get("models", "plian")
    with pytest.raises(InputError, match=r"unknown kind 'model'\. Did you mean 'models'\?"):
        registry.names("model")


def test_a_broken_plugin_is_shown_and_spoils_nothing(plugins):
    cards = registry.cards("models")
    assert isinstance(cards["plain"], ModelCard)
    assert isinstance(cards["missing"], registry.Broken)
    assert "fake-plugins" in cards["missing"].reason and "fake_plugins_that_are_absent" in cards["missing"].reason
    with pytest.raises(CheckError, match="does not load"):
        registry.get("models", "missing")


def test_two_owners_of_a_name_collide(plugins, monkeypatch):
    class Owner:
        def __init__(self, name):
            self.name = name

    def claim(owner, value):
        entry = EntryPoint("twice", value, "bench.models")
        vars(entry).update(dist=Owner(owner))
        return entry

    found = registry._by_name([claim("one", "a:A"), claim("one", "a:A")])
    assert len(found["twice"]) == 1
    found = registry._by_name([claim("one", "a:A"), claim("two", "b:B")])
    monkeypatch.setattr(registry, "_entries", lambda kind: found)
    with pytest.raises(InputError, match=r"claimed by one \(a:A\) and two \(b:B\)"):
        registry.get("models", "twice")
    assert isinstance(registry.cards("models")["twice"], registry.Broken)

"""A connection that never answers is given up, and one that is somebody else's by then is left alone."""

from __future__ import annotations

import socket

import pytest

from monitoring.health.checks.patience import _Limit, cut_off


def test_who_reads_from_a_silent_connection_wakes() -> None:
    """With a TimeoutError rather than what the reader makes of the end of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError, match=r"no answer in 0\.05 s"), cut_off(lambda: ours, 0.05):
        ours.recv(1)


def test_an_error_in_time_is_its_own() -> None:
    """It is not made a time-out."""
    with pytest.raises(KeyError), cut_off(lambda: None):
        raise KeyError("mine")


def test_a_connection_that_was_left_is_not_shut_down() -> None:
    """The pool may have given it to another meanwhile."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        limit = _Limit(lambda: ours)
        limit.leave()
        limit.reach()
        theirs.send(b"x")
        assert (ours.recv(1), limit.was_reached) == (b"x", False)


def test_what_has_no_socket_is_left_alone() -> None:
    """The time is over all the same."""
    limit = _Limit(lambda: None)
    limit.reach()
    assert limit.was_reached

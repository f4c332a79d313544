"""What is changed inside Ray is there to be changed, and is what Ray uses."""

from __future__ import annotations

import inspect
import logging
import signal

import ray
from ray._private import services, utils, worker
from ray._private.authentication import authentication_token_setup
from ray._private.node import Node

from tasks.engine import ray_patches


def test_the_changes_were_made_for_the_version_that_is_installed() -> None:
    assert ray.__version__ == ray_patches.VERSION, "read what it changed, then raise this"


def test_ray_asks_the_function_that_was_changed_to_handle_sigterm_and_it_does_nothing() -> None:
    assert "ray._private.utils.set_sigterm_handler(sigterm_handler)" in inspect.getsource(worker.init)
    before = signal.getsignal(signal.SIGTERM)
    ray_patches.apply(ray)
    utils.set_sigterm_handler(print)
    assert signal.getsignal(signal.SIGTERM) == before


def test_rays_token_is_no_warning() -> None:
    ray_patches.apply(ray)
    assert not authentication_token_setup.logger.isEnabledFor(logging.WARNING)


def test_a_local_ray_is_started_with_a_loopback_address_in_sessions_of_its_own() -> None:
    assert "ray_constants.ENABLE_RAY_CLUSTER" in inspect.getsource(services.get_node_ip_address)
    assert "ConsolePopen(" in inspect.getsource(services.start_ray_process)
    before = services.ConsolePopen
    with ray_patches.local(ray):
        assert services.get_node_ip_address() == "127.0.0.1"
        assert services.ConsolePopen.keywords == {"start_new_session": True}
    assert (services.ConsolePopen, services.ray_constants.ENABLE_RAY_CLUSTER) == (before, True)


def test_a_local_ray_is_started_without_what_one_machine_does_not_need() -> None:
    started = inspect.getsource(Node.start_head_processes) + inspect.getsource(Node.start_ray_processes)
    before = {name: getattr(Node, name) for name in ray_patches.SPARED}
    with ray_patches.local(ray):
        for name, method in before.items():
            assert f"self.{name}(" in started
            assert getattr(Node, name) is not method
    assert {name: getattr(Node, name) for name in ray_patches.SPARED} == before

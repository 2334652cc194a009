"""Requests of one service are answered one after the other."""

import threading
from types import SimpleNamespace

import pytest
from moto.core.responses import BaseResponse
from moto.moto_server.werkzeug_app import MotoRequestHandler

from daybook_sandbox import serial

THREADS = 6


class Service:
    """Count the requests that are answered at the same time."""

    def __init__(self):
        self.now = self.most = 0
        self.together = threading.Barrier(2)

    def answer(self, _request):
        self.now += 1
        self.most = max(self.most, self.now)
        # A second request would arrive meanwhile, if nothing kept it waiting.
        with pytest.raises(threading.BrokenBarrierError):
            self.together.wait(0.02)
        self.together.reset()
        self.now -= 1
        return 200, {}, ""


def test_requests_of_a_service_never_overlap(monkeypatch):
    service = Service()
    monkeypatch.setattr(BaseResponse, "call_action", lambda self: service.answer(self))
    serial.patch()
    request = SimpleNamespace(
        service_name="ec2", _get_action=lambda: "AuthorizeSecurityGroupIngress"
    )
    threads = [
        threading.Thread(target=BaseResponse.call_action, args=(request,)) for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.most == 1


def test_a_slow_service_does_not_delay_another(monkeypatch):
    ended = threading.Event()

    def answer(request):
        if request.service_name == "ec2":
            assert ended.wait(10)
        return 200, {}, ""

    monkeypatch.setattr(BaseResponse, "call_action", answer)
    serial.patch()
    slow = threading.Thread(
        target=BaseResponse.call_action,
        args=(SimpleNamespace(service_name="ec2", _get_action=str),),
    )
    slow.start()
    BaseResponse.call_action(SimpleNamespace(service_name="iam", _get_action=str))
    ended.set()
    slow.join()


def test_a_refused_request_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(BaseResponse, "call_action", lambda self: (400, {}, ""))
    serial.patch()
    caplog.set_level("INFO")
    BaseResponse.call_action(
        SimpleNamespace(service_name="ec2", _get_action=lambda: "RunInstances")
    )
    assert "ec2 RunInstances was refused with 400" in caplog.text


def test_an_undelivered_answer_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(BaseResponse, "call_action", lambda self: (200, {}, ""))
    serial.patch()
    MotoRequestHandler.connection_dropped(None, BrokenPipeError(), {"HTTP_HOST": "ec2"})
    assert "an answer was not delivered: BrokenPipeError() to ec2" in caplog.text

"""A web server with a telephone in it: aiohttp and sipcore on one asyncio loop. Needs: pip install "sipcore[examples]"

    SIPCORE_PASSWORD=... python examples/web_app.py alice@example.com --sounds folder

    curl -d '{"to": "bob", "play": "hello.wav"}' http://127.0.0.1:8080/calls     places a call: {"id": "1"}
    curl -N http://127.0.0.1:8080/calls/1/events                                 what happens in it, a line each
    curl http://127.0.0.1:8080/calls                                             all calls, the newest 100
    curl -X DELETE http://127.0.0.1:8080/calls/1                                 hangs up

Whoever reaches the port can place calls: keep it on the loopback, or put a login in front.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from sipcore import Account, Call, CallEnded, DtmfReceived, InvalidRequest, Registration, SipError, UserAgent
from sipcore import UserAgentConfig as Config

KEPT = 100
"""Calls that are remembered."""


class Telephone:
    """The agent, its calls, and the requests about them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._calls: dict[str, Call] = {}
        self._numbers = itertools.count(1)
        self._playing: set[asyncio.Task[None]] = set()
        self.line: Registration

    async def live(self, _: web.Application) -> AsyncIterator[None]:
        """The agent lives as long as the application: what comes after the yield hangs up and un-registers."""
        password = os.environ.get("SIPCORE_PASSWORD", "")
        account = Account(self._options.account, password=password)
        async with UserAgent(Config(sip_port=self._options.sip_port)) as agent:
            self.line = await agent.register(account) if password else agent.open_line(account)
            yield

    async def place(self, request: web.Request) -> web.Response:
        """POST /calls"""
        try:
            wanted = json.loads(await request.text())
            # A name and not a path: nobody shall play us the files of this machine.
            sound = self._options.sounds / Path(wanted["play"]).name if wanted.get("play") else None
            if sound is not None and not sound.is_file():
                raise web.HTTPBadRequest(text="there is no such sound")
            call = self.line.place(wanted["to"])  # at once: it rings while the browser has its answer already
        except (ValueError, KeyError, TypeError, AttributeError, InvalidRequest) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        number = str(next(self._numbers))
        self._calls[number] = call
        for old in [key for key, kept in self._calls.items() if kept.ended is not None][:-KEPT]:
            del self._calls[old]
        if sound is not None:
            task = asyncio.create_task(self._play(call, sound))
            self._playing.add(task)  # the loop itself does not hold tasks
            task.add_done_callback(self._playing.discard)
        return web.json_response({"id": number}, status=202)

    async def _play(self, call: Call, sound: Path) -> None:
        with contextlib.suppress(SipError):  # nobody took the call, or hung up: its events say so
            async with call:
                await call.connected()
                await call.play(sound)

    async def calls(self, _: web.Request) -> web.Response:
        """GET /calls"""
        return web.json_response(
            {number: {"remote": call.remote, "state": call.state.value} for number, call in self._calls.items()}
        )

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET /calls/ID/events: from the first event on, to any number of readers, until the call is over."""
        call = self._find(request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for event in call.events():
            said = {"event": type(event).__name__}
            match event:
                case DtmfReceived(digit=digit):
                    said["digit"] = digit
                case CallEnded(description=description):
                    said["description"] = description
            await response.write(json.dumps(said).encode() + b"\n")
        return response

    async def hang_up(self, request: web.Request) -> web.Response:
        """DELETE /calls/ID"""
        ended = await self._find(request).hangup()
        return web.json_response({"description": ended.description})

    def _find(self, request: web.Request) -> Call:
        call = self._calls.get(request.match_info["id"])
        if call is None:
            raise web.HTTPNotFound
        return call


def application(options: argparse.Namespace) -> web.Application:
    telephone = Telephone(options)
    app = web.Application()
    app.cleanup_ctx.append(telephone.live)
    app.add_routes(
        [
            web.post("/calls", telephone.place),
            web.get("/calls", telephone.calls),
            web.get("/calls/{id}/events", telephone.events),
            web.delete("/calls/{id}", telephone.hang_up),
        ]
    )
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A web server that can telephone.")
    parser.add_argument("account", help="user@host")
    parser.add_argument("--sounds", type=Path, default=Path(), help="folder of what can be played")
    parser.add_argument("--port", type=int, default=8080, help="for browsers, on the loopback")
    parser.add_argument("--sip-port", type=int, default=0)
    chosen = parser.parse_args()
    web.run_app(application(chosen), host="127.0.0.1", port=chosen.port, shutdown_timeout=2)

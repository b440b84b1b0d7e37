"""A token for the whole gRPC port: every service asks for it but health, and nobody else ever sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from pydantic import SecretStr

from service.config import Endpoint, ServerSettings
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.generated.sipcore.v1 import audio_pb2, telephony_pb2
from service.generated.sipcore.v1.audio_pb2_grpc import CallAudioStub
from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyStub
from service.grpc_tokens import PortTokens
from service.server import Server, StartError

TOKENS = "# the bots\nfirst-token\n\n  second-token==  \n"
Metadata = tuple[tuple[str, str], ...] | None
Request = Callable[[grpc.aio.Channel, Metadata], Any]


def bearer(token: str, scheme: str = "Bearer") -> Metadata:
    return (("authorization", f"{scheme} {token}"),)


@asynccontextmanager
async def served(folder: Path, **changes: Any) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    """A server with a token, and a channel to it."""
    file = folder / "tokens"
    file.write_text(TOKENS)
    given: dict[str, Any] = {"grpc": Endpoint("127.0.0.1", 0), "sip": Endpoint("127.0.0.1", 0), **changes}
    made = ServerSettings.model_construct(grpc_token_file=file, **given)
    async with Server(made) as server, grpc.aio.insecure_channel(str(server.grpc_address)) as channel:
        yield server, channel


async def unary(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    return await SipStub(channel).SipGetSipStatus(Empty(), metadata=metadata, timeout=30)


async def unary_v1(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    return await TelephonyStub(channel).ListCalls(telephony_pb2.ListCallsRequest(), metadata=metadata, timeout=30)


async def watch(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    return await TelephonyStub(channel).Watch(telephony_pb2.WatchRequest(), metadata=metadata, timeout=30).read()


async def recording(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    request = audio_pb2.StreamRecordingRequest()
    return await CallAudioStub(channel).StreamRecording(request, metadata=metadata, timeout=30).read()


async def both_ways(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    return await both_ways_of(SipStub(channel).SipStreamCallAudio, pb.SipCallAudioRequest(), metadata)


async def both_ways_v1(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    return await both_ways_of(CallAudioStub(channel).Converse, audio_pb2.ConverseRequest(), metadata)


async def both_ways_of(method: Any, request: Any, metadata: Metadata) -> Any:
    async def requests() -> AsyncIterator[Any]:
        yield request

    return [answer async for answer in method(requests(), metadata=metadata, timeout=30)]


async def reflected(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    method = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    return await both_ways_of(method, reflection_pb2.ServerReflectionRequest(list_services=""), metadata)


async def unknown(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    method = channel.unary_unary("/ondewo.sip.Sip/SipFly", bytes, bytes)
    return await method(b"", metadata=metadata, timeout=30)


async def test_every_kind_of_request_wants_a_token(tmp_path: Path) -> None:
    """Who has none does not even learn which methods there are."""
    kinds: dict[Request, str] = {
        unary: "OK",
        unary_v1: "OK",
        watch: "OK",
        reflected: "OK",
        recording: "INVALID_ARGUMENT",
        both_ways: "INVALID_ARGUMENT",
        both_ways_v1: "INVALID_ARGUMENT",
        unknown: "UNIMPLEMENTED",
    }

    async def code(request: Request, metadata: Metadata) -> str:
        try:
            await request(channel, metadata)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    async with served(tmp_path) as (_, channel):
        for request, admitted in kinds.items():
            assert await code(request, None) == "UNAUTHENTICATED"
            assert await code(request, bearer("wrong-token")) == "UNAUTHENTICATED"
            assert await code(request, bearer("first-token")) == admitted


async def test_a_refusal_says_what_is_wanted_and_why(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary_v1(channel, bearer("hush"))
    assert "authorization: Bearer" in str(refused.value.details())
    assert "hush" not in str(refused.value)
    status = rpc_status.from_call(cast("Any", refused.value))
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("PORT_UNAUTHENTICATED", "sipcore")


async def test_health_needs_no_token(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING


async def test_the_call_control_token_is_asked_for_besides(tmp_path: Path) -> None:
    async with served(tmp_path, call_control_token=SecretStr("control")) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary_v1(channel, bearer("first-token"))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "x-ondewo-sip-call-control-token" in str(refused.value.details())
        both = (*(bearer("first-token") or ()), ("x-ondewo-sip-call-control-token", "control"))
        await unary_v1(channel, both)


def tokens(folder: Path, text: str = TOKENS) -> PortTokens:
    file = folder / "tokens"
    file.write_text(text)
    return PortTokens(file)


@pytest.mark.parametrize(
    ("metadata", "admitted"),
    [
        (bearer("first-token"), True),
        (bearer("second-token=="), True),
        (bearer("first-token", "bEARER"), True),
        (bearer("first-token "), True),
        ((("x-other", "1"), ("authorization", "Bearer first-token")), True),
        (None, False),
        ((), False),
        (bearer(""), False),
        (bearer("first-toke"), False),
        (bearer("first-tokenn"), False),
        (bearer("first-token second-token=="), False),
        (bearer("first-token", "Basic"), False),
        ((("authorization", "first-token"),), False),
        ((("authorization", "Bearer"),), False),
        (bearer("the bots"), False),
        (bearer("# the bots"), False),
        (bearer("f\N{LATIN SMALL LETTER I WITH DIAERESIS}rst"), False),
        ((("authorization", b"Bearer first-token\xff"),), False),
        ((("authorization", "Bearer first-token"), ("authorization", "Bearer wrong")), False),
    ],
)
def test_which_metadata_admit(metadata: Metadata, admitted: bool, tmp_path: Path) -> None:
    assert tokens(tmp_path).admits(metadata) is admitted


def test_tokens_are_not_kept(tmp_path: Path) -> None:
    assert "first-token" not in str(vars(tokens(tmp_path)))


async def test_a_file_that_is_replaced_counts_from_then_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = tokens(tmp_path)
    file = tmp_path / "tokens"
    file.write_text("third-token\n")
    await made.watch.look()
    assert made.admits(bearer("third-token"))
    assert not made.admits(bearer("first-token"))
    file.write_text("not a token\n")
    await made.watch.look()
    await made.watch.look()
    file.unlink()
    await made.watch.look()
    assert made.admits(bearer("third-token"))  # nobody is let in, or locked out, by a mistake
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 2
    assert all("stays in use" in line and "token-" not in line for line in warned)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no token"),
        ("# nothing\n\n", "holds no token"),
        ("good\nhush hush\n", "line 2 of .* is no token"),
        ("h\N{LATIN SMALL LETTER U WITH DIAERESIS}sh\n", "line 1 of .* is no token"),
        (None, "cannot read .*: no such file"),
    ],
)
def test_a_file_without_tokens_keeps_the_server_from_starting(text: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    if text is not None:
        file.write_text(text)
    with pytest.raises(StartError, match=f"^cannot use the tokens of the gRPC port: .*{said}") as refused:
        Server(ServerSettings.model_construct(grpc_token_file=file))
    assert "sh" not in str(refused.value).removeprefix("cannot use the tokens").replace(str(file), "")


@pytest.mark.parametrize(
    ("host", "token", "warned"),
    [
        ("127.0.0.1", False, ()),
        ("localhost", False, ()),
        ("0.0.0.0", False, ("whoever reaches it", "in the clear")),
        ("0.0.0.0", True, ("in the clear",)),
    ],
)
async def test_a_port_for_others_without_tls_and_token_is_warned_of(
    host: str, token: bool, warned: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes: dict[str, Any] = {"grpc": Endpoint(host, 0)}
    if not token:
        changes["grpc_token_file"] = None
    file = tmp_path / "tokens"
    file.write_text(TOKENS)
    made = ServerSettings.model_construct(**{"grpc_token_file": file, "sip": Endpoint("127.0.0.1", 0), **changes})
    async with Server(made):
        await asyncio.sleep(0)
    lines = [record.getMessage() for record in caplog.records if "other machines can reach" in record.getMessage()]
    assert len(lines) == bool(warned)
    for part in ("whoever reaches it", "in the clear"):
        assert (part in "".join(lines)) is (part in warned)

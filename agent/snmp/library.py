"""The other client: pysnmp's engine speaks, the same calls and walks as agent/snmp/client.py ask. Imported only where a config wants it.

Law: an engine for each credentials and source (its tables know users by name alone, for all devices), at most MOST, made when first asked
and closed when it is needed no more; time-outs and repeats are ours, so its own timer seldom wakes. Values go out as plain ones.

Three things that pysnmp 7.1 doesn't do are done here: it takes an answer from anywhere that has the request's number (only those from where
was asked come in); it doesn't learn that a v3 device has started again, and hears nothing of it any more (a new engine is tried, at most
every AGAIN); it doesn't tell that a port refuses (a socket that is connected does).
"""

import asyncio
import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from agent.collector import Failure
from agent.snmp.client import UdpClient, _Call, _useless
from agent.snmp.messages import BULK, END, GET, NEXT, Ask, Reply
from agent.snmp.wire import Credentials, Device, Kind, Value

MOST = 16  # engines: some MiB each
TURN = 0.02  # seconds that a request may have the loop's SNMP to itself; who is slower waits beside the others
TICK, FORGOTTEN = 5.0, 10.0  # seconds: of pysnmp's own timer, and after which it forgets a request that nobody answers
AGAIN = 120.0  # seconds: making an engine costs 55 ms
HASHES = {
    "none": "USM_AUTH_NONE", "md5": "USM_AUTH_HMAC96_MD5", "sha": "USM_AUTH_HMAC96_SHA", "sha224": "USM_AUTH_HMAC128_SHA224",
    "sha256": "USM_AUTH_HMAC192_SHA256", "sha384": "USM_AUTH_HMAC256_SHA384", "sha512": "USM_AUTH_HMAC384_SHA512",
}  # fmt: skip
CIPHERS = {
    "none": "USM_PRIV_NONE", "des": "USM_PRIV_CBC56_DES", "aes": "USM_PRIV_CFB128_AES", "aes192": "USM_PRIV_CFB192_AES_BLUMENTHAL",
    "aes256": "USM_PRIV_CFB256_AES_BLUMENTHAL",
}  # fmt: skip
REFUSED = {  # pysnmp's words → ours, for what concerns the user
    "UnknownUserName": "it knows no such user",
    "UnsupportedSecurityLevel": "it doesn't take this user with this authentication and privacy (unsupported security level)",
    "UnsupportedSecLevel": "it doesn't take this user with this authentication and privacy (unsupported security level)",
    "WrongDigest": "it says that the digest is wrong: auth_password or auth differs from what it has",
    "AuthenticationFailure": "it says that the digest is wrong: auth_password or auth differs from what it has",
    "NotInTimeWindow": "it says that we are not within its time, even after we took its time",
    "UnknownEngineID": "its engine id is another each time",
    "DecryptionError": "it can't decipher what we say: privacy_password or privacy differs from what it has",
    "EncryptionError": "privacy needs the package cryptography: pip install 'ronda[snmpv3]'",
}


class PysnmpClient(UdpClient):
    """wire.Client by pysnmp: v1, v2c and v3."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._engines: collections.OrderedDict[tuple[Credentials, str, bool], Engine] = collections.OrderedDict()
        self._renewed: dict[tuple[Credentials, str, bool], float] = {}
        self._slow: collections.OrderedDict[tuple[str, int], None] = collections.OrderedDict()
        self._end: asyncio.Task[None] | None = None

    def call(self, device: Device) -> "LibraryCall":
        return LibraryCall(self, device)

    def forget(self, device: Device) -> None:
        """Its engine too, where that asks nobody else."""
        super().forget(device)
        if all(session.credentials != device.credentials for session in self._sessions.values()):
            for key in [key for key in self._engines if key[0] == device.credentials]:
                self._engines.pop(key).close()

    async def close(self) -> None:
        await super().close()
        if self._end:
            self._end.cancel()
        self._leave()

    def _leave(self) -> None:
        while self._engines:
            self._engines.popitem()[1].close()

    async def _until_the_end(self) -> None:
        """Closes the engines' sockets where the loop ends before anybody calls `close`."""
        try:
            await asyncio.Event().wait()
        finally:
            self._leave()

    def engine(self, device: Device) -> "Engine":
        """The engine that asks as this device wants to be asked."""
        key = _key(device)
        self._end = self._end or asyncio.ensure_future(self._until_the_end())
        if key not in self._engines:
            self._engines[key] = Engine(*key)
        self._engines.move_to_end(key)
        if len(self._engines) > MOST:
            self._engines.popitem(last=False)[1].close()
        return self._engines[key]

    def renew(self, device: Device) -> bool:
        """Lets another engine ask from now on, if that wasn't done of late; the old one goes when nobody waits for it any more."""
        key, at = _key(device), self.clock()
        if device.credentials.version != "3" or at - self._renewed.get(key, -AGAIN) < AGAIN or key not in self._engines:
            return False
        self._renewed = {k: v for k, v in self._renewed.items() if at - v < AGAIN} | {key: at}
        asyncio.get_running_loop().call_later(FORGOTTEN, self._engines.pop(key).close)
        return True

    async def in_turn(self, device: Device, answer: "asyncio.Future[Any]") -> Any:
        """Waits for the answer; while nobody else asks, but for TURN at most, and not for who was slow before."""
        where = device.address, device.port
        if where in self._slow:
            return await answer
        async with self._turn:
            done, _ = await asyncio.wait({answer}, timeout=TURN)
        if not done:
            self._slow[where] = None
            if len(self._slow) > 1024:
                self._slow.popitem(last=False)
        return await answer


def _key(device: Device) -> tuple[Credentials, str, bool]:
    return device.credentials, device.source, ":" in device.address


class LibraryCall(_Call):
    """One call on one device. Its own socket only learns whether anybody listens there at all."""

    client: PysnmpClient

    async def ask(self, ask: Callable[[int], Ask], most: int) -> Reply:  # noqa: ARG002  (values are counted by who asks)
        attempt, last = 0, self.device.retries
        while attempt <= last:
            answer = self.client.engine(self.device).send(self.device, ask(attempt))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.device.timeout):
                    reply = await self.client.in_turn(self.device, answer)
                self.attempt = attempt
                return self._read(reply)
            self._knock()
            last += attempt == last and self.client.renew(self.device)
            attempt += 1
        raise await self._silent(self.client.engine(self.device).strange(self.device))

    def _read(self, reply: "Reply | Any") -> Reply:
        if isinstance(reply, Reply):
            return reply
        name = type(reply).__name__ if not isinstance(reply, str) else reply
        if name in REFUSED:
            raise Failure("auth", f'user "{self.device.credentials.user}": {REFUSED[name]}')
        raise _useless([f"{reply}"])

    def _knock(self) -> None:
        """Raises Failure("refused") where the port has refused what was knocked with before: an empty datagram, which nobody answers."""
        assert self._sock
        try:
            self._sock.send(b"")
        except ConnectionRefusedError:
            raise Failure("refused", f"{self.device.address}: nothing listens on UDP port {self.device.port}") from None
        except OSError:  # no way there now: the time-out says so
            return


class Engine:
    """pysnmp's engine for one set of credentials and one address of ours."""

    def __init__(self, credentials: Credentials, source: str, six: bool) -> None:
        from pysnmp.entity import config
        from pysnmp.entity.engine import SnmpEngine
        from pysnmp.entity.rfc3413.cmdgen import CommandGenerator
        from pysnmp.proto.api import v2c

        self._v2c, self._config = v2c, config
        self.asked: dict[tuple[str, int], str] = {}  # where is asked, and what came from there that is no answer
        self._engine, self._generator = SnmpEngine(), CommandGenerator(discoveryRetries=2)
        self._context = credentials.context
        self._targets: dict[tuple[str, int], str] = {}
        self._domain, transport = _transport(six, self.asked)
        local = (source, 0) if source else None
        config.add_transport(self._engine, self._domain, transport.open_client_mode(local))
        self._engine.transport_dispatcher.set_timer_resolution(TICK)
        _introduce(config, self._engine, credentials)

    def send(self, device: Device, ask: Ask) -> "asyncio.Future[Reply | Any]":
        """What it answers: a Reply, or pysnmp's word for why there is none."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            pdu = self._pdu(ask)
            self._generator.send_pdu(self._engine, self._target(device), None, self._context, pdu, self._heard, answer)
        except Exception as e:  # noqa: BLE001  (whatever a library raises about this request is the answer to it)
            answer.set_result(_why(e))
        return answer

    def strange(self, device: Device) -> list[str]:
        """What came from there of late and could not be read; it is told once."""
        where = device.address, device.port
        said, self.asked[where] = self.asked.get(where, ""), ""
        return [said] if said else []

    def close(self) -> None:
        self._engine.close_dispatcher()

    def _pdu(self, ask: Ask) -> Any:
        v2c = self._v2c
        pdu = {GET: v2c.GetRequestPDU, NEXT: v2c.GetNextRequestPDU, BULK: v2c.GetBulkRequestPDU}[ask.tag]()
        api = v2c.apiBulkPDU if ask.tag == BULK else v2c.apiPDU
        api.set_defaults(pdu)
        if ask.tag == BULK:
            api.set_non_repeaters(pdu, 0)
            api.set_max_repetitions(pdu, ask.repetitions)
        api.set_varbinds(pdu, [(oid, v2c.null) for oid in ask.oids])
        return pdu

    def _target(self, device: Device) -> str:
        where = device.address, device.port
        if where not in self._targets:
            self._targets[where] = f"t{len(self._targets)}"
            self.asked[where] = ""
            self._config.add_target_address(
                self._engine, self._targets[where], self._domain, where, "ask", timeout=FORGOTTEN * 100, retryCount=0
            )
        return self._targets[where]

    def _heard(self, engine: Any, handle: Any, why: Any, pdu: Any, answer: "asyncio.Future[Any]") -> None:  # noqa: ARG002  (pysnmp's)
        if answer.done():
            return
        try:
            answer.set_result(why if why or pdu is None else self._reply(pdu))
        except Exception as e:  # noqa: BLE001  (values that pyasn1 takes for none: an answer that can't be used)
            answer.set_result(_why(e))

    def _reply(self, pdu: Any) -> Reply:
        api = self._v2c.apiPDU
        status = int(api.get_error_status(pdu))
        if status:
            return Reply(0, status, int(api.get_error_index(pdu, muteErrors=True)), [])
        return Reply(0, 0, 0, list(_pairs(api.get_varbinds(pdu))))


def _why(error: Exception) -> Any:
    """pysnmp's StatusInformation says it in a word; other errors by their own."""
    with contextlib.suppress(TypeError, LookupError):
        return error["errorIndication"]  # type: ignore[index]
    return str(error) or type(error).__name__


def _transport(six: bool, asked: dict[tuple[str, int], str]) -> tuple[Any, Any]:
    from pysnmp.carrier.asyncio.dgram import udp, udp6

    base = udp6.Udp6AsyncioTransport if six else udp.UdpAsyncioTransport

    class Transport(base):  # type: ignore[misc, valid-type]
        def datagram_received(self, datagram: bytes, transportAddress: Any) -> None:  # noqa: N803  (pysnmp's name)
            where = tuple(transportAddress)[:2]
            if where not in asked:
                return
            try:
                self._callback_function(self, transportAddress, datagram)
            except Exception as e:  # noqa: BLE001  (what a device sends can make pysnmp raise anything: it is told where it was asked)
                asked[where] = f"pysnmp can't read it: {e}"[:200]

    return (udp6 if six else udp).DOMAIN_NAME, Transport()


def _introduce(config: Any, engine: Any, credentials: Credentials) -> None:
    """Who asks, and how safely."""
    if credentials.version != "3":
        config.add_v1_system(engine, "us", credentials.community)
        model = 0 if credentials.version == "1" else 1
        config.add_target_parameters(engine, "ask", "us", "noAuthNoPriv", model)
        return
    auth, privacy = getattr(config, HASHES[credentials.auth]), getattr(config, CIPHERS[credentials.privacy])
    config.add_v3_user(
        engine, credentials.user, auth, credentials.auth_password or None, privacy, credentials.privacy_password or None,
    )  # fmt: skip
    level = "authPriv" if credentials.privacy != "none" else "authNoPriv" if credentials.auth != "none" else "noAuthNoPriv"
    config.add_target_parameters(engine, "ask", credentials.user, level, 3)


_KINDS: dict[int, Kind] = {
    0x02: "integer", 0x04: "string", 0x06: "oid", 0x40: "address", 0x41: "counter32", 0x42: "gauge32", 0x43: "timeticks", 0x44: "opaque",
    0x46: "counter64",
}  # fmt: skip


def _pairs(varbinds: Any) -> Iterator[tuple[tuple[int, ...], Value | None]]:
    for name, value in varbinds:
        tag = value.tagSet.superTags[-1]
        number = tag.tagId | (0 if tag.tagClass == 0 else tag.tagClass)
        if number == 0x82:
            yield name.asTuple(), END
        elif number not in _KINDS:  # noSuchObject, noSuchInstance, null
            yield name.asTuple(), None
        elif number == 0x06:
            yield name.asTuple(), Value("oid", value.asTuple())
        elif number in (0x04, 0x40, 0x44):
            yield name.asTuple(), Value(_KINDS[number], value.asOctets())
        else:
            yield name.asTuple(), Value(_KINDS[number], int(value))


__all__ = ["PysnmpClient"]

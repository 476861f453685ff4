"""A small MQTT broker for trying the hub where there is none: `python -m sensor_hub.embedded_broker`.

amqtt on loopback, anonymous, nothing on disk, no $SYS topics; MQTT 3.1.1, QoS 0-2, retained messages, wills.
Every session ends with its connection: CONNACK never says "session present". Not imported by the hub.

What amqtt 0.12.1 does, and `LocalBroker` and `Connection` do otherwise:
- what a client sent right before it closed (messages, its DISCONNECT) is lost when the socket is reset by
  our own late answer, or when it was still queued; here all that arrived counts;
- a second client of the same id leaves the first one connected; here the first is closed (MQTT-3.1.4-2);
- a new client is sent the retained messages of other clients' subscriptions; here only those of its own;
- a silent client stays for ever; here it ends after one and a half keepalives, with its will (MQTT-3.1.2-24);
- closing waits without end for a client that does not read; here at most `CLOSE_S`;
- a PUBLISH to $... leaves its connection open but deaf, one without CONNECT stays; here both are closed;
- messages for a client that does not read pile up; here it is closed at `MAX_PENDING`.
What stays: a message is delivered at the subscription's QoS even if it was published at a lower one.
A PUBLISH to a wildcard, which no client library sends, is ignored without closing the connection.
"""

# amqtt has no type marker: its classes are Any, and ours are subclasses of Any
# mypy: disable-error-code="misc"

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import logging
import math
import signal
import socket
import ssl
import sys
from collections.abc import Coroutine
from typing import Any
from zoneinfo import ZoneInfo

from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError, ProtocolHandlerError
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

from sensor_hub import logs

PROGRAM = "mqtt-broker"
CONNECT_S = 10.0  # from connection to CONNECT
CLOSE_S = 0.3  # for a connection to take what was written to it
LEAVE_S = 0.5  # for a DISCONNECT that a newcomer of the same id has overtaken
LAST_WILLS_S = 0.1  # for clients to be sent the wills of those that were lost right before the end
SHUTDOWN_S = 1.0
MAX_PENDING = 10_000  # messages on their way to one client
PLUGINS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
_NO_CONNECT = (AMQTTError, MQTTError, NoDataError, CodecError, OSError, ValueError, EOFError)

log = logs.get("sensor_hub.embedded_broker")


class Reader(asyncio.StreamReader):
    """A client's incoming side; what came before a reset is still read."""

    is_ended = False

    def feed_eof(self) -> None:
        """Note that nothing more will come."""
        self.is_ended = True
        super().feed_eof()

    def set_exception(self, _: Exception) -> None:
        """End the stream after its last byte."""
        self.feed_eof()


class ClientReader(StreamReaderAdapter):
    """The same as amqtt takes it."""

    def __init__(self, stream: Reader) -> None:
        super().__init__(stream)
        self.stream = stream


class Writer(StreamWriterAdapter):
    """A client's outgoing side that can be closed whatever the client does."""

    async def drain(self) -> None:
        """Wait until the client takes more; a lost connection is the reading side's to tell."""
        with contextlib.suppress(ConnectionError):
            await super().drain()

    async def close(self) -> None:
        """Give the client `CLOSE_S` to read the rest, then cut."""
        if not self.is_closed:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(CLOSE_S):
                    await super().close()
            self._writer.transport.abort()


class Connection(BrokerProtocolHandler):
    """One client's connection. `ended` holds its DISCONNECT, or None when it ended in any other way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ended: asyncio.Future[DisconnectPacket | None] = asyncio.get_running_loop().create_future()
        self.removed = asyncio.Event()
        self._pending = 0
        self._warned = False

    @property
    def is_lost(self) -> bool:
        """Whether the client is gone, though perhaps nobody has looked yet."""
        return self.ended.done() or (isinstance(self.reader, ClientReader) and self.reader.stream.is_ended)

    def end(self, packet: DisconnectPacket | None = None) -> None:
        """Let the connection end; the first caller's `packet` counts."""
        if not self.ended.done():
            self.ended.set_result(packet)

    async def handle_disconnect(self, disconnect: DisconnectPacket | None) -> None:
        """Take the DISCONNECT, or None for a lost connection."""
        self.end(disconnect)

    async def handle_connect(self, _: ConnectPacket) -> None:
        """End: a second CONNECT is a protocol violation (MQTT-3.1.0-2)."""
        self.end()

    def handle_read_timeout(self) -> None:
        """End: nothing came within the keepalive."""
        self.end()

    async def stop(self) -> None:
        """Stop reading and close, in bounded time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_S):
                await super().stop()

    async def mqtt_publish(self, *args: Any, **kwargs: Any) -> Any:
        """Send one message; a client that does not take or acknowledge it is warned about once."""
        if self._pending >= MAX_PENDING:
            self._warn("client does not read, closed")
            self.end()
        if self.ended.done():
            return None
        self._pending += 1
        try:
            return await super().mqtt_publish(*args, **kwargs)
        except TimeoutError:
            self._warn("client does not acknowledge messages")
        except (ProtocolHandlerError, OSError):
            self.end()
        finally:
            self._pending -= 1

    def _warn(self, text: str) -> None:
        if not self._warned and self.session is not None:
            log.warning(text, client_id=self.session.client_id)
            self._warned = True


class LocalBroker(Broker):
    """amqtt's broker with the life of a connection rewritten; see the module's docstring."""

    def __init__(self, listener: socket.socket) -> None:
        """Take a bound socket; needs a running loop."""
        host, port = listener.getsockname()[:2]
        default = ListenerConfig(type=ListenerType.TCP, bind=f"{host}:{port}")
        super().__init__(BrokerConfig(listeners={"default": default}, plugins=PLUGINS))
        self._listener = listener

    async def _create_server_instance(
        self, listener_name: str, *_: ListenerType | ssl.SSLContext | str | int | None
    ) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        connected = functools.partial(self.stream_connected, listener_name=listener_name)
        return await loop.create_server(
            lambda: asyncio.StreamReaderProtocol(Reader(loop=loop), connected),
            sock=self._listener,
            backlog=128,
        )

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one TCP connection."""
        assert isinstance(reader, Reader)
        await self._client_connected(listener_name, ClientReader(reader), Writer(writer))

    async def shutdown(self) -> None:
        """Close all connections, without their wills: it is the broker that goes. Who was lost before it has one."""
        lost = [
            asyncio.create_task(each.removed.wait()) for _, each in self._sessions.values() if each.is_lost
        ]
        if lost:
            await asyncio.wait(lost, timeout=CLOSE_S)
        await asyncio.sleep(LAST_WILLS_S)
        for session, _ in self._sessions.values():
            session.will_flag = False
        await super().shutdown()

    async def _client_connected(self, _: str, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                connection, session = await Connection.init_from_connect(reader, writer, self.plugins_manager)
        except _NO_CONNECT as error:  # a port probe, a browser, another protocol version
            log.debug("not an MQTT 3.1.1 client", reason=str(error))
            await writer.close()
            return
        try:
            await self._serve(connection, session, reader, writer)
        finally:
            await writer.close()

    async def _serve(
        self, connection: Connection, session: Session, reader: ReaderAdapter, writer: WriterAdapter
    ) -> None:
        session.clean_session, session.parent = True, 0
        session.keep_alive = math.ceil(1.5 * session.keep_alive)
        while session.client_id in self._sessions:
            _, previous = self._sessions[session.client_id]
            # its DISCONNECT may be on the way: a client that was closed cleanly and came right back
            await asyncio.wait([previous.ended], timeout=LEAVE_S)
            if not previous.ended.done():
                log.warning("client id in use, the earlier connection is closed", client_id=session.client_id)
                previous.end()
            await previous.removed.wait()
        self._sessions[session.client_id] = (session, connection)
        try:
            authenticated = await self._authenticate(session, self.listeners_config["default"])
            session.transitions.connect()
            connection.attach(session, reader, writer)
            await connection.mqtt_connack_authorize(authenticated)
            if authenticated:
                await connection.start()
                await self._client_message_loop(session, connection)
        finally:
            if self._sessions.get(session.client_id) == (session, connection):
                del self._sessions[session.client_id]
            await self._del_all_subscriptions(session)
            connection.removed.set()

    async def _client_message_loop(self, session: Session, connection: Connection) -> None:
        tasks = [
            asyncio.create_task(self._deliver(session, connection)),
            asyncio.create_task(self._answer_subscriptions(session, connection)),
            asyncio.create_task(self._answer_unsubscriptions(session, connection)),
        ]
        try:
            await asyncio.wait([connection.ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        while not session.delivered_message_queue.empty():
            message = session.delivered_message_queue.get_nowait()
            await self._handle_message_delivery(session, connection, _done(message))
        await self._handle_disconnect(session, connection, connection.ended)

    async def _deliver(self, session: Session, connection: Connection) -> None:
        """Take the client's messages; returns when one is invalid."""
        while await self._handle_message_delivery(
            session, connection, _done(await session.delivered_message_queue.get())
        ):
            pass

    async def _answer_subscriptions(self, session: Session, connection: Connection) -> None:
        async with asyncio.TaskGroup() as group:  # one slow to take its retained messages delays no other
            while True:
                request = _done(await connection.get_next_pending_subscription())
                group.create_task(self._handle_subscription(session, connection, request))

    async def _answer_unsubscriptions(self, session: Session, connection: Connection) -> None:
        while True:
            request = _done(await connection.get_next_pending_unsubscription())
            await self._handle_unsubscription(session, connection, request)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        topic_filter, qos = subscription
        connection = self._get_handler(session)
        matching = [
            kept for topic, kept in self._retained_messages.items() if self._matches(topic, topic_filter)
        ]
        sending: list[Coroutine[Any, Any, Any]] = [
            connection.mqtt_publish(kept.topic, kept.data, min(qos, kept.qos or 0), retain=True)
            for kept in matching
            if connection is not None
        ]
        await asyncio.gather(*sending)


def _done(result: Any) -> asyncio.Future[Any]:
    """Wrap what is there already as the future that amqtt's methods take."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future


async def serve(listener: socket.socket) -> None:
    """Serve on the bound socket until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    broker = LocalBroker(listener)
    await broker.start()
    host, port = listener.getsockname()[:2]
    log.info("listening", host=host, port=port)
    await stopped.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SHUTDOWN_S):
            await broker.shutdown()


def main() -> int:
    """Exit code: 0 after SIGTERM or SIGINT, 1 when the port cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m sensor_hub.embedded_broker")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument(
        "--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    )
    parser.add_argument("--log-format", default="text", choices=("text", "json"))
    parser.add_argument("--timezone", type=ZoneInfo, default="UTC")
    options = parser.parse_args()
    logs.set_up_plain(PROGRAM, options.log_level, options.log_format, options.timezone)
    for library in ("amqtt", "transitions", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("amqtt.mqtt.protocol.handler").setLevel(logging.ERROR)  # one line per late PUBACK
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listener = socket.create_server((options.host, options.port), family=family)
    except (OSError, OverflowError) as error:
        log.error("cannot listen", host=options.host, port=options.port, reason=str(error))
        return 1
    asyncio.run(serve(listener))
    return 0


if __name__ == "__main__":
    sys.exit(main())

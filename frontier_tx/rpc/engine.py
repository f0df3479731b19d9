"""The HTTP/2 engine (h2), told to end a stream for what is wrong on it, where it would end the connection."""

from __future__ import annotations

from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, StreamReset
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PriorityFrame

from frontier_tx.rpc.header_block import HeaderDecoder


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """Bounds of one connection; times in seconds, sizes in bytes.

    A whole unary request must arrive within ``request``, the body of a plain one within ``body``. ``idle`` ends a
    connection without streams. One with streams is pinged after ``ping_every`` of silence and ended when
    ``ping_timeout`` passes without a byte. ``stall`` ends a stream, or a connection, that takes nothing of what waits
    for it. ``flood_burst`` and ``flood_rate`` (per second) bound frames that cost work and move nothing, of a
    connection, and of all connections of one address together.
    """

    max_streams: int = 100
    max_header_bytes: int = 16 * 1024
    stream_window: int = 256 * 1024
    connection_window: int = 1024 * 1024
    handshake: float = 10.0
    request: float = 15.0
    body: float = 60.0
    idle: float = 300.0
    ping_every: float = 60.0
    ping_timeout: float = 20.0
    stall: float = 30.0
    flood_burst: int = 2000
    flood_rate: int = 500


class PatientSettings(Settings):
    """Settings that announce a number of streams; one stream too many is refused by the user of the engine."""

    @property
    def max_concurrent_streams(self) -> int:
        return 2**31

    @max_concurrent_streams.setter
    def max_concurrent_streams(self, value: int) -> None:
        raise AttributeError("the number of streams is set when the connection begins")


class Engine(H2Connection):
    """An h2 connection on which malformed headers, bodies that are not as long as they said, and windows of one stream
    that run over, end that stream with a reset; it is then told as ``StreamReset`` with ``remote_reset`` false."""

    def __init__(self, limits: Http2Limits, *, client_side: bool) -> None:
        # Headers that go out are made here, in lower case and valid; checking each again costs a tenth of a call.
        config = H2Configuration(
            client_side=client_side,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        super().__init__(config=config)
        decoder = HeaderDecoder()
        decoder.max_header_list_size = limits.max_header_bytes
        self.decoder = decoder
        self.local_settings = PatientSettings(
            client=client_side,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window,
                SettingCodes.ENABLE_PUSH: 0,
            },
        )

    def _receive_frame(self, frame: Frame) -> list[Event]:
        known = self.highest_inbound_stream_id
        try:
            return super()._receive_frame(frame)
        except StreamClosedError:
            raise
        except ProtocolError as error:
            stream = self.streams.get(frame.stream_id)
            scoped = isinstance(frame, DataFrame | PriorityFrame) or (
                isinstance(frame, HeadersFrame) and (frame.stream_id > known or self.config.client_side or stream)
            )
            if stream is None or not scoped or self.inbound_flow_control_window < 0:
                raise
            code = error.error_code or ErrorCodes.PROTOCOL_ERROR
            events: list[Event] = []
            if isinstance(frame, DataFrame):
                # What it took of the connection's window is to be given back all the same.
                size = frame.flow_controlled_length
                events.append(DataReceived(stream_id=frame.stream_id, data=b"", flow_controlled_length=size))
            self._prepare_for_sending(stream.reset_stream(code))
            events.append(StreamReset(stream_id=frame.stream_id, error_code=code, remote_reset=False))
            return events

"""Wired M-Bus, EN 13757-2 and -3: link frames, telegrams, records; the application layer also serves wireless."""

from gateway.protocols.mbus.header import Header, manufacturer_code, manufacturer_name, medium_name, status_words
from gateway.protocols.mbus.house import house_values, to_house
from gateway.protocols.mbus.link import Ack, LinkFrame, LongFrame, ShortFrame, decode_frame, encode_frame, splitter
from gateway.protocols.mbus.master import (
    application_reset,
    req_ud1,
    req_ud2,
    select,
    set_baud_rate,
    snd_nke,
    snd_ud,
)
from gateway.protocols.mbus.records import Record, Records, decode_records, encode_records, record
from gateway.protocols.mbus.telegram import (
    Answer,
    ApplicationError,
    Collector,
    FixedTelegram,
    Telegram,
    decode,
    decode_answer,
    encode,
    response,
)

__all__ = [
    "Ack",
    "Answer",
    "ApplicationError",
    "Collector",
    "FixedTelegram",
    "Header",
    "LinkFrame",
    "LongFrame",
    "Record",
    "Records",
    "ShortFrame",
    "Telegram",
    "application_reset",
    "decode",
    "decode_answer",
    "decode_frame",
    "decode_records",
    "encode",
    "encode_frame",
    "encode_records",
    "house_values",
    "manufacturer_code",
    "manufacturer_name",
    "medium_name",
    "record",
    "req_ud1",
    "req_ud2",
    "response",
    "select",
    "set_baud_rate",
    "snd_nke",
    "snd_ud",
    "splitter",
    "status_words",
    "to_house",
]

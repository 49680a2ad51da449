"""DL/T 645-2007 and -1997: electricity meters on RS-485 pairs.

    bytes --decode--> Frame --parse(edition)--> Message with a typed body
    bytes <--encode-- Frame <--build----------- Message

Source: the text of the standard was not at hand; layouts are those on which independent programs and captures agree.
"""

from gateway.protocols.dlt645.frame import EVERYBODY, PREAMBLE, WILDCARD, Frame, decode, encode, splitter
from gateway.protocols.dlt645.identifiers import (
    QUANTITIES,
    RELAY_BIT,
    RELAY_WORD,
    Edition,
    Form,
    form_of,
)
from gateway.protocols.dlt645.items import Item, stamp_bytes, stamp_text
from gateway.protocols.dlt645.message import (
    CODES,
    COMMANDS,
    Address,
    Body,
    BroadcastTime,
    Message,
    Plain,
    Refusal,
    Switch,
    Values,
    Write,
    build,
    follow_request,
    join,
    parse,
    read_address_request,
    read_request,
    set_time_request,
    write_request,
)

__all__ = [
    "CODES",
    "COMMANDS",
    "EVERYBODY",
    "PREAMBLE",
    "QUANTITIES",
    "RELAY_BIT",
    "RELAY_WORD",
    "WILDCARD",
    "Address",
    "Body",
    "BroadcastTime",
    "Edition",
    "Form",
    "Frame",
    "Item",
    "Message",
    "Plain",
    "Refusal",
    "Switch",
    "Values",
    "Write",
    "build",
    "decode",
    "encode",
    "follow_request",
    "form_of",
    "join",
    "parse",
    "read_address_request",
    "read_request",
    "set_time_request",
    "splitter",
    "stamp_bytes",
    "stamp_text",
    "write_request",
]

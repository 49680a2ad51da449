"""CJ/T 188-2004 and -2018: water, gas and heat meters on RS-485 pairs, M-Bus pairs and serial-over-TCP.

    bytes --frame.decode--> Frame --message.parse--> Message with a typed body
    bytes <--frame.encode-- Frame <--message.build-- Message

Source: the text of the standard was not at hand; layouts are those on which independent programs and captures agree.
"""

from gateway.protocols.cjt188.body import (
    STANDARD_LAYOUT,
    Body,
    Freeze,
    Heat,
    Initial,
    Layout,
    NewAddress,
    Plain,
    Refusal,
    SetTime,
    Settlement,
    Valve,
    ValveAnswer,
    Volumes,
)
from gateway.protocols.cjt188.frame import PREAMBLE, WILDCARD, Frame, decode, encode, splitter
from gateway.protocols.cjt188.message import (
    Message,
    build,
    di_of,
    parse,
    read_address_request,
    read_request,
    set_time_request,
    valve_request,
    write_address_request,
    write_initial_request,
)
from gateway.protocols.cjt188.status import MIRRORED_STATUS, STANDARD_STATUS, StatusMap
from gateway.protocols.cjt188.units import UNITS, Amount, Clock, Unit

__all__ = [
    "MIRRORED_STATUS",
    "PREAMBLE",
    "STANDARD_LAYOUT",
    "STANDARD_STATUS",
    "UNITS",
    "WILDCARD",
    "Amount",
    "Body",
    "Clock",
    "Frame",
    "Freeze",
    "Heat",
    "Initial",
    "Layout",
    "Message",
    "NewAddress",
    "Plain",
    "Refusal",
    "SetTime",
    "Settlement",
    "StatusMap",
    "Unit",
    "Valve",
    "ValveAnswer",
    "Volumes",
    "build",
    "decode",
    "di_of",
    "encode",
    "parse",
    "read_address_request",
    "read_request",
    "set_time_request",
    "splitter",
    "valve_request",
    "write_address_request",
    "write_initial_request",
]

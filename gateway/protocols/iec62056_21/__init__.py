"""IEC 62056-21 (IEC 1107): read-out in modes C and D, programming mode, LIS-200 reads of gas correctors."""

from gateway.protocols.iec62056_21.data import DataSet, data_sets
from gateway.protocols.iec62056_21.message import (
    BAUD,
    MAX_MESSAGE,
    Answer,
    Command,
    Data,
    Identification,
    Message,
    Option,
    Readout,
    SignOn,
    decode,
    encode,
    seal,
    seven_bits,
)
from gateway.protocols.iec62056_21.stream import choose, lis200_archive, lis200_read, splitter

__all__ = [
    "BAUD",
    "MAX_MESSAGE",
    "Answer",
    "Command",
    "Data",
    "DataSet",
    "Identification",
    "Message",
    "Option",
    "Readout",
    "SignOn",
    "choose",
    "data_sets",
    "decode",
    "encode",
    "lis200_archive",
    "lis200_read",
    "seal",
    "seven_bits",
    "splitter",
]

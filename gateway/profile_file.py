"""What stands in a profile file: the keys, their types and limits (the file's own spelling, nothing computed)."""

from __future__ import annotations

import warnings
from typing import Annotated, Final, Literal

from pydantic import Field

from gateway.protocols.registers import MAX_BCD_BYTES, Encoding, Order
from metering.quantities import Quantity
from metering.settings import SettingsModel

MAX_REGISTERS: Final = 125
"""Modbus Application Protocol V1.1b3, 6.3: registers in one read."""

Medium = Literal["gas", "water", "electricity", "heat"]
Absent = Literal["all_ff", "max_signed", "min_signed", "nan"]
ProtocolName = Literal["modbus", "cjt188", "dlt645-2007", "dlt645-1997", "mbus", "iec62056-21"]
WITH_SET_TIME: Final = ("cjt188", "dlt645-2007", "dlt645-1997")
"""Protocols whose standard has a command that sets the clock."""
FlagName = Literal["VALVE_CLOSED", "MAGNET", "COVER", "LOW_BATTERY", "CLOCK", "ALARM"]
Register = Annotated[int, Field(ge=0, le=65535)]


class FlagFile(SettingsModel):
    """A state that is told by bits of a number: it holds when (number & mask) == equals."""

    flag: FlagName = Field(description="The state.")
    mask: int = Field(ge=1, le=2**32 - 1, description="Which bits are looked at.")
    equals: int | None = Field(None, ge=0, le=2**32 - 1, description="What they are then; all ones when left out.")


class WordFile(SettingsModel):
    """One word of a state: what the masked number is then, and the value it stands for."""

    equals: int = Field(ge=0, le=2**32 - 1, description="The masked number.")
    value: str = Field(
        description='The value it stands for [house unit], a decimal text; valve: "0" open, "1" closed.'
    )


with warnings.catch_warnings():
    # the key people write is `register`, which pydantic knows as an unrelated method of its metaclass (ABCMeta);
    # inherited, its default would become that method, so both classes declare it themselves
    warnings.simplefilter("ignore", UserWarning)

    class PartFile(SettingsModel):
        """One number of a total that the meter keeps in pieces; the field is the sum of its parts."""

        register: Register = Field(description="First register, as addressed on the wire (0 … 65535).")
        encoding: Encoding = Field(description="How the number is written.")
        order: Order = Field("ABCD", description="Order of the bytes; ABCD is high byte first.")
        size: int = Field(0, ge=0, le=MAX_BCD_BYTES, description="Length [bytes, even], for bcd only.")
        scale: str = Field("1", description="What one step of the raw number is worth [unit], a decimal text.")

    class FieldFile(SettingsModel):
        """One thing that the meter tells: a quantity (in one number or the sum of parts) or flags."""

        name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", description="The meter maker's idea of it, one word.")
        quantity: Quantity | None = Field(None, description="What it is; left out for flags.")
        register: Register | None = Field(None, description="First register, as addressed on the wire (0 … 65535).")
        unit: str = Field("", description="The unit in which the meter counts; left out for flags.")
        function: Literal[3, 4] | None = Field(
            None, description="Modbus function, when it differs from the profile's."
        )
        encoding: Encoding | None = Field(None, description="How the number is written.")
        order: Order = Field("ABCD", description="Order of the bytes; ABCD is high byte first.")
        size: int = Field(0, ge=0, le=MAX_BCD_BYTES, description="Length [bytes, even], for bcd only.")
        scale: str = Field("1", description="What one step of the raw number is worth [unit], a decimal text.")
        offset: str = Field("0", description="Added after scaling [house unit], a decimal text.")
        not_available: list[Absent] = Field([], description="Raw forms that mean: the meter has no value.")
        part: list[PartFile] = Field([], description="The pieces of a split total, the coarsest first.")
        flag: list[FlagFile] = Field([], description="States told by this number's bits.")
        item: str = Field(
            "",
            max_length=40,
            description="Not Modbus: the data item. DI in hex; M-Bus: DIF and VIF in hex; IEC 62056-21: the address.",
        )
        value: str = Field(
            "",
            max_length=20,
            description="Not Modbus: which value of the item (current, settlement, …; place in a block).",
        )
        decimals: int | None = Field(
            None, ge=0, le=6, description="Not Modbus: decimals, when not those of the standard."
        )
        signed: bool = Field(False, description="DL/T 645: the top bit is a sign.")
        mask: int = Field(0, ge=0, le=2**32 - 1, description="State: which bits of the number are looked at.")
        word: list[WordFile] = Field([], description="State: its words (valve).")


class CaveatFile(SettingsModel):
    """Something one must know about this model."""

    text: str = Field(min_length=1, description="One sentence.")


class GoldenFile(SettingsModel):
    """A frame with known content: request and response as they are on the wire, in hex (Modbus: in RTU form)."""

    request: str = Field(description="The master's frame.")
    response: str = Field(description="The meter's answer.")
    expect: dict[str, str] = Field(min_length=1, description="Field name to house-unit decimal, or flag names.")
    source: str = Field(min_length=1, description="Where the frame comes from.")


class ProfileFile(SettingsModel):
    """One meter model, as its file says it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$", description="Name of file, setting and log field.")
    name: str = Field(min_length=1, description="What people call the model.")
    medium: Medium = Field(description="What is metered.")
    protocol: ProtocolName = Field(description="How it talks; modbus is TCP and RTU, the bus decides.")
    source: str = Field(min_length=1, description="The public document the map comes from.")
    index: str = Field(description="Name of the field that is billed.")
    index_digits: int | None = Field(None, ge=1, le=12, description="Digits before the point until it rolls over.")
    meter_type: int | None = Field(None, ge=0, le=255, description="CJ/T 188: T, 16 cold water, 48 gas, 32 heat.")
    di_order: Literal["big", "little"] = Field("big", description="CJ/T 188: order of the DI's two bytes.")
    unit_byte: Literal["after", "before"] = Field("after", description="CJ/T 188: where a number's unit byte stands.")
    readout: Literal["all", "single"] = Field("all", description="IEC 62056-21: data read-out, or LIS-200 reads.")
    set_time: Literal["no", "standard"] = Field(
        "no", description="Whether it takes its standard's set-time: CJ/T 188 A015, DL/T 645 broadcast."
    )
    function: Literal[3, 4] = Field(3, description="Modbus function: 3 holding registers, 4 input registers.")
    max_registers: int = Field(125, ge=1, le=MAX_REGISTERS, description="Most registers in one request.")
    max_gap: int = Field(8, ge=0, le=MAX_REGISTERS, description="Unused registers a request may read over.")
    field: list[FieldFile] = Field(min_length=1, max_length=200, description="What the meter tells.")
    caveat: list[CaveatFile] = Field([], description="What one must know.")
    golden: list[GoldenFile] = Field(min_length=1, description="Frames with known content.")

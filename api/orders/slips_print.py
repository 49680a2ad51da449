"""Slips as a page for print (HTML) and as PDF: the same rows on both.

The PDF names the font STSong-Light, which every PDF reader replaces by a Chinese font of its own (Adobe's standard
CID fonts); so no font travels with the file or with this program.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import KeepTogether, PageBreak, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from api.orders.slips import RESULTS, Sheet, Slip

LINES: Final = (
    "到达 Arrived",
    "开始 Started",
    "完成 Finished",
    "离开 Left",
    "表底数 Index seen",
    "材料 Materials",
    "金额 Amount",
    "签字 Signature",
    "实际情况、原因 What was found, reason",
)
_FONT: Final = "STSong-Light"
_PAGES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def rows(slip: Slip) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of what a slip shows; what is not known is left out."""
    promise = f"{slip.due}{'  (!) 今日到期或已过期 due today or overdue' if slip.late else ''}"
    shown = (
        ("地点 Place", slip.place),
        ("地址 Address", slip.address),
        ("户号 Account", slip.account),
        ("表具 Meter", " · ".join(part for part in (slip.meter, slip.serial and f"SN {slip.serial}") if part)),
        ("型号 Model", slip.meter_facts),
        ("最近表底数 Last index", slip.last_index),
        ("原因 Reason", "\n".join(dict.fromkeys(part for part in (slip.reason_zh, slip.reason_en) if part))),
        ("受理 Opened", slip.opened),
        ("期限 Due", promise),
        ("预约 Appointment", slip.appointment),
        ("以往 Before", f"{slip.earlier} orders here 历史派工, {slip.visits} visits 已上门"),
    )
    yield from ((name, value) for name, value in shown if value)


def to_html(sheets: Sequence[Sheet], day: date) -> str:
    """Return one page with everything; a printer begins each sheet on new paper."""
    page = _PAGES.get_template("slips.html")
    return page.render(sheets=sheets, day=day.isoformat(), rows=rows, lines=LINES, results=RESULTS)


def to_pdf(sheets: Sequence[Sheet], day: date) -> bytes:
    """Return a PDF, A4; the same slips give the same bytes."""
    if _FONT not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(UnicodeCIDFont(_FONT))
    made = io.BytesIO()
    document = SimpleDocTemplate(
        made,
        pagesize=A4,
        leftMargin=12 * mm,
        rightMargin=12 * mm,
        topMargin=12 * mm,
        bottomMargin=12 * mm,
        title=f"Dispatch slips {day.isoformat()}",
        invariant=1,
    )
    document.build(list(_story(sheets, day)))
    return made.getvalue()


def _story(sheets: Sequence[Sheet], day: date) -> Iterator[Any]:
    head = ParagraphStyle("head", fontName=_FONT, fontSize=13, leading=17, wordWrap="CJK", spaceAfter=3 * mm)
    if not sheets:
        yield Paragraph(f"没有派工单 No slips · {day.isoformat()}", head)
    for place, sheet in enumerate(sheets):
        if place:
            yield PageBreak()
        name = f" ({sheet.worker_name})" if sheet.worker_name else ""
        title = f"派工单 Dispatch slips · {sheet.day} · {sheet.district or '-'} · {sheet.worker}{name}"
        yield Paragraph(f"{escape(title)} · {len(sheet.slips)}", head)
        for slip in sheet.slips:
            yield KeepTogether([_table(slip), Spacer(1, 5 * mm)])


def _table(slip: Slip) -> Table:
    text = ParagraphStyle("text", fontName=_FONT, fontSize=9.5, leading=13, wordWrap="CJK")
    bold = ParagraphStyle("bold", parent=text, fontSize=11, leading=15)

    def cell(words: str, style: ParagraphStyle = text) -> Paragraph:
        return Paragraph("<br/>".join(escape(line) for line in words.splitlines()), style)

    content = [[cell(f"No. {slip.number} · {slip.type} · {slip.priority}", bold), ""]]
    content += [[cell(name), cell(value)] for name, value in rows(slip)]
    blank = "_" * 16
    content.append([cell("   ".join(f"{name} {blank}" for name in LINES)), ""])
    content.append([cell("   ".join(f"[  ] {result}" for result in RESULTS)), ""])
    last = len(content) - 1
    style: list[Any] = [
        ("BOX", (0, 0), (-1, -1), 2 if slip.urgent else 0.8, "black"),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ]
    style += [("SPAN", (0, row), (1, row)) for row in (0, last - 1, last)]
    style += [("LINEABOVE", (0, last - 1), (-1, last - 1), 0.4, "black")]
    style += [("TOPPADDING", (0, 0), (-1, -1), 1), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5)]
    return Table(content, colWidths=[38 * mm, 146 * mm], style=TableStyle(style))

"""A second, plainer model of an alarm's life, for the tests that compare."""

from __future__ import annotations


class Plain:
    """The same life once more, written from the manual and not from the code: lists of words, no flags shared."""

    def __init__(self) -> None:
        self.condition = "absent"
        self.confirmed = "nothing to confirm"
        self.covers: dict[str, int | None] = {}
        self.gone = False

    def word(self) -> str:
        if self.gone:
            return "NORM"
        for cover, word in (("out", "OOSRV"), ("parent", "DSUPR"), ("shelf", "SHLVD")):
            if cover in self.covers:
                return word
        if self.condition == "present":
            return "ACKED" if self.confirmed == "yes" else "UNACK"
        return "RTNUN" if self.confirmed == "no" else "NORM"

    def may(self, event: str) -> bool:
        word = self.word()
        if self.gone:
            return event == "raise"
        if event in ("raise", "clear"):
            return (self.condition == "absent") == (event == "raise")
        return {
            "acknowledge": word in ("UNACK", "RTNUN"),
            "shelve": word in ("NORM", "UNACK", "ACKED", "RTNUN", "SHLVD"),
            "unshelve": word == "SHLVD",
            "expire": "shelf" in self.covers or "out" in self.covers,
            "suppress": "parent" not in self.covers,
            "release": "parent" in self.covers,
            "out_of_service": True,
            "return": word == "OOSRV",
            "withdraw": True,
        }[event]

    def do(self, event: str, at: int, until: int) -> None:
        if event == "raise":
            self.condition, self.gone, self.confirmed = "present", False, "unseen"
        elif event == "clear":
            self.condition = "absent"
        elif event == "acknowledge":
            self.confirmed = "yes"
        elif event in ("shelve", "out_of_service"):
            self.covers["shelf" if event == "shelve" else "out"] = until
        elif event == "suppress":
            self.covers["parent"] = None
        elif event in ("unshelve", "release", "return"):
            self.covers.pop({"unshelve": "shelf", "release": "parent", "return": "out"}[event])
        elif event == "expire":
            self.covers = {cover: end for cover, end in self.covers.items() if end is None or end > at}
        elif event == "withdraw":
            self.condition, self.confirmed, self.covers, self.gone = "absent", "nothing to confirm", {}, True
        if self.word() == "UNACK":
            self.confirmed = "no"

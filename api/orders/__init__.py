"""Work orders 派工单: which finding opens which, by when, who goes, and what came back."""

"""The networks in torch. Only `trainer` and `calibration` import from here."""

"""Meters that answer on the wire. Run as processes of their own; the services never import them.

`modbus_farm` is a process of Modbus TCP meters (`farm_settings` says which, `farm_control` makes them sick),
`answer_log` what they said, `consumption` what flows through them, `fleet` a whole city as labelled files.
"""

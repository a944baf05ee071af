"""Set Up Engine: an environment for the engine, made, repaired, updated and removed from the preferences.

`pythons` and `plan` and `environment` need no Blender; `operators` are the buttons. The build for the public listing, whose
rules forbid fetching programs, leaves this folder out.
"""

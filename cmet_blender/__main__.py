"""`python -m cmet_blender …`: the add-on without a window, with the `bpy` package; see `commands`."""

import sys

from cmet_blender.commands import main

if __name__ == "__main__":
    try:
        import bpy  # noqa: F401
    except ImportError:
        print("cmet: Blender as a module is missing; install it with: python -m pip install bpy", file=sys.stderr)
        sys.exit(1)
    sys.exit(main())

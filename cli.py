"""The command ``thermo`` from a checkout: ``python cli.py --help``."""

from thermokernels_app.main import main

if __name__ == "__main__":
    main()

"""``python -m thermokernels``: the command ``thermo``, wherever its script is not on the path."""

from thermokernels_app.main import main

if __name__ == "__main__":
    main()

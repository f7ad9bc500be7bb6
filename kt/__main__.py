"""python -m kt"""

from kt.cli.start import main

main()

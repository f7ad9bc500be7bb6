"""python -m kt"""

from kt.cli.app import main

main()

"""The generated pages of docs/, from the models, the tables and the programs: python -m prostafed.simulations.reference
DIR.
"""

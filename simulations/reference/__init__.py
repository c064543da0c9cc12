"""The generated pages of docs/, from the models, the tables and the programs; `make docs` writes them."""
